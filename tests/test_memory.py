"""What memory is left, by made-up system files of containers of both versions, and scans that do not fit."""

import gzip
import os
import subprocess
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import nibabel
import numpy as np
import pytest
import torch

from fewscan import memory
from fewscan.data.check import check_images
from fewscan.data.store import free_bytes
from fewscan.errors import DataError
from fewscan.io.scans import read_scan
from fewscan.memory import available_bytes
from support.odd_scans import mha, nifti, nrrd

GIB = 1 << 30
MIB = 1 << 20
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file")
V2 = ("memory.max", "memory.current", "inactive_file", "active_file")


def machine(root: Path, cgroup: str = "", mounts: str = "", left: int = 8 * GIB) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 99999999 kB\nMemFree: 1 kB\nMemAvailable: {left // 1024} kB\n")
    (root / "proc/self/cgroup").write_text(cgroup)
    (root / "proc/self/mountinfo").write_text(mounts)
    return root


def group(folder: Path, names: Sequence[str], limit: int | str, usage: int, inactive: int = 0, active: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names[:2], (limit, usage), strict=True):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"cache 1\n{names[2]} {inactive}\n{names[3]} {active}\n")


MOUNT_1 = "33 24 0:28 {root} /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
MOUNT_2 = "30 24 0:26 {root} /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw\n"


def test_without_containers_it_is_what_the_machine_has_page_cache_included(tmp_path: Path) -> None:
    assert available_bytes(machine(tmp_path)) == 8 * GIB


def test_of_version_1_the_limit_less_what_is_used_without_page_cache(tmp_path: Path) -> None:
    root = machine(tmp_path, "9:cpu:/\n4:memory:/job\n0::/\n", MOUNT_1.format(root="/"))
    group(root / "sys/fs/cgroup/memory/job", V1, 2 * GIB, 1536 * MIB, 512 * MIB, 256 * MIB)
    assert available_bytes(root) == 2 * GIB - 768 * MIB


def test_of_version_2_the_narrowest_of_nested_groups(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/user/job/step\n", MOUNT_2.format(root="/"))
    groups = root / "sys/fs/cgroup"
    group(groups / "user/job/step", V2, "max", 100 * MIB)
    group(groups / "user/job", V2, 3 * GIB, GIB, 200 * MIB)
    group(groups / "user", V2, 6 * GIB, GIB)
    assert available_bytes(root) == 2 * GIB + 200 * MIB
    group(groups / "user", V2, GIB, 900 * MIB)
    assert available_bytes(root) == 124 * MIB


@pytest.mark.parametrize(
    ("cgroup", "mount", "folder", "names"),
    [
        ("4:memory:/docker/1234\n", MOUNT_1.format(root="/docker/1234"), "sys/fs/cgroup/memory", V1),
        ("4:memory:/docker/1234\n", MOUNT_1.format(root="/"), "sys/fs/cgroup/memory", V1),
        ("0::/\n", MOUNT_2.format(root="/"), "sys/fs/cgroup", V2),
        ("0::/../elsewhere\n", MOUNT_2.format(root="/"), "sys/fs/cgroup", V2),
    ],
)
def test_a_container_that_sees_its_own_group_as_the_topmost(
    tmp_path: Path, cgroup: str, mount: str, folder: str, names: tuple[str, str, str, str]
) -> None:
    root = machine(tmp_path, cgroup, mount)
    group(root / folder, names, GIB, 300 * MIB)
    assert available_bytes(root) == 724 * MIB


def test_a_group_of_both_versions_at_once_and_a_limit_that_is_none(tmp_path: Path) -> None:
    root = machine(tmp_path, "4:cpu,memory:/a\n0::/b\n", MOUNT_1.format(root="/") + MOUNT_2.format(root="/"))
    group(root / "sys/fs/cgroup/memory/a", V1, 9223372036854771712, GIB)
    group(root / "sys/fs/cgroup/b", V2, "max", GIB)
    assert available_bytes(root) == 8 * GIB


def test_more_used_than_allowed_leaves_nothing(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/\n", MOUNT_2.format(root="/"))
    group(root / "sys/fs/cgroup", V2, GIB, GIB + MIB)
    assert available_bytes(root) == 0


VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10000.
Pages active:                            200000.
Pages inactive:                           30000.
Pages speculative:                          500.
Pages purgeable:                            100.
"Translation faults":                 123456789.
"""


def test_macos_has_neither_avphys_pages_nor_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.sysconf

    def sysconf(name: str) -> int:
        if name == "SC_AVPHYS_PAGES":
            raise ValueError("unrecognized configuration name")
        return real(name)

    monkeypatch.setattr(os, "sysconf", sysconf)
    done = subprocess.CompletedProcess(["vm_stat"], 0, VM_STAT, "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert available_bytes(tmp_path) == 16384 * 40600
    assert free_bytes(torch.device("cpu")) > 0

    def missing(*_: object, **__: object) -> NoReturn:
        raise FileNotFoundError("vm_stat")

    monkeypatch.setattr(subprocess, "run", missing)
    assert available_bytes(tmp_path) == real("SC_PHYS_PAGES") * real("SC_PAGE_SIZE")


def _zeros(packer: "zlib._Compress", count: int) -> bytes:
    return b"".join(packer.compress(bytes(MIB)) for _ in range(count)) + packer.flush()


def _large(path: Path, mebibytes: int = 128) -> None:
    """A scan of zeros that packs well, in the format of the name."""
    sides = f"1024 1024 {mebibytes}"
    if path.name.endswith(".nii.gz"):
        start = nifti(np.zeros((2, 2, 2), np.uint8))[:352]
        header = bytearray(start)
        header[42:48] = np.array([1024, 1024, mebibytes], "<i2").tobytes()
        path.write_bytes(gzip.compress(bytes(header)) + _zeros(zlib.compressobj(9, zlib.DEFLATED, 31), mebibytes))
    elif path.suffix == ".nrrd":
        packed = _zeros(zlib.compressobj(9, zlib.DEFLATED, 31), mebibytes)
        path.write_bytes(nrrd(packed, sizes=sides, type="uchar", encoding="gzip"))
    else:
        packed = _zeros(zlib.compressobj(9), mebibytes)
        path.write_bytes(mha(packed, DimSize=sides, ElementType="MET_UCHAR", CompressedData="True"))


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_an_archive_that_unpacks_beyond_what_is_left_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    path = tmp_path / f"zeros{ending}"
    _large(path)
    assert path.stat().st_size < MIB
    monkeypatch.setattr(memory, "available_bytes", lambda: 200 * MIB)
    with pytest.raises(DataError, match=rf"zeros\{ending}: too large for .* GiB are free"):
        read_scan(path)
    (fault,) = check_images([path])
    assert fault.fatal
    assert "Crop it" in fault.remedy


def test_a_small_scan_is_read_whatever_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((8, 8, 8), np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    monkeypatch.setattr(memory, "available_bytes", lambda: 0)
    assert read_scan(tmp_path / "a.nii.gz").array.sum() == 512
