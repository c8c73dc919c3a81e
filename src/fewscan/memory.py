"""Memory that may still be taken: what the machine has left, within what its containers (control groups) allow.

Of a scan that does not fit the system tells nobody: it promises the memory and ends the process once it is used.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fewscan.errors import DataError

ROOT = Path("/")
# What the process itself goes on to need: stacks, buffers, the network's work on a few slices.
RESERVE = 64 << 20
WHAT_HELPS = "Crop it, or give this process more memory"


@dataclass(frozen=True)
class Files:
    """The names under which one version of control groups says what memory is allowed and used.

    Attributes:
        limit: Name of the file with the number of bytes that are allowed, or the word "max".
        usage: Name of the file with the number of bytes that are used, page cache included.
        cache: Names of the lines of memory.stat for the page cache, which the system gives up before it ends a process.
    """

    limit: str
    usage: str
    cache: tuple[str, str]


VERSIONS = {
    "cgroup": Files(
        "memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")
    ),
    "cgroup2": Files("memory.max", "memory.current", ("inactive_file", "active_file")),
}  # fmt: skip


def available_bytes(root: Path = ROOT) -> int:
    """Memory that this process may still take without being ended for it; page cache counts as free.

    Args:
        root: Root of the file system that has proc/ and sys/; another one in tests.
    """
    return max(0, min((_machine_bytes(root), *_group_bytes(root))))


def require_memory(path: Path, wanted: int) -> None:
    """Refuse a scan that memory does not suffice for, before any is taken.

    Args:
        path: Path of the scan.
        wanted: Size of what reading the scan would take, in bytes.

    Raises:
        DataError: Less memory is free.
    """
    # The files of the system take 0.2 ms to read; nothing small is worth that.
    if wanted > RESERVE and wanted > (free := available_bytes() - RESERVE):
        raise too_large(path, wanted, max(free, 0))


def too_large(path: Path, wanted: int, free: int | None = None) -> DataError:
    """The error of a scan that memory does not suffice for."""
    left = "" if free is None else f", {free / 2**30:.1f} GiB are free"
    return DataError.of(
        path, f"too large for this machine's memory: reading it takes {wanted / 2**30:.1f} GiB{left}", WHAT_HELPS
    )


def _machine_bytes(root: Path) -> int:
    try:
        return 1024 * int(_table(root / "proc" / "meminfo")["MemAvailable:"])
    except (OSError, KeyError, ValueError):
        return _mac_bytes()


def _mac_bytes() -> int:
    """Free memory of macOS, which no file says: free pages and those that it gives up first; else all of the memory."""
    try:
        said = subprocess.run(["vm_stat"], capture_output=True, text=True, check=True, timeout=5).stdout
        pages = re.findall(r"^Pages (?:free|inactive|speculative|purgeable): +(\d+)\.$", said, re.MULTILINE)
        size = re.search(r"page size of (\d+) bytes", said)
        if pages and size:
            return int(size[1]) * sum(map(int, pages))
    except (OSError, subprocess.SubprocessError):
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _group_bytes(root: Path) -> Iterator[int]:
    """What each of the control groups around this process still allows, the inner ones first."""
    for kind, folder, top in _groups(root):
        files = VERSIONS[kind]
        while True:
            left = _left(folder, files)
            if left is not None:
                yield left
            if folder == top:
                break
            folder = folder.parent


def _left(group: Path, files: Files) -> int | None:
    """None where the group sets no limit."""
    try:
        limit = (group / files.limit).read_text().strip()
        if limit == "max":
            return None
        stat = _table(group / "memory.stat")
        used = int((group / files.usage).read_text()) - sum(int(stat.get(name, 0)) for name in files.cache)
        return int(limit) - used
    except (OSError, ValueError):
        return None


def _groups(root: Path) -> Iterator[tuple[str, Path, Path]]:
    """Kind, folder and topmost folder of the groups of this process that count memory."""
    try:
        mounts = (root / "proc/self/mountinfo").read_text(errors="replace").splitlines()
        groups = (root / "proc/self/cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return
    paths = {}
    for number, controllers, path in (line.split(":", 2) for line in groups if line.count(":") >= 2):
        if number == "0" and not controllers:
            paths["cgroup2"] = path
        elif "memory" in controllers.split(","):
            paths["cgroup"] = path
    for line in mounts:
        before, _, after = line.partition(" - ")
        fields, (kind, *_, options) = before.split(), after.split() or [""]
        if kind in paths and (kind == "cgroup2" or "memory" in options.split(",")):
            top = root / fields[4].replace("\\040", " ").lstrip("/")
            yield kind, _below(top, fields[3], paths[kind]), top


def _below(top: Path, mounted: str, path: str) -> Path:
    """The group's folder; a container sees its own group as the topmost one, whatever its path says."""
    inner = PurePosixPath(path)
    relative = inner.relative_to(mounted) if inner.is_relative_to(mounted) else inner.relative_to("/")
    folder = top / relative
    return folder if ".." not in relative.parts and folder.is_dir() else top


def _table(path: Path) -> dict[str, str]:
    return {words[0]: words[1] for line in path.read_text().splitlines() if len(words := line.split()) > 1}
