"""What every kind of plan owes preprocessing, prediction and pictures, as tests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from fewscan.classes import IGNORED
from fewscan.data.assembler import Assembled, Decode, largest
from fewscan.data.cache import write_cache
from fewscan.data.index import read_dataset
from fewscan.data.patches import cut
from fewscan.data.phantom import make_phantom
from fewscan.data.plans.base import Divisors, Plan, PlanSettings
from fewscan.data.plans.kinds import PlanFile, make_plan
from fewscan.data.split import make_split
from fewscan.data.store import StoredCase
from fewscan.data.survey import survey_cases
from fewscan.io.geometry import Geometry
from fewscan.registry import PLANS

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
# Scans of thick and of thin slices, small and large, of odd sides, and of one slice, whatever way it lies.
GRIDS = (
    ((6, 30, 26), (5.0, 1.0, 1.0)),
    ((21, 37, 44), (1.2, 1.2, 1.2)),
    ((33, 9, 31), (1.0, 4.0, 1.0)),
    ((4, 80, 71), (8.0, 0.7, 0.9)),
    ((1, 33, 28), (1.0, 1.0, 1.0)),
    ((40, 1, 28), (1.0, 6.0, 1.3)),
)


@dataclass(frozen=True)
class Drawn:
    """A scan of two nested ellipsoids, off its centre.

    Attributes:
        geometry: Grid of the scan.
        mask: Numbers inside (z, y, x): 0 around, 1 in the outer shell, 2 in the core.
    """

    geometry: Geometry
    mask: np.ndarray


def draw(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Drawn:
    """Draw nested ellipsoids that reach through half of the scan along every axis.

    Args:
        shape: Sides (z, y, x) in voxels.
        spacing_mm: Sides (z, y, x) of a voxel.
    """
    axes = np.ogrid[tuple(slice(0, side) for side in shape)]
    shift = (0.1, -0.08, 0.06)
    reach = [
        ((axis - (side - 1) / 2 - part * side) / (0.25 * side)) ** 2 if side > 1 else axis * 0.0
        for axis, side, part in zip(axes, shape, shift, strict=True)
    ]
    distance = np.broadcast_to(sum(reach), shape)
    mask = (distance < 1).astype(np.uint8) + (distance < 0.4).astype(np.uint8)
    return Drawn(Geometry(shape, spacing_mm, (0.0, 0.0, 0.0), IDENTITY), mask)


def focused(drawn: Drawn) -> Drawn:
    """Give a drawn scan a focus off its middle, between voxels, nearer to one end along some axes than to the other.

    Args:
        drawn: Scan as `draw` makes it.
    """
    focus = [part * (side - 1) for part, side in zip((0.63, 0.37, 0.58), drawn.mask.shape, strict=True)]
    return Drawn(replace(drawn.geometry, focus=(focus[0], focus[1], focus[2])), drawn.mask)


class PlanContract:
    """The contract of `Plan`: subclass it as `Test...`, and give it a plan of three classes.

        class TestMine(PlanContract):
            plan = MyPlan(class_names=("background", "shell", "core"), ...)

    Attributes:
        plan: Plan of three classes, the background among them, and of one channel; its kind is registered.
        settings: Settings with which such a plan is made of a data set.
        grids: Shapes (z, y, x) and spacings in mm of the scans that are brought to the canvas.
        near: Least Dice of the classes that come back from the canvas, where the scan lies on it.
        stride: Number of voxels that sides of the network's input have to be multiples of, along every axis.
    """

    plan: ClassVar[Plan]
    settings: ClassVar[PlanSettings]
    grids: ClassVar[Sequence[tuple[tuple[int, int, int], tuple[float, float, float]]]] = GRIDS
    near: ClassVar[float] = 0.85
    stride: ClassVar[int] = 8

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Every test of a scan for every grid, and once more with a focus if the plan takes one."""
        if "drawn" in metafunc.fixturenames:
            names = ["x".join(map(str, shape)) for shape, _ in self.grids]
            drawn = [draw(*grid) for grid in self.grids]
            if self.plan.takes_focus:
                names += [f"{name}-focus" for name in names]
                drawn += [focused(one) for one in drawn]
            metafunc.parametrize("drawn", drawn, ids=names)

    def test_the_kind_is_registered_and_a_plan_survives_its_file(self) -> None:
        assert PLANS.find(self.plan.kind) is type(self.plan)
        read = PlanFile.model_validate_json(PlanFile(self.plan).model_dump_json()).root
        assert type(read) is type(self.plan)
        assert read == self.plan

    def test_settings_are_explained_and_survive_their_file(self) -> None:
        assert isinstance(self.settings, type(self.plan).Settings)
        assert all(field.description for field in type(self.settings).model_fields.values())
        assert type(self.settings).model_validate(self.settings.model_dump(mode="json")) == self.settings

    def test_a_plan_is_made_of_a_data_set_for_a_networks_stride(self, tmp_path: Path) -> None:
        index = read_dataset(make_phantom(tmp_path / "phantom", patients=3, labelled=2, validation=0))
        train = make_split(index).train
        fingerprint = survey_cases(index, train).fingerprint(train)
        settings = self.settings.model_copy(update={"kind": self.plan.kind})
        plan = make_plan(index, fingerprint, settings, multiples_of(self.stride))
        assert type(plan) is type(self.plan)
        assert (plan.dataset, plan.channel_names, plan.classes) == (index.name, index.channel_names, index.classes)
        assert all(side % self.stride == 0 for side in plan.size)
        assert plan.ndim == self.plan.ndim
        assert plan == make_plan(index, fingerprint, settings, multiples_of(self.stride))

    def test_a_plan_says_what_it_is_in_words(self) -> None:
        assert self.plan.describe()
        assert all(name and value for name, value in self.plan.facts())
        assert all(self.plan.remedy(is_outside) for is_outside in (False, True))
        assert self.plan.viewing_axis in (0, 1, 2)
        assert 0 < len(set(self.plan.picture_axes)) == len(self.plan.picture_axes)
        assert set(self.plan.picture_axes) <= {0, 1, 2}

    def test_a_canvas_is_as_large_as_was_said_and_no_smaller_than_a_patch(self, drawn: Drawn) -> None:
        plan, shape = self.plan, self.plan.canvas_shape(drawn.geometry)
        canvas = plan.to_canvas(frozen(drawn.mask.astype(np.float32)), drawn.geometry)
        labels = plan.labels_to_canvas(frozen(drawn.mask), drawn.geometry)
        assert canvas.shape == labels.shape == shape
        assert canvas.dtype == np.float32
        assert labels.dtype == np.uint8
        assert np.isfinite(canvas).all()
        assert all(side >= own for side, own in zip(shape, plan.patch, strict=True))

    def test_a_scan_may_be_normalised_on_its_way_to_the_canvas(self, drawn: Drawn) -> None:
        def values(voxels: np.ndarray) -> np.ndarray:
            return voxels.astype(np.float32, order="C") / 3 - 1

        found = self.plan.raw_to_canvas(frozen(drawn.mask), drawn.geometry, values)
        assert np.array_equal(found, self.plan.to_canvas(values(drawn.mask), drawn.geometry))

    def test_a_scan_of_one_value_is_a_canvas_of_it(self, drawn: Drawn) -> None:
        volume = np.full(drawn.mask.shape, -3.5, np.float32)
        assert np.allclose(self.plan.to_canvas(volume, drawn.geometry), -3.5, atol=1e-4)

    def test_a_canvas_lies_around_the_focus_of_a_scan_if_the_plan_takes_one(self, drawn: Drawn) -> None:
        if not self.plan.takes_focus:
            assert np.array_equal(self._of_place(drawn), self._of_place(focused(drawn)))
            return
        focus = drawn.geometry.focus or tuple((side - 1) / 2 for side in drawn.mask.shape)
        place = np.zeros(drawn.mask.shape, np.float32)
        place[tuple(slice(math.floor(at), math.ceil(at) + 1) for at in focus)] = 1
        canvas = self.plan.to_canvas(place, drawn.geometry)
        # A plan in 2D shows all slices, wherever the focus is among them.
        for axis in range(3 - self.plan.ndim, 3):
            along = canvas.sum(axis=tuple(other for other in range(3) if other != axis))
            off = float((along * np.arange(len(along))).sum() / along.sum()) - (len(along) - 1) / 2
            # A voxel of the canvas, and half of one of the scan: the place is two of these, the focus between them.
            assert abs(off) <= 1 + np.count_nonzero(along) / 4

    def _of_place(self, drawn: Drawn) -> np.ndarray:
        return self.plan.to_canvas((drawn.mask > 0).astype(np.float32), drawn.geometry)

    def test_images_and_labels_come_to_lie_in_the_same_place(self, drawn: Drawn) -> None:
        labels = self.plan.labels_to_canvas(drawn.mask, drawn.geometry)
        image = self.plan.to_canvas((drawn.mask > 0).astype(np.float32), drawn.geometry)
        assert dice(image > 0.5, labels > 0) > self.near

    def test_labels_are_classes_and_what_is_ignored_stays_so(self, drawn: Drawn) -> None:
        plan = self.plan.model_copy(update={"ignored_number": 9})
        assert set(np.unique(plan.labels_to_canvas(drawn.mask, drawn.geometry))) <= {0, 1, 2}
        nothing = np.zeros_like(drawn.mask)
        assert not plan.labels_to_canvas(nothing, drawn.geometry).any()
        ignored = np.full_like(drawn.mask, IGNORED)
        assert (plan.labels_to_canvas(ignored, drawn.geometry) == IGNORED).all()

    def test_patches_lie_within_the_canvas_and_leave_nothing_out(self, drawn: Drawn) -> None:
        shape = self.plan.canvas_shape(drawn.geometry)
        starts = self.plan.starts(shape)
        assert len(starts) == len(np.unique(starts, axis=0)) > 0
        assert (starts >= 0).all()
        assert (starts + np.array(self.plan.patch) <= np.array(shape)).all()
        assert (np.diff(starts[:, 0]) >= 0).all()
        seen = np.zeros(shape, bool)
        for start in starts:
            seen[tuple(slice(s, s + side) for s, side in zip(start, self.plan.patch, strict=True))] = True
        assert seen.all()

    def test_what_the_canvas_shows_comes_back_to_its_place_and_the_rest_is_background(self, drawn: Drawn) -> None:
        plan = self.plan
        mask = self._there_and_back(plan, drawn).mask
        assert mask.shape == drawn.mask.shape
        shown = np.broadcast_to(plan.shows(drawn.geometry), mask.shape)
        assert not mask[~shown].any()
        assert dice((mask > 0)[shown], (drawn.mask > 0)[shown]) > self.near

    def test_a_covering_plan_shows_all_of_a_scan_and_is_else_the_same(self, drawn: Drawn) -> None:
        whole = self.plan.covering(drawn.geometry)
        assert type(whole) is type(self.plan)
        assert whole.shows(drawn.geometry).all()
        assert whole.covering(drawn.geometry) == whole
        assert whole.ndim == self.plan.ndim
        mask = self._there_and_back(whole, drawn).mask
        assert dice(mask > 0, drawn.mask > 0) > self.near
        if self.plan.shows(drawn.geometry).all():
            assert whole.canvas_shape(drawn.geometry) == self.plan.canvas_shape(drawn.geometry)

    def test_blocks_may_be_of_any_size_and_come_in_any_order(self, drawn: Drawn) -> None:
        one, other = (
            self._there_and_back(self.plan, drawn, block=block, seed=seed, keep=True)
            for block, seed in ((5, 0), (2, 1))
        )
        assert one.probabilities is not None
        assert other.probabilities is not None
        assert np.allclose(one.probabilities, other.probabilities, atol=2e-3)
        # Of two classes that are as likely the sums of patches, in whatever order, may prefer either.
        ordered = np.sort(one.probabilities.astype(np.float32), axis=0)
        clear = ordered[-1] - ordered[-2] > 0.01
        assert clear.mean() > 0.5
        assert np.array_equal(one.mask[clear], other.mask[clear])

    def test_probabilities_are_kept_where_they_are_wanted_and_are_those_of_the_mask(self, drawn: Drawn) -> None:
        assert self._there_and_back(self.plan, drawn).probabilities is None
        kept = self._there_and_back(self.plan, drawn, keep=True)
        probs = kept.probabilities
        assert probs is not None
        assert probs.shape == (3, *drawn.mask.shape)
        assert probs.dtype == np.float16
        assert np.allclose(probs.astype(np.float32).sum(axis=0), 1, atol=3e-3)
        ordered = np.sort(probs.astype(np.float32), axis=0)
        clear = ordered[-1] - ordered[-2] > 0.01
        assert np.array_equal(probs.argmax(axis=0)[clear], kept.mask[clear])

    def test_the_mask_is_what_decoding_makes_of_every_voxel(self, drawn: Drawn) -> None:
        def decode(probs: np.ndarray) -> np.ndarray:
            return np.full((len(probs), *probs.shape[2:]), 300, np.uint16)

        mask = self._there_and_back(self.plan, drawn, decode=decode).mask
        assert mask.dtype == np.uint16
        assert (mask == 300).all()

    def test_where_the_canvas_holds_all_of_a_scan_nothing_is_cut_off(self, drawn: Drawn) -> None:
        whole = self.plan.covering(drawn.geometry)
        for value in (0, 1):
            filled = Drawn(drawn.geometry, np.full_like(drawn.mask, value))
            assert not self._there_and_back(whole, filled).is_cut_off

    def test_pictures_of_a_scan_of_one_slice_are_of_that_slice(self, drawn: Drawn) -> None:
        thin = [axis for axis, side in enumerate(drawn.mask.shape) if side == 1]
        assert self.plan.viewing_axis_of(drawn.mask.shape) == (thin[0] if thin else self.plan.viewing_axis)
        assert self.plan.picture_axes_of(drawn.mask.shape) == (tuple(thin) or self.plan.picture_axes)

    def test_the_store_has_the_patches_of_the_plan(self, tmp_path: Path) -> None:
        plan, scans = self.plan, [draw(*grid) for grid in self.grids]
        canvases = [plan.to_canvas(scan.mask.astype(np.float32), scan.geometry)[None] for scan in scans]
        labels = [plan.labels_to_canvas(scan.mask, scan.geometry) for scan in scans]
        shapes = [plan.canvas_shape(scan.geometry) for scan in scans]
        cases = [StoredCase(f"case_{n}", f"case_{n}", shape, labelled=True) for n, shape in enumerate(shapes)]
        write_cache(tmp_path, cases, 1, lambda n: (canvases[n], labels[n]))
        store = plan.store(tmp_path, torch.device("cpu"))
        patches = store.patches[:]
        assert store.patch == plan.patch
        for number, (canvas, label) in enumerate(zip(canvases, labels, strict=True)):
            own = patches[patches.case == number]
            assert np.array_equal(own.start, plan.starts(shapes[number]))
            assert np.array_equal(store.images(own).numpy(), cut(canvas.astype(np.float16), own.start, plan.size))
            assert np.array_equal(store.labels(own).numpy(), cut(label[None], own.start, plan.size)[:, 0])

    def _there_and_back(
        self, plan: Plan, drawn: Drawn, *, block: int = 5, seed: int = 0, keep: bool = False, decode: Decode = largest
    ) -> Assembled:
        """What a network that knows the labels on the canvas makes of a scan."""
        canvas = plan.labels_to_canvas(drawn.mask, drawn.geometry)
        assembler = plan.assembler(drawn.geometry, decode, keep_probabilities=keep)
        for starts in _shuffled(plan.starts(plan.canvas_shape(drawn.geometry)), block, seed):
            labels = cut(canvas[None], starts, plan.size)
            classes = np.arange(3).reshape(-1, *(1,) * plan.ndim)
            assembler.add(0.96 * (labels == classes).astype(np.float32) + np.float32(0.04 / 3), starts)
        return assembler.finish()


def multiples_of(step: int) -> Divisors:
    """Divisors of a network whose sides are multiples of one number along every axis, whatever the sides are.

    Args:
        step: Number that all sides are multiples of, at least 1.
    """
    return lambda sides, _: (step,) * len(sides)


def _shuffled(starts: np.ndarray, block: int, seed: int) -> Iterator[np.ndarray]:
    order = np.random.default_rng(seed).permutation(len(starts))
    for first in range(0, len(order), block):
        yield starts[order[first : first + block]]


def frozen(array: np.ndarray) -> np.ndarray:
    """The array, which nobody may write to."""
    array.flags.writeable = False
    return array


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice of two masks; 1 where both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0
