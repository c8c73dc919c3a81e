"""Pictures in windows or whole: which, how large, and that whole ones fill a patch in proportion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewscan.classes import Classes
from fewscan.data.ceiling import there_and_back
from fewscan.data.fingerprint import Fingerprint, measure_foreground
from fewscan.data.index import DatasetIndex
from fewscan.data.plans.choice import choose_kind
from fewscan.data.plans.pictures.plan import PicturePlan
from fewscan.data.plans.pictures.planner import PictureSettings, choose_view
from fewscan.data.reading import Reading
from fewscan.errors import DataError
from fewscan.io.geometry import Geometry, LengthUnit
from fewscan.io.pictures import STRAIGHT
from fewscan.testing.plans import multiples_of

BY_16 = multiples_of(16)
INDEX = DatasetIndex(Path("set"), "set", ("light",), Classes.consecutive(("background", "a")), ".png", ())


def grid(height: int, width: int, unit: LengthUnit = "pixel", side: float = 1.0, pages: int = 1) -> Geometry:
    return Geometry((pages, height, width), (side,) * 3, (0.0, 0.0, 0.0), STRAIGHT, unit)


def fingerprint(share: float, *grids: Geometry) -> Fingerprint:
    """Of pictures whose foreground is a box in the middle that covers so much of them."""
    found = []
    for geometry in grids:
        mask = np.zeros(geometry.shape, np.uint8)
        _, height, width = geometry.shape
        rows, columns = (round(side * (1 - share**0.5) / 2) for side in (height, width))
        mask[:, rows : height - rows, columns : width - columns] = 1
        found.append(measure_foreground(mask, geometry, 2))
    foregrounds = tuple(each for each in found if each is not None)
    return Fingerprint(grids, foregrounds, (np.arange(9.0),), tuple(f"case_{n}" for n in range(len(grids))))


LARGE = (grid(400, 500), grid(600, 500), grid(400, 800))


@pytest.mark.parametrize(
    ("share", "grids", "view", "spacing", "words"),
    [
        (0.2, LARGE, "auto", None, "within 20 % of a picture; --set plan.view=windows otherwise"),
        (0.9, LARGE, "auto", (1.0, 1.0), "within 90 % of a picture; --set plan.view=whole otherwise"),
        (0.2, (grid(100, 128),), "auto", (1.0, 1.0), "each fits into one"),
        (0.9, LARGE, "whole", None, "as plan.view=whole says"),
        (0.2, LARGE, "windows", (1.0, 1.0), "as plan.view=windows says"),
    ],
)
def test_pictures_are_seen_whole_or_in_windows_by_what_is_labelled(
    share: float, grids: tuple[Geometry, ...], view: str, spacing: tuple[float, float] | None, words: str
) -> None:
    settings = PictureSettings.model_validate({"size": 128, "view": view})
    found = choose_view(INDEX, fingerprint(share, *grids), settings, BY_16)
    assert found.spacing_mm == spacing
    assert words in found.notes[0]
    assert max(found.size) <= 128


def test_patches_are_no_larger_than_pictures_and_in_their_proportion() -> None:
    settings = PictureSettings(size=256)
    small = choose_view(INDEX, fingerprint(0.9, grid(60, 90), grid(70, 80)), settings, BY_16)
    assert small.size == (80, 96)
    whole = choose_view(INDEX, fingerprint(0.2, grid(600, 300), grid(800, 500)), settings, BY_16)
    assert whole.size == (256, 144)


def test_pixels_of_known_size_are_the_median_or_coarser() -> None:
    grids = (grid(500, 500, "um", 2e-4), grid(500, 500, "um", 5e-4), grid(250, 250, "um", 5e-4))
    found = choose_view(INDEX, fingerprint(0.9, *grids), PictureSettings(size=128), BY_16)
    assert found.spacing_mm == (5e-4, 5e-4)
    assert "pixels of 0.5 µm (median in the pictures)" in found.notes
    coarse = choose_view(INDEX, fingerprint(0.9, *grids), PictureSettings(size=128, coarser=4), BY_16)
    assert coarse.spacing_mm == (2e-3, 2e-3)
    assert coarse.size == (128, 128)
    assert any("2 µm, 4 times as long" in note for note in coarse.notes)


def make(found: Fingerprint, **settings: object) -> PicturePlan:
    index = replace(INDEX, reading=Reading(1))
    return PicturePlan.make(index, found, PictureSettings.model_validate(settings), BY_16)


def test_a_plan_knows_how_its_pictures_are_read() -> None:
    plan = make(fingerprint(0.9, *LARGE), size=64)
    assert (plan.unit, plan.reading) == ("pixel", Reading(1, None, None))
    assert "mm" not in str([plan.facts(), plan.describe(), plan.notes])
    sized = make(fingerprint(0.9, grid(500, 500, "um", 5e-4)), size=64)
    assert (sized.unit, sized.reading) == ("um", Reading(1))
    assert ("Pixels", "0.5 µm") in sized.facts()
    with pytest.raises(
        DataError, match=r'1 of 2 pictures do not say how large their pixels are: case_0.*"pixel_size_um"'
    ):
        make(fingerprint(0.9, grid(500, 500), grid(500, 500, "um", 5e-4)))


def test_a_whole_picture_fills_its_patch_in_proportion() -> None:
    plan = make(fingerprint(0.2, *LARGE), size=64, view="whole")
    assert plan.patch == (1, 64, 64)
    for shape, filled in (((300, 600), (32, 64)), ((30, 15), (64, 32))):
        picture = np.ones((1, *shape), np.float32)
        picture[:, 0, 0] = 0
        where = grid(*shape)
        canvas = plan.to_canvas(picture, where)
        assert canvas.shape == plan.patch
        assert tuple(int((canvas[0] > 0.5).any(axis=axis).sum()) for axis in (1, 0)) == filled
        mask = np.zeros((1, *shape), np.uint8)
        mask[:, shape[0] // 4 : shape[0] // 2, shape[1] // 3 :] = 1
        back = there_and_back(mask, where, plan)
        assert (back == mask).mean() > 0.97


def test_windows_keep_every_pixel_of_a_mask() -> None:
    plan = make(fingerprint(0.9, *LARGE), size=64)
    mask = np.random.default_rng(0).integers(0, 2, (2, 131, 97), np.uint8)
    assert np.array_equal(there_and_back(mask, grid(131, 97, pages=2), plan), mask)


def test_each_page_is_decoded_by_itself() -> None:
    plan = make(fingerprint(0.9, *LARGE), size=64)
    where = grid(80, 70, pages=3)
    shapes = []

    def decode(probs: np.ndarray) -> np.ndarray:
        shapes.append(probs.shape)
        return probs.argmax(axis=1).astype(np.uint8)

    assembler = plan.assembler(where, decode)
    starts = plan.starts(plan.canvas_shape(where))
    assembler.add(np.full((len(starts), 2, *plan.size), 0.5, np.float32), starts)
    assert assembler.finish().mask.shape == (3, 80, 70)
    assert sum(shape[0] for shape in shapes) == 3
    assert {shape[1:] for shape in shapes} == {(2, 80, 70)}


def test_pictures_are_a_kind_of_their_own_and_stacks_of_them_may_be_volumes() -> None:
    assert choose_kind(fingerprint(0.5, *LARGE)).kind == "pictures"
    assert choose_kind(fingerprint(0.5, grid(64, 64, "um", 1e-3, pages=20))).kind == "volumes"
    assert choose_kind(fingerprint(0.5, grid(64, 64, "mm"))).kind == "slices"
