"""Validation on the canvas."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from fewscan.classes import IGNORED
from fewscan.engine.validation import canvas_validation
from support.known import known
from support.windows import Voxelwise, WindowStore, window_plan

SHAPES = ((10, 16, 20), (8, 14, 16))
WINDOWS = [((8, 14, 16), (8, 14, 16)), ((8, 14, 16), (1, 1, 2)), ((4, 8, 8), (3, 4, 5))]


class OneNetwork(nn.Module):
    def networks(self) -> dict[str, nn.Module]:
        return {"student": Voxelwise()}


def canvases() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(0)
    for shape in SHAPES:
        image = generator.random(shape, np.float32)
        labels = (image + generator.normal(0, 0.2, shape) > 0.5).astype(np.uint8)
        labels[:, :3] = IGNORED
        yield image, labels


@pytest.mark.parametrize("window", WINDOWS)
def test_a_voxel_that_lies_in_several_patches_counts_once(
    window: tuple[tuple[int, int, int], tuple[int, int, int]],
) -> None:
    images, labels = zip(*canvases(), strict=True)
    plan = window_plan(*window)
    validate = known(canvas_validation(WindowStore(plan, list(images), list(labels)), plan))
    # A method is asked for its networks alone.
    found = validate(OneNetwork())["student"]  # type: ignore[arg-type]
    wanted = []
    for image, label in zip(images, labels, strict=True):
        labelled = label != IGNORED
        ours, theirs = (image > 0.5) & labelled, (label == 1) & labelled
        wanted.append(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))
    assert found["dice"] == pytest.approx(np.mean(wanted), rel=1e-5)
    assert found["classes"] == {"bright": pytest.approx(np.mean(wanted), rel=1e-5)}
    assert torch.is_grad_enabled()


def test_without_validation_cases_there_is_no_validation() -> None:
    assert canvas_validation(None, window_plan(*WINDOWS[0])) is None
