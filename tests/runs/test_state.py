"""Where a training may begin, whether it may go on, and what it is held against; nothing is trained here."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from fewscan.config import Config, load_config
from fewscan.data import pool
from fewscan.data.index import DatasetIndex, read_dataset
from fewscan.data.split import Split, make_split
from fewscan.errors import ConfigError, DataError
from fewscan.io.files import read_json, write_json
from fewscan.run_folder import RunFolder
from fewscan.runs.state import check_facts, check_free, check_new, find_state, list_files, locked, write_facts
from support.scans import PLAN, make_held_out

CPU = torch.device("cpu")
Facts = tuple[Config, Split, DatasetIndex]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    index = read_dataset(make_held_out(tmp_path / "set"))
    return load_config("quick", ["plan.size=32", "precision=float32"]), make_split(index), index


def begin(run: RunFolder, facts: Facts) -> None:
    """A run that was started and has no checkpoint yet."""
    config, split, index = facts
    run.path.mkdir()
    plan = PLAN.model_copy(update={"channel_names": index.channel_names, "class_names": index.classes.names})
    write_facts(run, config.resolved(plan, CPU), plan, split, index)


def test_what_holds_something_is_no_new_folder(tmp_path: Path) -> None:
    check_new(tmp_path / "nowhere")
    check_new(tmp_path)
    (tmp_path / "letter.txt").touch()
    for path in (tmp_path, tmp_path / "letter.txt"):
        with pytest.raises(DataError, match="exists and is not empty"):
            check_new(path)


def test_a_folder_is_free_for_a_run_that_is_there_and_for_one_that_was_only_locked(run: RunFolder) -> None:
    check_free(run)
    run.path.mkdir()
    for name in (run.lock.name, f".{run.lock.name}.abc.lock"):
        (run.path / name).touch()
    check_free(run)
    (run.path / "letter.txt").touch()
    with pytest.raises(DataError, match="exists and is not empty"):
        check_free(run)
    run.config.touch()
    check_free(run)


def test_a_locked_folder_is_made_kept_from_others_and_removed_where_it_stays_empty(run: RunFolder) -> None:
    with locked(run):
        assert run.lock.is_file()
        with pytest.raises(DataError, match=r"another training is at work there \(process"), locked(run):
            pass
    assert not run.path.exists()
    with locked(run):
        run.config.touch()
    assert [path.name for path in run.path.iterdir()] == [run.config.name]


def test_a_folder_that_cannot_be_made_is_refused(run: RunFolder) -> None:
    run.path.touch()
    with pytest.raises(DataError, match="cannot be made"), locked(RunFolder(run.path / "below")):
        pass


def test_a_run_that_is_there_needs_resume(run: RunFolder, facts: Facts) -> None:
    assert find_state(run, resume=False) == find_state(run, resume=True) == "new"
    begin(run, facts)
    assert find_state(run, resume=True) == "unfinished"
    with pytest.raises(DataError, match=r"the run there is unfinished, at update 0\. Go on with --resume"):
        find_state(run, resume=False)
    for path in (run.weights, run.card):
        path.touch()
    assert find_state(run, resume=True) == "finished"
    with pytest.raises(DataError, match=r"the run there is finished\. Choose another folder"):
        find_state(run, resume=False)


def test_a_run_goes_on_with_the_plan_that_it_was_started_with(run: RunFolder, facts: Facts) -> None:
    begin(run, facts)
    config, plan = check_facts(run, *facts, CPU)
    assert plan.size == PLAN.size
    assert config.is_resolved
    assert config.to_yaml() == run.config.read_text()
    assert set(read_json(run.files)) == set(list_files(facts[2], facts[1]))


def test_other_settings_and_another_split_are_named_together(run: RunFolder, facts: Facts) -> None:
    begin(run, facts)
    _, _, index = facts
    other = load_config("quick", ["plan.size=64", "precision=float32"])
    with pytest.raises(ConfigError, match=r"plan\.size=32, now plan\.size=64\n  3 cases as train labelled, now 1"):
        check_facts(run, other, make_split(index, 1), index, CPU)


def test_a_run_of_an_older_version_is_refused_with_what_its_settings_have_become(run: RunFolder, facts: Facts) -> None:
    begin(run, facts)
    settings = yaml.safe_load(run.config.read_text())
    del settings["training"]
    settings["stages"] = {"anatomical": {"updates": 4000, "labelled": 4}, "global": {"updates": 0}}
    run.config.write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match="an older version of fewscan") as error:
        check_facts(run, *facts, CPU)
    _, *lines, remedy = str(error.value).splitlines()
    assert lines == [
        "  stages.anatomical.labelled=4: is now training.labelled",
        "  stages.anatomical.updates=4000: is now training.updates, which counts the updates of pre-training too",
        "  stages.global.updates=0: is now methods.action.pretraining.global.updates, or that of methods.action_pp",
    ]
    assert remedy == "Go on with that version, or train anew in another folder."


def test_a_run_from_before_its_pool_could_be_limited_goes_on(run: RunFolder, facts: Facts) -> None:
    begin(run, facts)
    settings = yaml.safe_load(run.config.read_text())
    del settings["training"]["pool"]
    run.config.write_text(yaml.safe_dump(settings))
    resolved, _ = check_facts(run, *facts, CPU)
    assert resolved.training.pool == "drawn"


def test_a_run_whose_pool_was_limited_goes_on_with_those_scans_and_no_others(
    run: RunFolder, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, split, index = facts
    monkeypatch.setattr(pool, "FEWEST_SCANS", 1)
    hidden = replace(split, train=tuple(replace(case, label=None) if n else case for n, case in enumerate(split.train)))
    limited, others = (pool.capped(hidden, updates=1, batch=1, seed=seed) for seed in (0, 1))
    assert limited.left_out
    begin(run, (config, limited, index))
    check_facts(run, config, pool.capped(hidden, updates=1, batch=1, seed=0), index, CPU)
    assert {case.name for case in limited.train} != {case.name for case in others.train}
    with pytest.raises(ConfigError, match="other"):
        check_facts(run, config, others, index, CPU)


def test_what_the_plan_decides_is_compared_too(run: RunFolder, facts: Facts) -> None:
    begin(run, facts)
    assert yaml.safe_load(run.config.read_text())["augmentation"]["spatial"]["turn"] == 0
    config, split, index = facts
    turned = load_config("quick", ["plan.size=32", "precision=float32", "augmentation.spatial.turn=0.5"])
    with pytest.raises(ConfigError, match=r"spatial\.turn=0\.0, now augmentation\.spatial\.turn=0\.5\nGive the same"):
        check_facts(run, turned, split, index, CPU)
    asked = load_config("quick", ["plan.size=32", "precision=float32", "augmentation.spatial.turn=0"])
    assert check_facts(run, asked, split, index, CPU) == check_facts(run, config, split, index, CPU)


def test_a_file_that_changed_is_named(run: RunFolder, facts: Facts) -> None:
    begin(run, facts)
    os.utime(facts[2].root / "labelsTr" / "case_02.nii.gz", (1, 1))
    with pytest.raises(DataError, match=r"the data set has changed .*: labelsTr/case_02\.nii\.gz\. Bring"):
        check_facts(run, *facts, CPU)


def test_a_plan_that_is_none_is_refused_and_one_of_other_classes_too(run: RunFolder, facts: Facts) -> None:
    begin(run, facts)
    plan = read_json(run.plan)
    write_json(run.plan, {**plan, "class_names": ["background", "ring"]})
    with pytest.raises(DataError, match=r"plan\.json: made for channels .* and classes background, ring"):
        check_facts(run, *facts, CPU)
    write_json(run.plan, {"size": 3})
    with pytest.raises(DataError, match=r"plan\.json: not a plan of fewscan"):
        check_facts(run, *facts, CPU)


def test_test_cases_are_not_read_while_training_and_not_listed(facts: Facts) -> None:
    _, split, index = facts
    listed = list_files(index, split)
    held_out = [f"imagesTr/{case.name}_0000.nii.gz" for case in split.test]
    assert len(listed) == sum(1 + (case.label is not None) for case in (*split.train, *split.val))
    assert not set(held_out) & set(listed)
