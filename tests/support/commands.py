"""fewscan as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What `fewscan ARGUMENTS` says, and its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "fewscan", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def printed(*arguments: object) -> Any:
    """What `fewscan ARGUMENTS --json` prints."""
    done = command(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
