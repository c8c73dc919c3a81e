"""What the files of a run's folder say of how far it has come."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewscan.data.cases import Case
from fewscan.errors import DataError
from fewscan.io.files import write_json
from fewscan.run_folder import PredictionFolder, RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def leave(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()


def test_a_folder_that_is_not_there_and_an_empty_one_are_new(tmp_path: Path) -> None:
    assert RunFolder(tmp_path / "nowhere").state == RunFolder(tmp_path).state == "new"


def test_a_run_begins_when_all_that_it_is_made_from_is_written(run: RunFolder) -> None:
    for path in run.facts[:-1]:
        leave(path)
        assert run.state == "new"
    leave(run.facts[-1])
    assert run.state == "unfinished"


def test_a_run_with_checkpoints_is_unfinished_whatever_else_is_there(run: RunFolder) -> None:
    leave(run.config, run.checkpoints / "000000040.ckpt", run.checkpoints / "000000120.ckpt")
    assert (run.state, run.updates_done) == ("unfinished", 120)
    leave(run.weights, run.card)
    assert run.state == "unfinished"


def test_a_run_is_finished_with_its_model_and_without_checkpoints(run: RunFolder) -> None:
    leave(*run.facts, run.weights, run.card)
    assert (run.state, run.updates_done) == ("finished", 0)
    for needed in (run.weights, run.card):
        needed.unlink()
        assert run.state == "unfinished"
        leave(needed)
    run.config.unlink()
    assert run.state == "new"


def test_all_files_lie_in_the_folder_under_names_of_their_own(run: RunFolder) -> None:
    # What is no file of its own.
    of_others = ("state", "updates_done", "facts", "all_weights", "parts", "scores")
    names = [name for name, member in vars(RunFolder).items() if isinstance(member, property)]
    found = [getattr(run, name) for name in names if name not in of_others]
    paths = [getattr(place, "path", place) for place in found]
    assert {path.parent for path in paths} == {run.path}
    assert len(set(paths)) == len(paths) > 20


def test_the_parts_of_a_run_are_itself_or_its_folds_and_its_scores_the_validation_s_or_theirs(run: RunFolder) -> None:
    assert (run.parts, run.all_weights, run.scores) == ((run,), (run.weights,), run.validation)
    write_json(run.folds_held_out, [["a", "b"], ["c"]])
    leave(run.cross_validation.summary)
    assert run.parts == (run.fold(0), run.fold(1))
    assert run.all_weights == (run.fold(0).weights, run.fold(1).weights)
    assert run.scores == run.cross_validation
    leave(run.validation.summary)
    assert run.scores == run.validation


def test_folds_that_are_damaged_are_no_run_of_one_network(run: RunFolder) -> None:
    for damaged in ([], [["a"], "b"], {"0": ["a"]}):
        write_json(run.folds_held_out, damaged)
        with pytest.raises(DataError, match=r"folds\.json.*not the folds of a fewscan run"):
            assert not run.parts


def test_a_mask_has_the_ending_of_its_scan_and_held_out_masks_have_one(run: RunFolder, tmp_path: Path) -> None:
    case = Case("heart", (tmp_path / "heart_0000.nrrd",), None, "heart")
    folder = PredictionFolder(tmp_path / "out")
    assert folder.mask(case) == tmp_path / "out" / "heart.nrrd"
    assert folder.probabilities(case) == tmp_path / "out" / "heart.npz"
    assert run.test.mask("heart") == run.path / "test" / "heart.nii.gz"
