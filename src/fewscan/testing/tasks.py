"""What every task owes training and prediction, as tests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from fewscan.augment.targets import MOST_OBJECTS
from fewscan.classes import IGNORED
from fewscan.evaluation.families import is_share
from fewscan.io.geometry import Geometry
from fewscan.io.scans import write_scan
from fewscan.registry import TASKS
from fewscan.tasks.base import Task

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


class TaskContract(ABC):
    """The contract of `Task`: subclass it as `Test...`, and write `make` and `labels`.

        class TestMine(TaskContract):
            name = "mine"

    Attributes:
        name: Name in `registry.TASKS`.
        sizes: Sides of the labels that are tried, each two or three numbers.
    """

    name: ClassVar[str]
    sizes: ClassVar[tuple[tuple[int, ...], ...]] = ((24, 32), (8, 16, 16))

    @abstractmethod
    def make(self) -> Task:
        """The task, for classes of its own."""

    @abstractmethod
    def labels(self, size: tuple[int, ...]) -> np.ndarray:
        """Labels (b, *size) of at least two images, numbers inside, all of them known.

        Args:
            size: Sides of an image.
        """

    def assert_same(self, found: np.ndarray, labels: np.ndarray) -> None:
        """A mask says the same as labels; a task whose numbers mean nothing by themselves writes its own."""
        assert np.array_equal(found, labels)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Every test of labels for every size."""
        if "size" in metafunc.fixturenames:
            metafunc.parametrize("size", self.sizes)

    def test_it_is_registered(self) -> None:
        assert TASKS.find(self.name) is type(self.make())

    def test_outputs_have_names_and_some_are_watched(self) -> None:
        task = self.make()
        assert len(set(task.output_names)) == task.outputs
        assert task.watched
        assert all(0 < number < task.outputs for numbers in task.watched.values() for number in numbers)

    def test_numbers_of_masks_are_those_inside_and_back(self, size: tuple[int, ...]) -> None:
        task, labels = self.make(), self.labels(size)
        classes = task.classes
        numbers = classes.from_inside(labels)
        assert not classes.unknown(numbers)
        assert classes.shown(numbers) <= set(classes.known)
        inside = classes.to_inside(numbers, "mask")
        assert inside.dtype == classes.dtype
        assert np.array_equal(inside, labels)
        kinds = classes.kinds(inside)
        assert np.array_equal(kinds > 0, inside > 0)
        assert kinds.max() < len(classes.names)
        colours = classes.colours(inside)
        assert colours.dtype == np.uint8
        assert np.array_equal(colours > 0, inside > 0)
        assert np.array_equal(classes.matched(inside, inside), inside)

    def test_targets_are_classes_of_the_outputs_with_weights_of_the_pixels(self, size: tuple[int, ...]) -> None:
        task, labels = self.make(), torch.from_numpy(self.labels(size)).long()
        before = labels.clone()
        target = task.encode(labels)
        assert torch.equal(labels, before)
        assert target.labels.shape == labels.shape
        assert not target.labels.is_floating_point()
        assert task.outputs >= 2
        assert 0 <= int(target.labels.min()) <= int(target.labels.max()) < task.outputs
        if target.weights is not None:
            assert target.weights.shape == labels.shape
            assert target.weights.isfinite().all()
            assert (target.weights >= 0).all()

    def test_what_is_ignored_teaches_nothing(self, size: tuple[int, ...]) -> None:
        labels = torch.from_numpy(self.labels(size)).long()
        ignored = torch.zeros_like(labels, dtype=torch.bool)
        ignored[:, size[0] // 2 :] = True
        target = self.make().encode(labels.masked_fill(ignored, IGNORED))
        taught = target.labels != IGNORED
        if target.weights is not None:
            taught &= target.weights > 0
        assert not taught[ignored].any()
        assert taught[~ignored].any()

    def test_images_are_encoded_and_decoded_one_by_one(self, size: tuple[int, ...]) -> None:
        task, labels = self.make(), torch.from_numpy(self.labels(size)).long()
        together, alone = task.encode(labels), [task.encode(labels[i : i + 1]) for i in range(len(labels))]
        assert torch.equal(together.labels, torch.cat([target.labels for target in alone]))
        if together.weights is not None:
            assert torch.equal(together.weights, torch.cat([t.weights for t in alone if t.weights is not None]))
        probs = self._certain(task, together.labels)
        decoded = task.decode(probs)
        assert np.array_equal(decoded, np.concatenate([task.decode(probs[i : i + 1]) for i in range(len(probs))]))

    def test_what_is_taught_perfectly_decodes_to_the_labels(self, size: tuple[int, ...]) -> None:
        task, labels = self.make(), self.labels(size)
        probs = self._certain(task, task.encode(torch.from_numpy(labels).long()).labels)
        before = probs.copy()
        decoded = task.decode(probs)
        assert np.array_equal(probs, before)
        assert np.issubdtype(decoded.dtype, np.integer)
        assert decoded.shape == labels.shape
        self.assert_same(decoded, labels)

    def test_objects_that_mixing_leaves_whole_are_numbered_as_labels_are(self, size: tuple[int, ...]) -> None:
        task = self.make()
        classes = task.encode(torch.from_numpy(self.labels(size)).long()).labels
        ignored = classes.clone()
        ignored[:, size[0] // 2 :] = IGNORED
        before = ignored.clone()
        found = task.find_objects(classes)
        if found is None:
            return
        assert found.shape == classes.shape
        assert not found.is_floating_point()
        assert 0 <= int(found.min()) <= int(found.max()) < MOST_OBJECTS
        assert not (found == IGNORED).any()
        assert float((task.encode(found).labels == classes).float().mean()) > 0.95
        of_known = task.find_objects(ignored)
        assert of_known is not None
        assert not of_known[ignored == IGNORED].any()
        assert torch.equal(ignored, before)

    def test_ways_to_decode_are_the_same_for_all_images_and_the_defaults_come_first(
        self, size: tuple[int, ...]
    ) -> None:
        task, labels = self.make(), self.labels(size)
        probs = self._certain(task, task.encode(torch.from_numpy(labels).long()).labels)
        ways = [task.try_decodings(probs[i], labels[i]) for i in range(2)]
        assert [way.decoding for way in ways[0]] == [way.decoding for way in ways[1]]
        assert bool(ways[0]) == task.leaves_decoding_open
        assert task.decoding == task.decodings()
        for tried in ways:
            assert all(type(way.decoding) is task.decodings and 0 <= way.score <= 1 for way in tried)
            # What is taught perfectly is found by the defaults.
            assert not tried or (tried[0].decoding == task.decodings() and tried[0].score == 1)
        if task.leaves_decoding_open:
            chosen = ways[0][-1].decoding
            again = type(task)(task.classes, task.decodings.model_validate(chosen.model_dump()))
            assert again.decoding == chosen
            assert again.decode(probs).shape == labels.shape

    def test_certain_background_decodes_to_nothing(self, size: tuple[int, ...]) -> None:
        task = self.make()
        assert not task.decode(self._certain(task, torch.zeros((2, *size), dtype=torch.long))).any()

    def test_a_mask_is_perfect_against_itself_and_worse_against_another(
        self, size: tuple[int, ...], tmp_path: Path
    ) -> None:
        task = self.make()
        first, *_ = self.labels(size)
        # A scan has three axes; a picture is a scan of one slice.
        volume = first.reshape((1,) * (3 - len(size)) + first.shape)
        grid = Geometry(volume.shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)
        paths = [tmp_path / name for name in ("mask.nii.gz", "half.nii.gz")]
        half = np.where(np.arange(volume.shape[-1]) < volume.shape[-1] // 2, volume, 0)
        for path, mask in zip(paths, (volume, half), strict=True):
            write_scan(path, task.classes.from_inside(mask), grid)
        itself, other = (task.score(paths[number], paths[0]) for number in (0, 1))
        nothing = task.score(None, paths[0])
        assert sorted(nothing) == sorted(itself) == sorted(other) == list(range(1, len(itself) + 1))
        for scores in itself.values():
            assert all(value == 1 for name, value in scores.values.items() if is_share(name))
        assert not any(
            value for s in nothing.values() for name, value in s.values.items() if name == task.metrics.headline
        )
        shares = [value for s in other.values() for name, value in s.values.items() if is_share(name)]
        assert any(value is not None and value < 1 for value in shares)

    def _certain(self, task: Task, classes: torch.Tensor) -> np.ndarray:
        """Probabilities (b, k, *size) of a network that is sure of classes (b, *size)."""
        sure = torch.nn.functional.one_hot(classes, task.outputs).movedim(-1, 1).float()
        probs: np.ndarray = (0.96 * sure + 0.04 / task.outputs).numpy()
        return probs
