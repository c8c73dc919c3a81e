"""Who holds what, and when it is taken for lost."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from fewscan.work import leases as leasing
from fewscan.work.leases import ENDING, SECONDS_UNTIL_LOST, Leases


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "leases"


def of_another(folder: Path, host: str, pid: int, seconds_ago: float) -> Path:
    path = folder / f"a{ENDING}"
    path.write_text(json.dumps({"host": host, "pid": pid}))
    then = path.stat().st_mtime - seconds_ago
    os.utime(path, (then, then))
    return path


def test_one_of_two_gets_a_lease_until_it_is_given_back(folder: Path) -> None:
    with Leases(folder) as ours, Leases(folder) as theirs:
        assert ours.take("a")
        assert not theirs.take("a")
        assert theirs.take("b")
        ours.give_back("a")
        assert theirs.take("a")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("seconds_ago", "is_lost"), [(0, False), (SECONDS_UNTIL_LOST - 60, False), (SECONDS_UNTIL_LOST + 60, True)]
)
def test_a_lease_of_a_machine_that_nobody_hears_of_is_taken_over(
    folder: Path, seconds_ago: float, is_lost: bool
) -> None:
    with Leases(folder) as ours:
        of_another(folder, "elsewhere", os.getpid(), seconds_ago)
        assert ours.others() == ([] if is_lost else [f"process {os.getpid()} on elsewhere"])
        assert ours.take("a") == is_lost


def test_a_lease_of_a_dead_process_of_this_machine_is_taken_over_at_once(folder: Path) -> None:
    with Leases(folder) as ours:
        of_another(folder, socket.gethostname(), 999_999_999, 0)
        assert ours.take("a")


def test_a_lease_that_was_taken_over_a_moment_ago_is_left_to_its_holder(folder: Path) -> None:
    with Leases(folder) as ours:
        path = of_another(folder, "elsewhere", 1, 0)
        # It looked lost, and another has taken it over before this one did.
        assert not ours._remove_lost(path)
        assert json.loads(path.read_text())["host"] == "elsewhere"
        assert [found.name for found in folder.iterdir() if found.suffix == ENDING] == [path.name]


def test_leases_that_are_held_are_touched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leasing, "SECONDS_BETWEEN_TOUCHES", 0.01)
    with Leases(folder) as ours:
        ours.take("a")
        path = folder / f"a{ENDING}"
        os.utime(path, (0, 0))
        for _ in range(1000):
            if path.stat().st_mtime > 0:
                break
            ours._end.wait(0.01)
        assert path.stat().st_mtime > 0
