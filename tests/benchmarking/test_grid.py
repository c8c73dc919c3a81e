"""Which runs a benchmark has, and which of them are there; nothing is trained here."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fewscan.benchmarking.grid import make_grid, parse_variant
from fewscan.data.index import read_dataset
from fewscan.errors import ConfigError, DataError
from fewscan.io.files import write_json
from support.grids import grid_of, pretend


def test_every_combination_once_and_one_seed_after_the_other(dataset: Path) -> None:
    grid = grid_of(dataset)
    assert [spec.name for spec in grid.specs] == [
        *("supervised-01-s0", "action-01-s0", "supervised-02-s0", "action-02-s0"),
        *("supervised-01-s1", "action-01-s1", "supervised-02-s1", "action-02-s1"),
    ]
    arguments = grid.arguments(grid.specs[1], "cuda:1")
    for pair in (["--method", "action"], ["--labelled", "1"], ["--device", "cuda:1"], ["--set", "a=1"]):
        assert any(arguments[i : i + 2] == pair for i in range(len(arguments)))
    assert arguments[arguments.index("--cache") + 1] == str(grid.output / "cache" / "01")


def test_a_variant_is_trained_as_its_method_with_its_settings(dataset: Path) -> None:
    variant = parse_variant("no_anco=action,methods.action.use_anco=false,c=[1]")
    grid = make_grid(
        read_dataset(dataset),
        dataset.parent / "out",
        methods=["supervised"],
        labelled=[1],
        seeds=[0],
        recipe="quick",
        settings=("a=1",),
        cache=None,
        variants=[variant],
    )
    plain, changed = grid.specs
    assert (plain.name, changed.name) == ("supervised-01-s0", "no_anco-01-s0")
    assert grid.request(plain)["settings"] == ["a=1"]
    arguments = grid.arguments(changed, "cpu")
    assert arguments[arguments.index("--method") + 1] == "action"
    wanted = ["a=1", "methods.action.use_anco=false", "c=[1]"]
    assert grid.request(changed)["settings"] == wanted
    assert [b for a, b in pairwise(arguments) if a == "--set"] == ["report.page=false", "training.pool=all", *wanted]
    assert grid.request(changed)["method"] == "action"


def test_a_method_from_outside_has_a_folder_without_a_colon(dataset: Path) -> None:
    name = "pack.module:Mine"
    variant = parse_variant(f"loud={name},methods.{name}.momentum=0.5")
    assert (variant.method, variant.settings) == (name, (f"methods.{name}.momentum=0.5",))
    options: dict[str, Any] = {"labelled": [1], "seeds": [0], "recipe": "quick", "settings": (), "cache": None}
    index = read_dataset(dataset)
    grid = make_grid(index, dataset.parent / "out", methods=[name], variants=[variant], **options)
    assert [spec.name for spec in grid.specs] == ["pack.module.Mine-01-s0", "loud-01-s0"]
    arguments = grid.arguments(grid.specs[0], "cpu")
    assert arguments[arguments.index("--method") + 1] == name
    assert grid.request(grid.specs[0])["method"] == name
    twin = parse_variant(f"pack.module.Mine={name}")
    with pytest.raises(ConfigError, match=r"--variant pack\.module\.Mine: .* another name"):
        make_grid(index, dataset.parent / "out", methods=[name], variants=[twin], **options)


@pytest.mark.parametrize("text", ["no_anco", "=action", "a-b=action", "../a=action", "a=action,use_anco", "a=b=c", ""])
def test_a_variant_that_cannot_be_understood_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="NAME=METHOD"):
        parse_variant(text)


def test_two_rows_of_one_name_are_refused(dataset: Path) -> None:
    variants = [parse_variant("action=action,a=2")]
    with pytest.raises(ConfigError, match="another name"):
        make_grid(
            read_dataset(dataset),
            dataset,
            methods=["action"],
            labelled=[1],
            seeds=[0],
            recipe="quick",
            settings=(),
            cache=None,
            variants=variants,
        )


def test_finished_is_what_has_its_record_its_model_and_its_scores(dataset: Path) -> None:
    grid = grid_of(dataset)
    spec = grid.specs[0]
    run = grid.folder(spec)
    assert grid.state(spec) == "new"
    for needed in (run.record, run.weights, run.card, run.config, run.validation.summary):
        pretend(grid, spec)
        assert grid.state(spec) == "finished"
        needed.unlink()
        assert grid.state(spec) == "unfinished"
        grid.clear(spec)
    assert grid.state(spec) == "new"
    pretend(grid, spec)
    record = grid.record(spec)
    assert record["request"]["method"] == "supervised"
    assert (record["seconds"], record["memory_gib"], record["images_per_second"]) == (90.0, 1.5, 20.0)
    assert grid.done() == [spec]


def test_a_run_of_something_else_is_refused_and_left_alone(dataset: Path) -> None:
    grid = grid_of(dataset)
    pretend(grid, grid.specs[0])
    with pytest.raises(ConfigError, match=r"settings \['a=1'\] instead of \['a=2'\]\. Choose another folder"):
        grid_of(dataset, settings=("a=2",)).done()
    with pytest.raises(ConfigError, match="recipe quick instead of paper"):
        replace(grid, recipe="paper").state(grid.specs[0])
    write_json(dataset / "splits.json", {"train": ["case_00", "case_01"], "val": ["case_03"]})
    with pytest.raises(ConfigError, match="holds a run with split"):
        grid_of(dataset).done()
    assert grid.folder(grid.specs[0]).record.is_file()


def test_what_cannot_be_scored_is_refused(dataset: Path) -> None:
    (dataset / "labelsTr" / "case_04.nii.gz").unlink()
    with pytest.raises(DataError, match=r"test cases without a label: case_04\. Add their labels"):
        grid_of(dataset)
    write_json(dataset / "splits.json", {"train": ["case_00"]})
    with pytest.raises(DataError, match="no held-out cases to score"):
        grid_of(dataset, labelled=(1,))
    with pytest.raises(ConfigError, match="Nothing to run"):
        grid_of(dataset, labelled=())


def test_without_validation_cases_no_validation_is_wanted(dataset: Path) -> None:
    names = [f"case_{i:02d}" for i in range(5)]
    write_json(dataset / "splits.json", {"train": names[:3], "test": names[4:]})
    grid = grid_of(dataset)
    pretend(grid, grid.specs[0])
    grid.folder(grid.specs[0]).validation.summary.unlink()
    assert grid.state(grid.specs[0]) == "finished"


def test_rows_without_unlabelled_scans_are_known_by_their_methods(dataset: Path) -> None:
    grid = grid_of(dataset, methods=("supervised", "action", "atlas", "wide", "long"))
    rows = {
        name: parse_variant(f"{name}={method},seed=1") for name, method in (("wide", "supervised"), ("long", "ict"))
    }
    assert replace(grid, variants=rows).alone == ("supervised", "atlas", "wide")


def test_rows_are_of_one_kind_of_plan_or_refused_before_any_run(dataset: Path) -> None:
    methods, slow = ("supervised", "atlas"), "training.updates=4000"
    grid = grid_of(dataset, settings=(slow,), methods=methods)
    with pytest.raises(
        ConfigError, match=r"supervised may be of .*slices or volumes, and atlas .* of volumes: .*--dims"
    ):
        grid.check_settings(("cpu",))
    with pytest.raises(ConfigError, match=r"The method atlas does not work on slices.*--set plan\.kind=volumes"):
        replace(grid, dims=2).check_settings(("cpu",))
    replace(grid, dims=3).check_settings(("cpu",))
    grid_of(dataset, settings=(slow, "plan.kind=volumes"), methods=methods).check_settings(("cpu",))
    assert "--dims 3" in " ".join(replace(grid, dims=3).arguments(grid.specs[0], "cpu"))


def test_runs_of_before_volumes_were_chosen_go_on_as_slices(dataset: Path) -> None:
    grid = grid_of(dataset)
    assert "dims" not in replace(grid, dims=2).request(grid.specs[0])
    assert grid.request(grid.specs[0])["dims"] == "auto"
