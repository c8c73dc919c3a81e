"""Slices or volumes: by the user's word or by the data, known again when a run goes on."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import fewscan
from fewscan.config import Config, load_config
from fewscan.data.fingerprint import Fingerprint
from fewscan.engine.callbacks import UpdateInfo
from fewscan.errors import ConfigError
from fewscan.io.files import read_json
from fewscan.io.geometry import Geometry
from fewscan.io.scans import read_mask
from fewscan.registry import METHODS
from fewscan.runs.dims import choose_settings, load_choices
from support.scans import IDENTITY, geometry, make_held_out
from support.terminals import Notes

SHORT = (
    "network.channels=[4,8]",
    "network.dropout=[0,0]",
    "training.updates=4",
    "report.page=false",
)


def choices(dims: Any, *settings: str, method: str = "supervised") -> list[Config]:
    return load_choices(dims, lambda kind: load_config("quick", settings, "cpu", kind, method=method))


def fingerprint(spacing: tuple[float, float, float]) -> Fingerprint:
    return Fingerprint((Geometry((30, 40, 50), spacing, (0.0, 0.0, 0.0), IDENTITY),), (), (), ("a",))


@pytest.mark.parametrize(("dims", "kinds"), [(2, ["slices", "pictures"]), (3, ["volumes"])])
def test_what_was_asked_for_is_the_only_choice(dims: int, kinds: list[str]) -> None:
    assert [config.plan.kind for config in choices(dims)] == kinds


def test_auto_leaves_it_to_the_scans() -> None:
    both = choices("auto")
    assert [config.plan.kind for config in both] == ["slices", "pictures", "volumes"]
    for spacing, kind in (((1.0, 1.0, 1.0), "volumes"), ((9.0, 1.0, 1.0), "slices")):
        said = Notes()
        chosen = choose_settings("auto", both, fingerprint(spacing), said)
        assert chosen.plan.kind == kind
        assert kind in said.lines[0]
    assert chosen.training.labelled == 4


def test_a_setting_of_one_kind_leaves_no_choice() -> None:
    config, of_pictures = choices("auto", "plan.size=64")
    assert (config.plan.kind, of_pictures.plan.kind) == ("slices", "pictures")
    said = Notes()
    assert choose_settings("auto", [config, of_pictures], fingerprint((1.0, 1.0, 1.0)), said) is config
    assert said.lines == ["slices: settings of that kind of plan alone were given"]
    (config,) = choices("auto", "plan.voxels=5000")
    assert config.plan.kind == "volumes"
    (config,) = choices("auto", "plan.kind=volumes")
    assert config.plan.kind == "volumes"


def test_what_is_wrong_is_found_before_any_scan_is_read() -> None:
    with pytest.raises(ConfigError, match="learning_rate"):
        choices("auto", "optimiser.learning_rate=-1")
    with pytest.raises(ConfigError, match=r"dims=3 is plan\.kind=volumes, and plan\.kind=slices was set"):
        choices(3, "plan.kind=slices")
    with pytest.raises(ConfigError, match="there are auto, 2 and 3"):
        choices(4)


ONE_KIND = [name for name in METHODS.built_in if METHODS.find(name).n_dims == (3,)]


@pytest.mark.parametrize("method", ONE_KIND)
def test_a_method_of_volumes_alone_leaves_no_choice_and_refuses_slices(method: str) -> None:
    (config,) = choices("auto", method=method)
    assert config.plan.kind == "volumes"
    assert choices(3, method=method) == choices("auto", "plan.kind=volumes", method=method) == [config]
    for dims, settings in ((2, ()), ("auto", ("plan.kind=slices",)), ("auto", ("plan.size=64",))):
        with pytest.raises(ConfigError, match=f"The method {method} does not work on slices.*Train with --dims 3"):
            choices(dims, *settings, method=method)
    said = Notes()
    for settings in ((), ("plan.voxels=5000",)):
        choose_settings("auto", choices("auto", *settings, method=method), fingerprint((9.0, 1.0, 1.0)), said)
    assert said.lines == [f"volumes: the method {method} works on no other kind of plan, whatever the scans"] * 2


class PowerCut(fewscan.Callback):
    """Ends a training after its third update."""

    def on_update(self, info: UpdateInfo) -> None:
        if info.update == 2:
            raise ConnectionError("power cut")


@pytest.mark.parametrize("voxels", [4096, 20_000])
def test_volumes_and_windows_are_trained_resumed_and_predicted_with(tmp_path: Path, voxels: int) -> None:
    root = make_held_out(tmp_path / "set", geometry((12, 28, 30), (1.5, 1.5, 1.2)))
    said = Notes()
    short = (*SHORT, f"plan.voxels={voxels}", "plan.view=whole", "plan.coarsest=1", "checkpoint.every=2")
    options: dict[str, Any] = {
        "method": "mean_teacher",
        "recipe": "quick",
        "settings": short,
        "dims": "auto",
        "labelled": 2,
    }
    with pytest.raises(ConnectionError):
        fewscan.train(root, tmp_path / "run", callbacks=[PowerCut()], **options)
    run = fewscan.train(root, tmp_path / "run", reporter=said, resume=True, **options)
    whole = fewscan.train(root, tmp_path / "whole", reporter=said, **options)
    assert run.model.read_bytes() == whole.model.read_bytes()
    assert "volumes: settings of that kind of plan alone were given" in said.lines
    assert yaml.safe_load((run.folder / "config.yaml").read_text("utf-8"))["plan"]["kind"] == "volumes"
    plan = read_json(run.folder / "plan.json")
    assert (plan["field_of_view"] == plan["size"]) == (voxels == 20_000)
    again = Notes()
    fewscan.train(root, tmp_path / "run", reporter=again, resume=True, **options)
    assert any("nothing left to do" in line for line in again.lines)
    with pytest.raises(ConfigError, match=r"plan\.kind"):
        fewscan.train(root, tmp_path / "run", resume=True, **{**options, "settings": SHORT, "dims": 2})
    masks = fewscan.predict(run, [root / "imagesTr" / "case_03_0000.nii.gz"], output=tmp_path / "masks")
    assert read_mask(masks.masks[0]).array.shape == (12, 28, 30)
    assert run.validation is not None
