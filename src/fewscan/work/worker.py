"""A process that works for another one: `python -c "from fewscan.work.worker import main; main(HANDLE)"`.

It is told what to import from where, what to do, and then shard after shard; it ends with the process that started it.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fewscan.registry import bring_parts, parts_from_outside

SECONDS_BETWEEN_LOOKS = 0.5


class Said(NamedTuple):
    """What a worker says.

    Attributes:
        what: "ready" for shards, "result" of an item, "done" with a shard, or "raised" an error.
        value: Result, or error.
    """

    what: Literal["ready", "result", "done", "raised"]
    value: Any = None


Surroundings = tuple[list[str], tuple[dict[str, str], ...]]


def surroundings() -> Surroundings:
    """What another process has to know to do work of this one: where modules are, and parts from outside fewscan.

    Raises:
        ConfigError: A part is of no module that another process could import.
    """
    # Parts that were loaded by name may lie in the current folder.
    return [*sys.path, str(Path.cwd())], parts_from_outside()


def main(handle: int) -> None:
    """Work until nothing comes any more.

    Args:
        handle: Number of the open socket to the process that started this one.
    """
    # Ctrl-C goes to all processes of a terminal: the one that started this one decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with Connection(handle) as boss:
        try:
            path, parts = boss.recv()
            sys.path[:] = path
            bring_parts(parts)
            number, work = boss.recv()
            doing = work.open(number)
            boss.send(Said("ready"))
            while (items := boss.recv()) is not None:
                for result in doing(items):
                    boss.send(Said("result", result))
                boss.send(Said("done"))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            # Nobody is there any more.
            return
        except Exception as error:
            boss.send(Said("raised", _picklable(error)))


def _picklable(error: Exception) -> Exception:
    """The error with where it was raised, or one that says so where it cannot be sent."""
    where = traceback.format_exc()
    error.add_note(where)
    try:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - it was pickled here
    except Exception:
        return RuntimeError(where)
    return error if type(again) is type(error) else RuntimeError(where)


def _end_with(parent: int) -> None:
    """End when the process is gone that started this one: of a killed command nothing shall go on writing."""
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)
