"""Recorded work of a process of its own: `python -m support.drivers RECORDS WORK EXECUTOR [HOW]`; says the results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fewscan.work.base import Executor, cut
from fewscan.work.leases import Leases
from fewscan.work.processes import Processes
from fewscan.work.ray_cluster import Ray
from fewscan.work.records import Records, key_of, run_recorded
from fewscan.work.serial import Serial
from support.workers import Squares

EXECUTORS: dict[str, Executor] = {
    "serial": Serial(),
    "processes": Processes(2),
    "shared": Serial(),
    "ray": Ray(os.environ.get("FEWSCAN_TEST_CLUSTER"), 2),
}


def drive(records: Path, work: Squares, name: str, stamps: Mapping[int, int] | None = None) -> list[Any]:
    """Squares of 0 to 19 in shards of 4, kept in a folder; the stamps of numbers are a part of the keys."""
    shards = cut(range(20), 4)
    keys = [key_of([(item, (stamps or {}).get(item, 0)) for item in shard.items]) for shard in shards]
    with Leases(records / "leases") if name == "shared" else nullcontext() as leases:
        done = run_recorded(EXECUTORS[name], work, shards, keys, Records(records), leases=leases)
        found = {shard.number: results for shard, results in done}
    return [result for number in sorted(found) for result in found[number]]


def start(records: Path, work: Path, name: str, **how: Any) -> subprocess.Popen[str]:
    """A process that does it."""
    return subprocess.Popen(
        [sys.executable, "-m", "support.drivers", records, work, name, json.dumps(how)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        text=True,
    )


if __name__ == "__main__":
    given = Squares(Path(sys.argv[2]), **json.loads(sys.argv[4]))
    sys.stdout.write(json.dumps(drive(Path(sys.argv[1]), given, sys.argv[3])))
