"""Validation on the canvas."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fewscan.classes import IGNORED
from fewscan.data.plans.base import Normalisation
from fewscan.data.plans.pictures.plan import PicturePlan
from fewscan.engine.validation import canvas_validation
from fewscan.tasks.borders import encode
from support.discs import draw_discs
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


class Certain(nn.Module):
    """Is sure of the classes that its images show."""

    def forward(self, images: Tensor) -> Tensor:
        return 20 * nn.functional.one_hot(images[:, 0].long(), 3).movedim(-1, 1).float()


class OneCertain(nn.Module):
    def networks(self) -> dict[str, nn.Module]:
        return {"student": Certain()}


def test_of_objects_ap_is_watched_beside_dice() -> None:
    numbers = draw_discs((32, 64), [(16, 10, 7), (16, 23, 7), (16, 52, 7)]) + 300
    numbers[numbers == 300] = 0
    classes = encode(torch.from_numpy(numbers)[None]).numpy().astype(np.float32)
    # The third one is found by half: an IoU below 0.5.
    half = classes.copy()
    half[:, :17, 44:] = 0
    plan = PicturePlan(
        dataset="test",
        channel_names=("light",),
        class_names=("background", "cell"),
        task="instances",
        size=(32, 64),
        spacing_mm=(1.0, 1.0),
        foreground=0.3,
        normalisation=(Normalisation(scheme="minmax"),),
    )
    known_half = np.where(np.arange(64) < 37, numbers[None], IGNORED)
    store = WindowStore(plan, [classes, half, 0 * classes], [numbers[None], numbers[None], known_half])
    found = known(canvas_validation(store, plan))(OneCertain())["student"]  # type: ignore[arg-type]
    # All of them; two of the three, with one that is none; none of the two whose labels are known.
    assert found["scores"]["AP@0.5"] == pytest.approx((1 + 2 / 4 + 0) / 3)
    assert known(found["dice"]) < 1


def test_of_classes_nothing_but_dice_is_watched() -> None:
    images, labels = zip(*canvases(), strict=True)
    plan = window_plan(*WINDOWS[0])
    found = known(canvas_validation(WindowStore(plan, list(images), list(labels)), plan))(OneNetwork())  # type: ignore[arg-type]
    assert "scores" not in found["student"]


def test_without_validation_cases_there_is_no_validation() -> None:
    assert canvas_validation(None, window_plan(*WINDOWS[0])) is None
