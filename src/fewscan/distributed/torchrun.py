"""What torchrun says in its environment variables; imports nothing heavy."""

from __future__ import annotations

import os


def processes() -> int:
    """Number of processes that torchrun has started, on all machines; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def local_number() -> int:
    """This process's number on its machine."""
    return int(os.environ["LOCAL_RANK"])


def local_processes() -> int:
    """Number of those processes on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if processes() > 1 else 1
