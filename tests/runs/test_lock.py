"""Locks: whose they are, and what becomes of those whose process is dead."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from fewscan.errors import DataError
from fewscan.io.files import read_json, write_json
from fewscan.runs.lock import acquire, acquired, add_holders, release
from support.known import known


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_lock_belongs_to_one(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    with acquired(lock) as mine:
        assert mine
        assert read_json(lock) == {"host": socket.gethostname(), "pids": [os.getpid()]}
        assert not acquire(lock)
        with acquired(lock) as second:
            assert not second
        assert lock.exists()
    assert not lock.exists()
    with pytest.raises(DataError, match="cannot be written"):
        acquire(tmp_path / "nowhere" / "run.lock")


def test_a_dead_lock_is_taken_over_on_this_machine_alone(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    write_json(lock, {"host": "elsewhere", "pids": [dead_pid()]})
    assert not acquire(lock)
    write_json(lock, {"host": socket.gethostname(), "pids": [dead_pid(), os.getpid()]})
    assert not acquire(lock)
    lock.write_text("")
    assert not acquire(lock)
    write_json(lock, {"host": socket.gethostname(), "pids": [dead_pid()]})
    assert acquire(lock)
    assert read_json(lock)["pids"] == [os.getpid()]
    add_holders(lock, 1)
    assert read_json(lock)["pids"] == [os.getpid(), 1]
    release(lock)
    assert list(tmp_path.iterdir()) == []


def test_a_process_killed_while_it_takes_a_dead_lock_over_leaves_the_lock_to_the_next(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    write_json(lock, {"host": socket.gethostname(), "pids": [dead_pid()]})
    code = f"""
import time
from pathlib import Path
from fewscan.runs import lock
lock.write_json = lambda path, holders: (print("taking", flush=True), time.sleep(60))
lock.acquire(Path({str(lock)!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert known(process.stdout).readline() == "taking\n"
    process.kill()
    process.communicate()
    assert acquire(lock)
    assert list(tmp_path.iterdir()) == [lock]


def test_one_of_many_takes_a_dead_lock_over(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    write_json(lock, {"host": socket.gethostname(), "pids": [dead_pid()]})
    code = f"""
import sys
from pathlib import Path
from fewscan.runs.lock import acquire
sys.stdin.readline()
print(acquire(Path({str(lock)!r})), flush=True)
sys.stdin.readline()
"""
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        known(process.stdin).write("go\n")
        known(process.stdin).flush()
    said = [known(process.stdout).readline().strip() for process in processes]
    for process in processes:
        process.communicate("end\n")
    assert sorted(said) == ["False", "False", "False", "True"]


def test_a_lock_is_made_with_its_holders_where_files_cannot_be_linked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: object, destination: object) -> NoReturn:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    lock = tmp_path / "run.lock"
    assert acquire(lock)
    assert not acquire(lock)
    assert read_json(lock)["pids"] == [os.getpid()]
    assert list(tmp_path.iterdir()) == [lock]
