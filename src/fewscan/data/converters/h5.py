"""Arrays of HDF5 files, of which nothing is read but what lies in the file itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fewscan.errors import DataError
from fewscan.extras import require
from fewscan.io.refusals import COPY_AGAIN, DEFLATE_LARGEST_RATIO
from fewscan.memory import require_memory, too_large

# What h5py raises for files that are damaged, or of types that NumPy has not.
DAMAGED = (OSError, KeyError, RuntimeError, TypeError, ValueError, OverflowError)
# Some filters pack better than gzip; what is smaller than this does no harm.
SMALL = 64 << 20


def read_arrays(path: Path, names: Sequence[str], n_axes: int) -> list[np.ndarray]:
    """Read arrays of real numbers, all of one shape.

    Args:
        path: Path of an HDF5 file.
        names: Names of the data sets to read from the file.
        n_axes: Number of axes that each array has.

    Raises:
        DataError: The file is no HDF5 file or damaged, lacks an array, or has it elsewhere (links, external storage,
            virtual data sets); or an array is not of real numbers, has other axes, or is larger than its bytes can
            hold, or than memory.
        ConfigError: h5py is not installed.
    """
    h5py = require("h5py")

    if not path.is_file():
        raise DataError.of(path, "not a file", COPY_AGAIN)
    try:
        with h5py.File(path, "r") as file:
            arrays = [_read(path, file, name, n_axes) for name in names]
    except DAMAGED as error:
        reason = " ".join(str(error).split())
        raise DataError.of(path, f"not an h5 file with {' and '.join(names)} ({reason})", COPY_AGAIN) from None
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        told = ", ".join(f"{name} {array.shape}" for name, array in zip(names, arrays, strict=True))
        raise DataError.of(path, f"has arrays of different shapes: {told}", COPY_AGAIN)
    return arrays


def _read(path: Path, file: Any, name: str, n_axes: int) -> np.ndarray:
    h5py = require("h5py")
    # Not `name in file`, which follows a link to see whether something is at its end.
    if not file.id.links.exists(name.encode()):
        raise DataError.of(path, f'has no "{name}"', COPY_AGAIN)
    if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise DataError.of(path, f'"{name}" is a link to somewhere else', "Give files that hold their own pixels")
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise DataError.of(path, f'"{name}" is no array', COPY_AGAIN)
    if found.is_virtual or found.external:
        raise DataError.of(path, f'the pixels of "{name}" lie in another file', "Give files that hold their own pixels")
    if found.dtype.kind not in "biuf" or found.dtype.itemsize > 8:
        raise DataError.of(path, f'"{name}" is not of real numbers, but {found.dtype}', COPY_AGAIN)
    if found.ndim != n_axes or not found.size:
        raise DataError.of(path, f'"{name}" has the shape {found.shape}, not {n_axes} axes with pixels', COPY_AGAIN)
    wanted, stored = found.nbytes, found.id.get_storage_size()
    # What was never written takes no room in a file, and reads as a value that stands for all of it.
    if not stored or (wanted > SMALL and stored * DEFLATE_LARGEST_RATIO < wanted):
        raise DataError.of(path, f'"{name}" is to have {wanted} bytes, the file holds {stored} of it', COPY_AGAIN)
    require_memory(path, wanted)
    try:
        return np.asarray(found[()])
    except MemoryError:
        raise too_large(path, wanted) from None
