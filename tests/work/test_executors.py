"""Whoever does the work, the same comes out, and a killed worker is no end of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fewscan.errors import DataError, FewscanError, WriteError
from fewscan.work.base import Crash, Each, Executor, cut, in_order
from fewscan.work.processes import Processes
from fewscan.work.serial import Serial
from support.workers import Squares, Stillborn, no_room, refuse

SERIAL, PROCESSES = Serial(), Processes(2)
EXECUTORS = [pytest.param(SERIAL, id="serial"), pytest.param(PROCESSES, id="processes")]
KILLED = Crash("was killed by SIGKILL, as Linux does when memory runs out")


def squares(folder: Path, executor: Executor, **how: object) -> list[str | Crash]:
    folder.mkdir(exist_ok=True)
    return in_order(executor.run(Squares(folder, **how), cut(range(20), 4)))  # type: ignore[arg-type]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_results_are_the_same_and_progress_is_told_of_each_item_once(tmp_path: Path, executor: Executor) -> None:
    told: list[None] = []
    work = Squares(tmp_path)
    found = in_order(executor.run(work, cut(range(10), 4), lambda: told.append(None)))
    assert found == in_order(SERIAL.run(work, cut(range(10), 4)))
    assert found[5] == "5: 25, the first of 4 is 4"
    assert len(told) == 10


@pytest.mark.parametrize("executor", EXECUTORS)
def test_what_the_work_raises_ends_it_as_what_it_was(executor: Executor) -> None:
    with pytest.raises(DataError, match=r"three\.nii\.gz: is refused\. Take another"):
        list(executor.run(Each(refuse), cut(range(10), 2)))
    with pytest.raises(WriteError) as stopped:
        list(executor.run(Each(no_room), cut([1], 2)))
    assert stopped.value.stops_all


def test_a_worker_opens_its_work_once_and_not_without_a_shard(tmp_path: Path) -> None:
    assert squares(tmp_path, PROCESSES)
    assert sorted(line.split()[0] for line in (tmp_path / "opened").read_text().splitlines()) == ["0", "1"]
    (tmp_path / "opened").unlink()
    assert list(PROCESSES.run(Squares(tmp_path), [])) == list(SERIAL.run(Squares(tmp_path), [])) == []
    assert not (tmp_path / "opened").exists()


def test_a_killed_worker_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    told: list[None] = []
    work = Squares(tmp_path, deadly_once=(5, 13))
    found = in_order(PROCESSES.run(work, cut(range(20), 4), lambda: told.append(None)))
    assert found == squares(tmp_path / "other", SERIAL)
    assert len(told) == 20


def test_a_scan_that_always_kills_is_found_and_the_others_of_its_shard_are_done(tmp_path: Path) -> None:
    found = squares(tmp_path, PROCESSES, deadly=(6,))
    assert found[6] == KILLED
    assert [number for number, result in enumerate(found) if isinstance(result, Crash)] == [6]
    # Three times with its shard, once with its half, three times alone.
    assert Squares(tmp_path).times(6) == 7
    others = squares(tmp_path / "other", SERIAL)
    assert [result for number, result in enumerate(found) if number // 4 != 1] == [
        result for number, result in enumerate(others) if number // 4 != 1
    ]


def test_workers_that_end_before_they_begin_are_an_error_and_no_scan_s_fault() -> None:
    with pytest.raises(FewscanError, match=r"was killed by SIGKILL.* before they began"):
        list(PROCESSES.run(Stillborn(), cut(range(4), 2)))


def test_workers_end_with_a_killed_command(tmp_path: Path) -> None:
    code = (
        "from fewscan.work.base import cut; from fewscan.work.processes import Processes; from pathlib import Path;"
        f"from support.workers import Squares; list(Processes(2).run(Squares(Path({str(tmp_path)!r}), slow=30), "
        "cut(range(4), 1)))"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], env=path) as boss:
        deadline = time.monotonic() + 60
        while not ((tmp_path / "0").exists() and (tmp_path / "1").exists()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        workers = [line.split()[1] for line in (tmp_path / "opened").read_text().splitlines()]
        assert len(workers) == 2
        boss.kill()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_script_without_a_guard_is_not_run_again_by_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "from fewscan.work.base import cut; from fewscan.work.processes import Processes\n"
        "from pathlib import Path; from support.workers import Squares\n"
        f"print(len(list(Processes(2).run(Squares(Path({str(tmp_path)!r})), cut(range(4), 1)))))\n"
    )
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["once", "4"]
