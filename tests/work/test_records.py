"""What is done stays done, whoever did it and however that ended."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import pytest

from fewscan.work.records import CRASH, Records
from support.drivers import drive, start
from support.workers import Squares

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
NAMES = ["serial", "processes", "shared", pytest.param("ray", marks=[needs_ray, pytest.mark.slow])]
# Of these a killed worker is not the command.
WITH_WORKERS = ["processes", pytest.param("ray", marks=[needs_ray, pytest.mark.slow])]


@pytest.fixture
def work(tmp_path: Path) -> Squares:
    (tmp_path / "work").mkdir()
    return Squares(tmp_path / "work")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def expected(tmp_path: Path) -> list[Any]:
    (tmp_path / "expected-work").mkdir()
    return drive(tmp_path / "expected", Squares(tmp_path / "expected-work"), "serial")


def begun(work: Squares) -> list[int]:
    return [work.times(number) for number in range(20)]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_bytes_whoever_does_it_and_nothing_is_done_twice(
    tmp_path: Path, work: Squares, expected: list[Any], name: str
) -> None:
    assert drive(tmp_path / "records", work, name) == expected
    assert contents(tmp_path / "records") == contents(tmp_path / "expected")
    assert drive(tmp_path / "records", work, name) == expected
    assert begun(work) == [1] * 20


@pytest.mark.parametrize("name", NAMES)
def test_only_the_shard_of_a_file_that_changed_is_done_anew(tmp_path: Path, work: Squares, name: str) -> None:
    before = drive(tmp_path / "records", work, name)
    assert drive(tmp_path / "records", work, name, {6: 1}) == before
    assert begun(work) == [2 if 4 <= number < 8 else 1 for number in range(20)]


@pytest.mark.parametrize("name", WITH_WORKERS)
def test_a_killed_worker_changes_nothing(tmp_path: Path, work: Squares, expected: list[Any], name: str) -> None:
    assert drive(tmp_path / "records", Squares(work.folder, deadly_once=(5, 13)), name) == expected
    assert contents(tmp_path / "records") == contents(tmp_path / "expected")


@pytest.mark.parametrize("name", WITH_WORKERS)
def test_a_scan_that_always_kills_is_the_only_one_without_a_result(tmp_path: Path, work: Squares, name: str) -> None:
    found = drive(tmp_path / "records", Squares(work.folder, deadly=(6,)), name)
    assert [number for number, result in enumerate(found) if not isinstance(result, str)] == [6]
    assert set(found[6]) == {CRASH}
    # With more memory it may be another one's: then its shard is done anew, and no other.
    Records(tmp_path / "records").forget_crashes()
    before = begun(work)
    assert all(isinstance(result, str) for result in drive(tmp_path / "records", work, name))
    assert [now - then for now, then in zip(begun(work), before, strict=True)] == [
        int(4 <= number < 8) for number in range(20)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_after_a_killed_command_the_same_command_does_the_rest(
    tmp_path: Path, work: Squares, expected: list[Any], name: str
) -> None:
    records = Records(tmp_path / "records")
    with start(records.folder, work.folder, name, slow=0.1) as driver:
        wait_for(lambda: len(records.keys()) >= 2)
        driver.kill()
    done = len(records.keys())
    assert done < 5
    assert drive(records.folder, work, name) == expected
    assert contents(records.folder) == contents(tmp_path / "expected")
    # What is lost are the shards that were at work, one per worker.
    assert sum(begun(work)) <= 20 + 4 * 2


def test_two_machines_share_a_folder_and_each_does_a_part(tmp_path: Path, work: Squares, expected: list[Any]) -> None:
    folder = tmp_path / "records"
    drivers = [start(folder, work.folder, "shared", slow=0.1) for _ in range(2)]
    said = [json.loads(driver.communicate(timeout=120)[0]) for driver in drivers]
    assert said == [expected, expected]
    assert contents(folder) == contents(tmp_path / "expected")
    assert begun(work) == [1] * 20
    assert len({line.split()[1] for line in (work.folder / "opened").read_text().splitlines()}) == 2
    assert not list((folder / "leases").iterdir())


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
