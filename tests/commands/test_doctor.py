"""fewscan doctor: what is here is told, and what does not work is found."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

import fewscan
from fewscan.commands import doctor as module
from fewscan.commands.doctor import Trial
from fewscan.errors import ConfigError
from fewscan.extras import EXTRAS, missing_modules, require
from fewscan.networks.unet import UNet
from support.commands import command, printed

HEAVY = ("scipy.stats", "scipy.optimize", "scipy.spatial", "scipy.cluster", "h5py", "matplotlib", "pydicom", "onnx")
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("no_shape_hook")


def test_a_sound_machine_works_and_is_described() -> None:
    found = printed("doctor", "--device", "cpu")
    assert found["works"]
    assert found["versions"]["fewscan"] == fewscan.__version__
    assert found["versions"]["torch"] == version("torch")
    assert found["devices"][0]["name"] == "cpu"
    assert found["memory_bytes"] > 0
    assert found["disk_bytes"] > 0
    assert set(found["extras"]) == set(EXTRAS)
    assert [(trial["name"], trial["fault"]) for trial in found["trials"]] == [
        *(("scans", None), ("training", None), ("prediction", None))
    ]


def test_what_does_not_work_ends_with_exit_code_1_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> str | None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(module, "_try_prediction", broken)
    found = fewscan.doctor("cpu")
    assert not found.works
    assert found.trials[-1].fault == "RuntimeError: no kernel image is available"
    assert found.lines()[-1] == "fewscan does not work here"
    assert any("prediction: RuntimeError: no kernel image" in line for line in found.lines())


def test_a_network_that_learns_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_, **__: None)
    (scans, training, prediction) = fewscan.doctor("cpu").trials
    assert scans.fault is None
    assert training.fault is not None
    assert "and should fall" in training.fault
    assert prediction.fault is None


def test_a_device_that_computes_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def forward(network: UNet, images: torch.Tensor) -> torch.Tensor:
        calls.append(images)
        return network.decode(network.encode(images))[0] * (len(calls) % 2 + 1)

    monkeypatch.setattr(UNet, "forward", forward)
    fault = fewscan.doctor("cpu").trials[2].fault
    assert fault is not None
    assert "from those of the CPU" in fault


def test_little_memory_is_worth_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_bytes", lambda: 1 << 20)
    monkeypatch.setattr(module, "_try_out", lambda *_: (Trial("scans", None, 0.1),))
    lines = fewscan.doctor("cpu").lines()
    assert "look at: less than 1 GiB of memory is free; fewscan demo wants that much" in lines
    assert lines[-1] == "fewscan works here"


def test_a_missing_extra_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_try_out", lambda *_: ())
    monkeypatch.setitem(EXTRAS, "h5", ("h5py", "not_there"))
    assert missing_modules("h5") == ["not_there"]
    assert "extra h5: without not_there; pip install 'fewscan[h5]'" in fewscan.doctor("cpu").lines()


def test_a_device_that_is_not_here_is_an_error() -> None:
    done = command("doctor", "--device", "cuda:7")
    assert done.returncode == 2
    assert "--device cuda:7" in done.stderr


@pytest.mark.parametrize("name", ["report", "predict", "evaluate", "train", "check"])
def test_a_command_does_not_pay_for_what_others_import(name: str) -> None:
    code = f"import sys, fewscan; fewscan.{name}; print(sorted(m for m in sys.modules if m in {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_extra_is_one_of_the_package_s() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(extras) - {"docs", "dev"}


def test_a_module_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match=r"h5py is not installed.*pip install 'fewscan\[h5\]'"):
        require("h5py")
