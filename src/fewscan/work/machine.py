"""How many processes a machine bears: as many as there are processors for them, and memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from heapq import nlargest
from pathlib import Path

from fewscan.io.files import FileStamp
from fewscan.memory import available_bytes

ROOT = Path("/")
# What a process takes before it has read a scan, PyTorch imported, and some of what it leaves behind, measured.
BASE_BYTES = 300 << 20
# Of a scan that is read, checked and brought to a canvas, or of a mask that is scored, per byte of its voxels. A CT of
# 16 bits takes 6.5, of normalising; a pair of masks of 8 bits with 30 classes takes 5, measured.
BYTES_PER_BYTE = 8
# Whose files are the largest is asked of all, what their voxels take of so many.
MOST_OPENED = 16
GZIP_END = 4


def count_processors(root: Path = ROOT) -> int:
    """Processors that this process may use: those it is bound to, and no more than its container is given time of.

    Args:
        root: Root of the file system that has sys/; another one in tests.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(root / "sys" / "fs" / "cgroup")
    return bound if quota is None else max(1, min(bound, int(quota)))


def _quota(group: Path) -> float | None:
    """The processors of a container, which sees its own control group as the topmost one; None: no limit is set."""
    try:
        # Version 2 in one file, version 1 in two.
        if (group / "cpu.max").is_file():
            allowed, period = (group / "cpu.max").read_text().split()
        else:
            allowed, period = ((group / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(allowed) / float(period) if float(allowed) > 0 else None
    except (OSError, ValueError):
        # There is no control group, or it says "max".
        return None


def needed_bytes(files: Iterable[Path]) -> int:
    """Memory that a process may take which reads one of some files after the other.

    Args:
        files: Paths of scans, which need not be there.
    """
    largest = nlargest(MOST_OPENED, ((_size(path), path) for path in files))
    return BASE_BYTES + BYTES_PER_BYTE * max((_unpacked(size, path) for size, path in largest), default=0)


def _unpacked(size: int, path: Path) -> int:
    """The size of a file's content: of one that gzip has packed it stands in its last four bytes, modulo 4 GiB."""
    if path.suffix != ".gz" or size < GZIP_END:
        return size
    try:
        with path.open("rb") as file:
            file.seek(-GZIP_END, os.SEEK_END)
            return max(size, int.from_bytes(file.read(GZIP_END), "little"))
    except OSError:
        return size


def _size(path: Path) -> int:
    try:
        return FileStamp.of(path).size
    except OSError:
        return 0


def count_workers(files: Iterable[Path]) -> int:
    """Processes that read files at the same time: as many as there are processors, and as memory suffices for.

    Args:
        files: Paths of scans, each of which one of the processes reads.
    """
    return max(1, min(count_processors(), available_bytes() // needed_bytes(files)))
