"""Training that starts from a finished run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import fewscan
from fewscan.config import Config, load_config
from fewscan.data.exemplars import Exemplars
from fewscan.errors import ConfigError, DataError
from fewscan.io.files import read_json
from fewscan.io.scans import read_scan, write_scan
from fewscan.runs.continuation import Start
from fewscan.runs.job import build_method
from support.pixels import contents, telling_rows
from support.scans import TINY, make_dataset

CPU = torch.device("cpu")
# Steps so small that no weight of float32 changes.
STILL = ("optimiser.learning_rate=1e-30", "training.updates=1", "logging.validate_every=0", "report.page=false")
NETWORK = tuple(setting for setting in TINY if setting.startswith(("plan.", "network.")))


def make_split(root: Path, train: int, val: int) -> Path:
    names = [f"case_{number:02d}" for number in range(train + val)]
    make_dataset(root, labelled=train + val, unlabelled=0)
    (root / "splits.json").write_text(json.dumps({"train": names[:train], "val": names[train:]}))
    return root


@pytest.fixture(scope="module")
def site_a(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_split(tmp_path_factory.mktemp("a") / "set", train=2, val=1)


@pytest.fixture(scope="module")
def earlier(site_a: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two networks that learn from each other."""
    settings = (*NETWORK, "training.updates=4", "report.page=false")
    return fewscan.train(
        site_a, tmp_path_factory.mktemp("runs") / "earlier", method="cps", recipe="quick", settings=settings
    ).folder


def resolved(start: Start, method: str, *assignments: str) -> Config:
    config = load_config("quick", assignments, plan_kind=start.card.plan.kind, method=method)
    return start.settings(config, assignments).resolved(start.card.plan, CPU)


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_weights_plan_and_network_are_those_of_the_run(earlier: Path, site_a: Path, tmp_path: Path) -> None:
    run = fewscan.train(
        site_a, tmp_path / "run", method="supervised", recipe="quick", settings=STILL, continue_from=earlier
    ).folder
    before, now = (load_file(folder / "model.safetensors") for folder in (earlier, run))
    trained = {name for name in before if "running" not in name and "num_batches" not in name}
    assert trained
    assert all(torch.equal(before[name], now[name]) for name in trained)
    card, ours = read_json(earlier / "model.json"), read_json(run / "model.json")
    assert ours["network"] == card["network"]
    told = {"notes", "ceiling", "turned"}
    assert {name: value for name, value in ours["plan"].items() if name not in told} == {
        name: value for name, value in card["plan"].items() if name not in told
    }
    assert read_json(run / "start.json")["sha256"] == Start.of(earlier).digest
    assert not (earlier / "start.json").exists()


def test_a_third_of_the_learning_rate_and_half_of_the_updates(earlier: Path) -> None:
    start = Start.of(earlier)
    fresh = load_config("quick", plan_kind="slices", method="supervised")
    continued = resolved(start, "supervised")
    assert continued.optimiser.learning_rate == pytest.approx(fresh.optimiser.learning_rate / 3)
    assert continued.training.updates == fresh.training.updates / 2
    chosen = resolved(start, "supervised", "optimiser.learning_rate=0.02", "training.updates=77")
    assert (chosen.optimiser.learning_rate, chosen.training.updates) == (0.02, 77)


@pytest.mark.parametrize("setting", ["plan.size=64", "network.channels=[4,8]"])
def test_what_the_run_has_decided_cannot_be_set(earlier: Path, site_a: Path, tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"{setting.partition('=')[0]} cannot be set"):
        fewscan.train(site_a, tmp_path / "run", recipe="quick", settings=[setting], continue_from=earlier)
    assert not (tmp_path / "run").exists()


def test_other_dimensions_are_refused(earlier: Path, site_a: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="its network has 2 dimensions, and --dims is 3"):
        fewscan.train(site_a, tmp_path / "run", recipe="quick", dims=3, continue_from=earlier)


def test_two_networks_of_the_same_method_stay_two(earlier: Path) -> None:
    start = Start.of(earlier)
    first, second = load_file(earlier / "model.safetensors"), load_file(earlier / "second.safetensors")
    assert not same(first, second)
    method = build_method(resolved(start, "cps"), start.card.plan, CPU)
    start.give_weights(method, "cps")
    assert [same(dict(network.state_dict()), first) for network in method.networks().values()] == [True, False]
    assert same(dict(list(method.networks().values())[1].state_dict()), second)


def test_all_networks_of_another_method_start_alike(earlier: Path) -> None:
    start = Start.of(earlier)
    method = build_method(resolved(start, "mean_teacher"), start.card.plan, CPU)
    start.give_weights(method, "mean_teacher")
    weights = load_file(earlier / "model.safetensors")
    assert list(method.networks()) == ["teacher", "student"]
    assert all(same(dict(network.state_dict()), weights) for network in method.networks().values())


def test_a_network_of_another_form_is_refused(earlier: Path) -> None:
    start = Start.of(earlier)
    settings = (*NETWORK[:1], "network.channels=[4,6]", "network.dropout=[0,0]")
    config = load_config("quick", settings, plan_kind="slices", method="supervised").resolved(start.card.plan, CPU)
    with pytest.raises(ConfigError, match="of another form"):
        start.give_weights(build_method(config, start.card.plan, CPU), "supervised")


def test_other_classes_are_refused_by_name(earlier: Path, site_a: Path, tmp_path: Path) -> None:
    root = shutil.copytree(site_a, tmp_path / "set")
    meta = read_json(root / "dataset.json")
    meta["labels"] = {"background": 0, "dark": 1}
    (root / "dataset.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match=r"classes: 0 background, 1 \w+ there, 0 background, 1 dark here"):
        fewscan.train(root, tmp_path / "run", recipe="quick", settings=STILL, continue_from=earlier)


def test_labels_that_have_taught_the_run_cannot_be_held_out(earlier: Path, site_a: Path, tmp_path: Path) -> None:
    root = shutil.copytree(site_a, tmp_path / "set")
    (root / "splits.json").write_text(json.dumps({"train": ["case_00", "case_02"], "val": ["case_01"]}))
    with pytest.raises(DataError, match=r"has learnt from labels that are to be held out now: case_01"):
        fewscan.train(root, tmp_path / "run", recipe="quick", settings=STILL, continue_from=earlier)
    # Another label of that name, as another data set may have.
    (root / "labelsTr" / "case_01.nii.gz").write_bytes((root / "labelsTr" / "case_02.nii.gz").read_bytes())
    sizes = {path.name: path.stat().st_size for path in (root / "labelsTr").iterdir()}
    if sizes["case_01.nii.gz"] != (site_a / "labelsTr" / "case_01.nii.gz").stat().st_size:
        fewscan.train(root, tmp_path / "other", recipe="quick", settings=STILL, continue_from=earlier, dry_run=True)


def test_what_is_no_finished_run_is_refused(site_a: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no finished run"):
        fewscan.train(site_a, tmp_path / "run", recipe="quick", continue_from=tmp_path)


def test_a_run_goes_on_only_from_where_it_was_started(earlier: Path, site_a: Path, tmp_path: Path) -> None:
    run = fewscan.train(
        site_a, tmp_path / "run", method="supervised", recipe="quick", settings=STILL, continue_from=earlier
    ).folder
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert settings["training"]["updates"] == 1
    assert (
        fewscan.train(
            site_a, run, method="supervised", recipe="quick", settings=STILL, continue_from=earlier, resume=True
        ).folder
        == run
    )
    other = shutil.copytree(earlier, tmp_path / "other")
    shutil.copyfile(other / "second.safetensors", other / "model.safetensors")
    with pytest.raises(ConfigError, match="whose weights are others"):
        fewscan.train(
            site_a, run, method="supervised", recipe="quick", settings=STILL, continue_from=other, resume=True
        )


def test_pixels_of_an_earlier_site_are_kept_where_that_was_asked_for_alone(site_a: Path, tmp_path: Path) -> None:
    """Of two runs that go on with site B, one has patches of site A, and the other one no row of them."""
    site_b = make_split(tmp_path / "b", train=2, val=1)
    described = read_json(site_b / "dataset.json") | {"name": "B"}
    (site_b / "dataset.json").write_text(json.dumps(described))
    # Other scans than site A has: each row of pixels is of one site alone.
    for path in sorted((site_b / "imagesTr").iterdir()):
        scan = read_scan(path)
        noise = np.random.default_rng(99).normal(size=scan.array.shape).astype(scan.array.dtype)
        write_scan(path, scan.array + noise, scan.geometry)

    def train(site: Path, name: str, method: str, *more: str, start: Path | None = None) -> Path:
        return fewscan.train(
            site, tmp_path / name, method=method, recipe="quick", settings=[*STILL, *more], continue_from=start
        ).folder

    first = train(site_a, "a", "supervised", *NETWORK, "export.memory=3")
    kept = Exemplars.load(first / "memory.safetensors")
    assert set(kept.sites) == {"Discs"}
    assert len(kept) == 3
    with_pixels = train(site_b, "with", "itl", "export.memory=2", start=first)
    assert Exemplars.load(with_pixels / "memory.safetensors").sites == ("Discs",) * 3 + ("B",) * 2
    (first / "memory.safetensors").unlink()
    without = train(site_b, "without", "itl", start=first)
    assert not (without / "memory.safetensors").exists()
    telling = telling_rows([kept.images.numpy()])
    assert telling
    there, gone = contents(with_pixels), contents(without)
    assert all(row in there for row in telling)
    assert not any(row in gone for row in telling)
