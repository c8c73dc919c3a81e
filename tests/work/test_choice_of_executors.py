"""Who does the work, and how many of them a machine bears."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fewscan.errors import ConfigError
from fewscan.registry import FORMATS, bring_parts, parts_from_outside
from fewscan.work import automatic, machine
from fewscan.work.automatic import Automatic
from fewscan.work.base import Each, Executor, cut, in_order
from fewscan.work.choice import choose_executor
from fewscan.work.processes import Processes
from fewscan.work.serial import Serial
from support.clocks import Clock


@pytest.mark.parametrize(
    ("name", "workers", "expected"),
    [
        ("serial", None, Serial()),
        ("serial", 1, Serial()),
        ("auto", 1, Serial()),
        ("auto", 3, Processes(3)),
        ("processes", 1, Processes(1)),
        ("processes", 4, Processes(4)),
    ],
)
def test_a_number_of_workers_says_who_works(name: str, workers: int | None, expected: Executor) -> None:
    assert choose_executor(name, workers, []) == expected


@pytest.mark.parametrize(
    ("name", "workers", "words"),
    [("serial", 2, "it is one process"), ("auto", 0, "must be 1 or more"), ("dask", None, "must be auto, serial")],
)
def test_what_does_not_fit_is_refused(name: str, workers: int | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        choose_executor(name, workers, [])


def test_memory_decides_how_many_read_the_largest_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = tmp_path / "small.nii.gz", tmp_path / "large.nii.gz"
    small.write_bytes(gzip.compress(bytes(1000)))
    large.write_bytes(gzip.compress(bytes(100 << 20)))
    needed = machine.needed_bytes([small, large, tmp_path / "none.nii.gz"])
    assert needed == machine.BASE_BYTES + machine.BYTES_PER_BYTE * (100 << 20)
    monkeypatch.setattr(machine, "count_processors", lambda: 8)
    monkeypatch.setattr(machine, "available_bytes", lambda: 3 * needed + 1)
    assert machine.count_workers([small, large]) == 3
    assert machine.count_workers([small]) == 8
    monkeypatch.setattr(machine, "available_bytes", lambda: 0)
    assert machine.count_workers([small]) == 1


@pytest.mark.parametrize(
    ("files", "allowed"),
    [
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({}, 8),
    ],
)
def test_a_container_says_how_many_processors_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], allowed: int
) -> None:
    for name, content in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert machine.count_processors(tmp_path) == allowed


def absolute(number: int) -> int:
    return abs(number)


@pytest.mark.parametrize(("seconds", "is_helped"), [(0.1, False), (3, True)])
def test_others_help_where_much_is_left(monkeypatch: pytest.MonkeyPatch, seconds: float, is_helped: bool) -> None:
    clock = Clock()
    monkeypatch.setattr("fewscan.work.automatic.time.monotonic", clock)
    asked = []

    def count() -> int:
        asked.append(True)
        return 2

    def progress() -> None:
        clock.now += seconds

    found = in_order(Automatic(count).run(Each(absolute), cut(range(40), 2), progress))
    assert found == list(range(40))
    assert bool(asked) == is_helped


def test_parts_that_other_processes_cannot_import_keep_work_in_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Local:
        pass

    FORMATS.register(".local", Local) if FORMATS._base is None else FORMATS._targets.update({".local": Local})
    try:
        with pytest.raises(ConfigError, match=r"'\.local' is not known in other processes"):
            list(Processes(1).run(Each(absolute), cut([1], 1)))
        monkeypatch.setattr(automatic, "SECONDS_ALONE", -1)
        monkeypatch.setattr(automatic, "SECONDS_WORTH_IT", -1)
        assert len(list(Automatic(lambda: 2).run(Each(absolute), cut([1, 2, 3], 1)))) == 3
    finally:
        FORMATS.unregister(".local")


def test_parts_that_were_registered_are_known_in_other_processes() -> None:
    FORMATS.register(".brought", "fewscan.io.nifti:Nifti")
    try:
        parts = parts_from_outside()
    finally:
        FORMATS.unregister(".brought")
    bring_parts(parts)
    try:
        assert ".brought" in FORMATS
    finally:
        FORMATS.unregister(".brought")
