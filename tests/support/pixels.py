"""Whether a run holds pixels of a scan: rows of them, searched for in all that its files hold."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

# Rows of background or of saturated pixels are everywhere.
FEWEST_DIFFERENT = 16


def contents(run: Path) -> bytes:
    """All that a run's files hold, archives unpacked."""
    parts = []
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                parts += [archive.read(name) for name in archive.namelist()]
        parts.append(path.read_bytes())
    return b"|".join(parts)


def telling_rows(images: Iterable[np.ndarray]) -> list[bytes]:
    """Rows of images, along their last axis, as their files hold them; those that nothing else looks like."""
    rows = [row.tobytes() for image in images for row in image.reshape(-1, image.shape[-1])]
    return [row for row in rows if len(set(row)) > FEWEST_DIFFERENT]
