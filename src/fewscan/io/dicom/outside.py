"""Pixels that GDCM has to unpack, in a process of its own: damaged ones end the process that they are unpacked in.

Of 600 files packed as JPEG 2000, JPEG-LS and lossless JPEG with a few bytes changed each, GDCM ended the process over
four within the first 150 of their kind; what the other libraries cannot read they refused. GDCM alone reads lossless
JPEG, in which most archives of hospitals pack.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fewscan.io.dicom.library import damaged_pixels

PLUGIN = "gdcm"
Wanted = tuple[Path, Sequence[int]]


def unpack_outside(files: Sequence[Wanted]) -> Iterator[np.ndarray]:
    """Unpack frames in another process.

    Args:
        files: Paths of files, each with the numbers of its frames that are wanted, from 0.

    Yields:
        Stored numbers (rows, columns) of each frame, in the order of the files and of their numbers.

    Raises:
        DataError: A file is damaged.
    """
    wanted = json.dumps([[str(path), list(frames)] for path, frames in files]).encode()
    # -P: a module of the current folder is not taken for one of ours.
    command = [sys.executable, "-P", "-m", __name__]
    done = subprocess.run(command, input=wanted, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    received = io.BytesIO(done.stdout)
    for path, frames in files:
        for _ in frames:
            try:
                yield np.load(received, allow_pickle=False)
            except (ValueError, EOFError):
                raise damaged_pixels(path) from None


def _unpack(wanted: bytes, out: BinaryIO) -> None:
    """What the other process does; whatever goes wrong ends it."""
    import pydicom
    from pydicom.pixels.utils import iter_pixels

    for path, frames in json.loads(wanted):
        file = pydicom.dcmread(path, force=True)
        for stored in iter_pixels(file, raw=True, indices=frames, decoding_plugin=PLUGIN):
            # Whole or not at all: what is cut within an array would be read as damaged all the same.
            whole = io.BytesIO()
            np.save(whole, stored, allow_pickle=False)
            out.write(whole.getvalue())
            out.flush()


if __name__ == "__main__":
    _unpack(sys.stdin.buffer.read(), sys.stdout.buffer)
