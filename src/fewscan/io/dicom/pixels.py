"""The values of a series: unpacked slice by slice, scaled as each says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fewscan.errors import DataError
from fewscan.io.dicom.library import DAMAGED_PIXELS, guarded, read_whole
from fewscan.io.dicom.outside import PLUGIN, unpack_outside
from fewscan.io.dicom.series import Series
from fewscan.io.dicom.slices import Slice
from fewscan.io.refusals import COPY_AGAIN
from fewscan.memory import require_memory

if TYPE_CHECKING:
    from pydicom import FileDataset

# In the order of preference.
INTEGERS = (np.dtype(np.uint8), np.dtype(np.int16), np.dtype(np.uint16), np.dtype(np.int32))
Numbered = tuple[int, Slice]


def type_of(slices: Sequence[Slice]) -> np.dtype:
    """Give the type that values of slices are read as: integers where scaling leaves them whole, else float32.

    Args:
        slices: Slices of one scan.
    """
    whole = all(s.values.slope.is_integer() and s.values.intercept.is_integer() for s in slices)
    low, high = min(s.values.span[0] for s in slices), max(s.values.span[1] for s in slices)
    fits = [kind for kind in INTEGERS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max]
    return fits[0] if whole and fits else np.dtype(np.float32)


def read_values(path: Path, series: Series) -> np.ndarray:
    """Read the values of a series, (z, y, x) as stored.

    Args:
        path: Path of the scan, for the memory's error.
        series: Series that `read_series` has found at the path.

    Raises:
        DataError: Pixels are cut short or damaged, or memory does not suffice.
    """
    kind = type_of(series.slices)
    shape = (len(series.slices), *series.slices[0].shape)
    # As stored, in the canonical order, and a file with its pixels.
    require_memory(path, 3 * int(np.prod(shape)) * kind.itemsize)
    found = np.empty(shape, kind)
    numbered = sorted(enumerate(series.slices), key=lambda pair: (pair[1].path, pair[1].frame))
    outside: list[Numbered] = []
    for file, group in groupby(numbered, key=lambda pair: pair[1].path):
        wanted = list(group)
        whole = read_whole(file)
        if guarded(file, DAMAGED_PIXELS, lambda whole=whole: _plugin(whole)) == PLUGIN:  # type: ignore[misc]
            outside += wanted
        else:
            _fill(wanted, iter(_unpack(file, whole, wanted)), found)
    if outside:
        by_file = groupby(outside, key=lambda pair: pair[1].path)
        _fill(outside, unpack_outside([(file, [s.frame for _, s in group]) for file, group in by_file]), found)
    return found


def _plugin(whole: FileDataset) -> str:
    """The library that unpacks a file; none where nothing is packed, and that of another process where no other can."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import JPEGExtended12Bit

    syntax = whole.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return ""
    others = [name for name in get_decoder(syntax).available_plugins if name != PLUGIN]
    # Pillow takes it, and then not the twelve bits.
    beyond = syntax == JPEGExtended12Bit and whole.BitsStored > 8
    return PLUGIN if beyond or not others else others[0]


def _unpack(file: Path, whole: FileDataset, wanted: Sequence[Numbered]) -> list[np.ndarray]:
    from pydicom.pixels.utils import iter_pixels

    frames, plugin = [s.frame for _, s in wanted], _plugin(whole)
    return guarded(
        file,
        DAMAGED_PIXELS,
        lambda: list(iter_pixels(whole, raw=True, indices=frames, decoding_plugin=plugin)),
    )


def _fill(wanted: Sequence[Numbered], frames: Iterator[np.ndarray], found: np.ndarray) -> None:
    """Put stored numbers, scaled, to where they belong."""
    for (place, one), stored in zip(wanted, frames, strict=True):
        if stored.shape != one.shape or stored.dtype.newbyteorder("=") != one.values.kind:
            problem = f"its pixels are {stored.dtype} {stored.shape}, its header says otherwise"
            raise DataError.of(one.path, problem, COPY_AGAIN)
        found[place] = _scaled(stored, one, found.dtype)


def _scaled(stored: np.ndarray, one: Slice, kind: np.dtype) -> np.ndarray:
    values = one.values
    if values.slope == 1 and values.intercept == 0:
        return stored
    # In double precision, whose integers are exact as far as any scanner counts.
    scaled = stored * np.float64(values.slope) + values.intercept
    return scaled.astype(kind)
