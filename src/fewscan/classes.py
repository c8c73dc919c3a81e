"""The classes that dataset.json names: their numbers in masks, what is left out of everything, and regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fewscan.errors import DataError

# Inside, labels are uint8, and one number of it is what has no label.
IGNORED = 255
MOST_CLASSES = 255
LARGEST_NUMBER = np.iinfo(np.uint16).max
IGNORE = "ignore"
BACKGROUND = "background"
EXAMPLE = 'Write them as {"background": 0, "tumour": 1}'


@dataclass(frozen=True)
class Region:
    """Numbers in masks that are scored together under one name.

    Attributes:
        name: Name of the region in dataset.json.
        numbers: Numbers in masks that belong to the region.
    """

    name: str
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Classes:
    """Classes as they are trained, and as masks and users know them.

    Inside, classes are numbered 0 to k − 1 in the order of their numbers in masks, and `IGNORED` is what has no label.
    A task whose masks number something else derives a class from this one, and says what in `numbering`.

    Attributes:
        names: Class names by number inside, background first.
        numbers: Number in masks of each class, by number inside; rising from 0, perhaps with gaps.
        ignored: Number in masks of voxels that nobody has labelled: no loss, no score.
        regions: Regions of dataset.json, scored instead of the classes; empty: there are none.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    ignored: int | None = None
    regions: tuple[Region, ...] = ()

    @classmethod
    def consecutive(cls, names: Sequence[str]) -> Classes:
        """Classes whose numbers in masks are those inside."""
        return cls(tuple(names), tuple(range(len(names))))

    @property
    def scored(self) -> tuple[Region, ...]:
        """Regions that are scored: those of dataset.json, else every class but the background."""
        pairs = zip(self.names[1:], self.numbers[1:], strict=True)
        return self.regions or tuple(Region(name, (number,)) for name, number in pairs)

    @property
    def parts(self) -> tuple[tuple[int, ...], ...]:
        """The numbers inside of what is scored, in the order of `scored`."""
        return tuple(tuple(self.numbers.index(number) for number in region.numbers) for region in self.scored)

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers inside."""
        return np.dtype(np.uint8)

    @property
    def known(self) -> tuple[int, ...]:
        """All numbers that a mask may hold."""
        return self.numbers if self.ignored is None else (*self.numbers, self.ignored)

    def unknown(self, mask: np.ndarray) -> list[int]:
        """The numbers of a mask, whole ones of any type, that are no class; rising."""
        return [int(value) for value in np.setdiff1d(mask, self.known)]

    def describe(self) -> str:
        """The numbers that masks may hold, in words."""
        numbers = self.known
        if numbers == tuple(range(len(numbers))):
            return f"0 to {numbers[-1]}"
        first = ", ".join(map(str, numbers[:10]))
        return first if len(numbers) <= 10 else f"{first}, ... {numbers[-1]}"

    def shown(self, mask: np.ndarray) -> frozenset[int]:
        """The numbers of the classes that a mask shows, what is ignored and the background among them.

        Args:
            mask: Mask without unknown numbers, whole ones of any type.
        """
        return frozenset(int(value) for value in np.unique(mask))

    def kinds(self, inside: np.ndarray) -> np.ndarray:
        """The class of each voxel of a mask of numbers inside, uint8; `IGNORED` stays.

        Args:
            inside: Mask of any shape.
        """
        return inside

    def colours(self, inside: np.ndarray) -> np.ndarray:
        """Numbers, uint8, by which a mask of numbers inside is drawn, each in a colour of its own; 0: not at all.

        Args:
            inside: Mask of any shape in which nothing is ignored.
        """
        return inside

    @property
    def named(self) -> dict[int, str]:
        """What the numbers of masks stand for but the background; empty where they number objects."""
        return dict(zip(self.numbers[1:], self.names[1:], strict=True))

    @property
    def legend(self) -> tuple[str, ...]:
        """Names of the numbers that `colours` gives, background first; of the others there is nothing to say."""
        return self.names

    def matched(self, inside: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """A mask of numbers inside, in which what is found right has the same number as in the reference.

        Args:
            inside: Mask of any shape.
            reference: Mask of numbers inside, of the same shape.
        """
        del reference
        return inside

    def to_inside(self, mask: np.ndarray, where: str | Path) -> np.ndarray:
        """A mask of integers with the numbers inside, of `dtype`.

        Args:
            mask: Mask of any shape, with the user's numbers.
            where: Path of the mask, for the error.

        Raises:
            DataError: The mask holds a number that is no class.
        """
        if mask.size == 0:
            return mask.astype(np.uint8)
        table = np.full(max(self.known) + 1, -1, np.int16)
        table[list(self.numbers)] = np.arange(len(self.numbers))
        if self.ignored is not None:
            table[self.ignored] = IGNORED
        fits = mask.min() >= 0 and mask.max() < len(table)
        inside = table[mask] if fits else None
        if inside is None or inside.min() < 0:
            raise DataError.of(
                where,
                f"label values {self.unknown(mask)[:5]} are no classes ({self.describe()})",
                "Mend the mask, or add the classes to dataset.json",
            )
        return inside.astype(np.uint8)

    def from_inside(self, mask: np.ndarray) -> np.ndarray:
        """A mask of numbers inside with the user's numbers, in the smallest unsigned type that holds all of them."""
        kind = np.min_scalar_type(max(self.numbers))
        return (
            mask.astype(kind) if self.numbers == tuple(range(len(self.numbers))) else np.array(self.numbers, kind)[mask]
        )


def parse_classes(labels: Any, file: str | Path = "dataset.json") -> Classes:
    """Understand "labels" of dataset.json.

    nnU-Net writes {"background": 0, "tumour": 1, "ignore": 2}, with lists for regions; Decathlon writes
    {"0": "background", "1": "tumour"}. A background that is not named is added.

    Args:
        labels: Value of "labels", as JSON gives it.
        file: Path of the file that has the value, for the error.

    Raises:
        DataError: The value cannot be understood; the error says what to write.

    >>> classes = parse_classes({"0": "background", "2": "tumour"})
    >>> classes.names, classes.numbers
    (('background', 'tumour'), (0, 2))
    """
    try:
        return _understand(labels)
    except DataError as error:
        raise DataError([replace(fault, file=str(file)) for fault in error.faults]) from None


def _understand(labels: Any) -> Classes:
    if not isinstance(labels, Mapping) or not labels:
        raise DataError.of("dataset.json", 'no "labels"', EXAMPLE)
    named = {name: _numbers(name, value) for name, value in _by_name(labels)}
    ignored = _take_ignored(named)
    background = [name for name, numbers in named.items() if numbers == (0,)]
    if len(background) > 1:
        raise _refusal(f"has several names for 0: {', '.join(background)}", "Keep one")
    foreground = {name: numbers for name, numbers in named.items() if name not in background}
    _check_foreground(foreground, ignored)
    return _build(background[0] if background else BACKGROUND, foreground, ignored)


def _refusal(problem: str, remedy: str = EXAMPLE) -> DataError:
    return DataError.of("dataset.json", f'"labels" {problem}', remedy)


def _by_name(labels: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Names with their numbers, whichever way round they are written."""
    turned = all(isinstance(value, str) for value in labels.values()) and all(_is_number(key) for key in labels)
    pairs = [(value, key) if turned else (key, value) for key, value in labels.items()]
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise _refusal(f'has the name "{twice[0]}" more than once', "Give every class a name of its own")
    return pairs


def _is_number(text: str) -> bool:
    # Longer ones are beyond any label, and beyond what int() takes.
    return text.strip().isascii() and text.strip().isdecimal() and len(text.strip()) <= 10


def _numbers(name: str, value: Any) -> tuple[int, ...]:
    """A class's number, or a region's."""
    if isinstance(value, list):
        numbers = tuple(_number(name, part) for part in value)
        if not numbers or len(set(numbers)) < len(numbers):
            raise _refusal(f'has {value} for "{name}"', "A region is a list of different numbers, such as [1, 2]")
        return tuple(sorted(numbers))
    return (_number(name, value),)


def _number(name: str, value: Any) -> int:
    number = int(value) if isinstance(value, str) and _is_number(value) else value
    if isinstance(number, bool) or not isinstance(number, int):
        raise _refusal(f'has {value!r} for "{name}", which is not a whole number')
    if not 0 <= number <= LARGEST_NUMBER:
        raise _refusal(f'has {number} for "{name}"', f"Use numbers from 0 to {LARGEST_NUMBER}, in the masks too")
    return number


def _take_ignored(named: dict[str, tuple[int, ...]]) -> int | None:
    """The number of nnU-Net's "ignore", which is no class, taken out."""
    names = [name for name in named if name.strip().lower() == IGNORE]
    if not names:
        return None
    numbers = tuple(number for name in names for number in named.pop(name))
    if len(numbers) > 1 or numbers == (0,):
        raise _refusal(f'has {list(numbers)} for "{IGNORE}"', "It is one number above 0 that no class has")
    return numbers[0]


def _check_foreground(foreground: Mapping[str, tuple[int, ...]], ignored: int | None) -> None:
    if not foreground:
        raise _refusal("has no class but the background")
    for name, numbers in foreground.items():
        if not name.strip():
            raise _refusal(f"has a class without a name, {numbers[0]}", "Give it one")
        if 0 in numbers:
            raise _refusal(f'has 0 for "{name}" among {list(numbers)}', "0 is the background, take it out")
        if ignored in numbers:
            raise _refusal(f'has {ignored} for "{name}" and for "{IGNORE}"', "Give one of them another number")
    names: dict[tuple[int, ...], str] = {}
    for name, numbers in foreground.items():
        other = names.setdefault(numbers, name)
        if other != name:
            shown = numbers[0] if len(numbers) == 1 else list(numbers)
            raise _refusal(f'has {shown} for "{other}" and for "{name}"', "Give every class a number of its own")


def _build(background: str, foreground: Mapping[str, tuple[int, ...]], ignored: int | None) -> Classes:
    """Regions are trained by their parts, a class for each number."""
    single = {numbers[0]: name for name, numbers in foreground.items() if len(numbers) == 1}
    numbers = (0, *sorted({number for part in foreground.values() for number in part}))
    names = (background, *(single.get(number, f"label {number}") for number in numbers[1:]))
    if len(names) > MOST_CLASSES:
        raise _refusal(
            f"has {len(names)} classes, more than {MOST_CLASSES} (slices are kept with one byte for a label)",
            "Join classes, or train on parts of them",
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise _refusal(f'has the name "{twice[0]}" for two classes', "Give every class a name of its own")
    regions = tuple(Region(name, part) for name, part in foreground.items())
    return Classes(names, numbers, ignored, regions if len(single) < len(regions) else ())
