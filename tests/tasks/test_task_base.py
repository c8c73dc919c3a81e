"""A task from elsewhere: what it encodes is trained, and what it decodes is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fewscan.augment.targets import Target
from fewscan.data.cases import Case
from fewscan.errors import ConfigError
from fewscan.inference.model import ModelCard, load_model, save_model
from fewscan.inference.predict import predict_cases
from fewscan.inference.predictor import Predictor
from fewscan.io.scans import read_scan, write_scan
from fewscan.networks.unet import UNet, UNetSettings
from fewscan.registry import TASKS
from fewscan.tasks.base import task_of
from fewscan.tasks.semantic import Semantic
from support.scans import geometry, slice_plan
from support.stand_ins import standing_in

CPU = torch.device("cpu")


class Shelled(Semantic):
    """A third output for the rim of a class, which counts five times and is part of it when decoded."""

    @property
    def outputs(self) -> int:
        return 3

    def encode(self, labels: Tensor) -> Target:
        rim = (labels == 1) & (labels.roll(1, -1) == 0)
        return Target(labels + rim, 1.0 + 4 * rim)

    def decode(self, probs: np.ndarray) -> np.ndarray:
        return (probs.argmax(axis=1) > 0).astype(np.uint8)


class Rims(nn.Module):
    """Calls what is bright the rim."""

    def forward(self, images: Tensor) -> Tensor:
        bright = 20 * (images - 0.5)
        return torch.cat((-bright, -1 + 0 * bright, bright), dim=1)


@pytest.fixture
def shelled() -> Iterator[None]:
    TASKS.register("shelled", Shelled)
    yield
    TASKS.unregister("shelled")


@pytest.mark.usefixtures("shelled")
def test_a_plans_task_decodes_its_predictions(tmp_path: Path) -> None:
    plan = slice_plan(task="shelled")
    image = np.zeros((3, 32, 32), np.float32)
    image[:, 8:20, 10:25] = 1
    write_scan(tmp_path / "a.nii.gz", image, geometry(image.shape, (1.0, 1.0, 1.0)))
    case = Case("a", (tmp_path / "a.nii.gz",), None, "a")
    ((_, path),) = predict_cases(Predictor((standing_in(Rims()),)), plan, [case], tmp_path / "out", CPU)
    assert np.array_equal(read_scan(path).array, image)


@pytest.mark.usefixtures("shelled")
def test_a_model_has_as_many_outputs_as_its_task(tmp_path: Path) -> None:
    settings, plan = UNetSettings(channels=(4, 8), dropout=(0, 0)), slice_plan(task="shelled")
    card = ModelCard(method="supervised", network_name="student", network=settings, plan=plan, flips=False)
    save_model(tmp_path, UNet(1, task_of(plan).outputs, 2, settings), card)
    (network,), again = load_model(tmp_path, CPU)
    assert network.n_classes == 3
    assert isinstance(task_of(again.plan), Shelled)


def test_a_task_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match="no task named 'knots'"):
        task_of(slice_plan(task="knots"))
