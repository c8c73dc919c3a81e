"""The files that the how-to pages tell to add do work when they are added."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from fewscan.augment.policy import AugmentationSettings
from fewscan.commands.check import check
from fewscan.commands.convert import convert
from fewscan.io.scans import write_scan
from fewscan.methods.base import Batch, ModelSpec, StageSettings, StagesSettings, StepInfo
from fewscan.networks.unet import UNetSettings
from fewscan.registry import METHODS
from support.scans import disc, geometry

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


def first_block(page: str) -> str:
    """The first Python block of a page: the new file."""
    found = re.search(r"^```python\n(.*?)^```$", (HOW_TO / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def add_module(monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> None:
    """Make a module of a page importable."""
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(source, name, "exec"), module.__dict__)


def test_the_method_of_the_page_takes_a_step(monkeypatch: pytest.MonkeyPatch, generator: torch.Generator) -> None:
    name = "fewscan.methods.self_training"
    add_module(monkeypatch, name, first_block("add-a-method.md"))
    cls = METHODS.load(f"{name}:SelfTraining")
    stage = StageSettings(updates=2, labelled=2, unlabelled=2)
    spec = ModelSpec(
        in_channels=1,
        n_classes=3,
        size=(32, 32),
        network=UNetSettings(channels=(4, 8), dropout=(0.0, 0.0)),
        augmentation=AugmentationSettings(),
        stages=StagesSettings.model_validate({"global": stage, "local": stage, "anatomical": stage}),
    )
    method = cls(spec, cls.Settings())
    labels = torch.randint(3, (2, 32, 32), generator=generator)
    batch = Batch(torch.randn(2, 1, 32, 32), labels, torch.randn(2, 1, 32, 32))
    terms = method(batch, StepInfo(generator, 0, 2))
    assert set(terms) == {"sup", "unsup"}
    sum(terms.values()).backward()
    assert all(torch.isfinite(value) for value in terms.values())


def test_the_layout_of_the_page_is_converted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = "fewscan.data.converters.folders"
    add_module(monkeypatch, name, first_block("add-a-layout.md"))
    where = geometry()
    noise = np.random.default_rng(0)
    for patient in ("anna", "bert"):
        (tmp_path / "source" / patient).mkdir(parents=True)
        image = noise.normal(size=where.shape).astype(np.float32)
        write_scan(tmp_path / "source" / patient / "image.nii.gz", image, where)
    write_scan(tmp_path / "source" / "anna" / "label.nii.gz", disc(where.shape), where)
    convert(f"{name}:convert", tmp_path / "source", destination=tmp_path / "dataset")
    assert not [fault for fault in check(tmp_path / "dataset") if fault.fatal]
    assert [path.name for path in (tmp_path / "dataset" / "labelsTr").iterdir()] == ["anna.nii.gz"]
