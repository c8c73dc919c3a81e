"""Faults of the machine while a command runs, told with what to do: no memory left, no room left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fewscan.config import Config
from fewscan.errors import DataError, FewscanError, WriteError

# PyTorch has a class for a GPU's memory alone; on the CPU it raises RuntimeError with these words of its allocator.
CPU_ALLOCATOR = "DefaultCPUAllocator"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was asked for and not to be had."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and CPU_ALLOCATOR in str(error)


@contextmanager
def explained_memory(remedy: str) -> Iterator[None]:
    """Turn an error of the allocators into one that says what to do.

    Raises:
        FewscanError: the memory is not enough.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        where = "the GPU" if isinstance(error, torch.OutOfMemoryError) else "this machine"
        raise FewscanError(f"The memory of {where} is not enough. {remedy} ({_first_line(error)})") from None


@contextmanager
def explained_training(config: Config) -> Iterator[None]:
    """Turn faults of the machine into errors that say which setting to lower, or how to go on.

    Raises:
        FewscanError: the memory is not enough.
        DataError: a file cannot be written.
    """
    try:
        with explained_memory(_smaller(config)):
            yield
    except WriteError as error:
        raise DataError(f"{error} Then go on with --resume; all is kept that the last checkpoint holds.") from None


def _smaller(config: Config) -> str:
    """What to lower, and from what."""
    stages = config.stages.model_dump(by_alias=True)
    batches = [
        f"stages.{name}.{kind}={stage[kind]}" for name, stage in stages.items() for kind in stage if kind != "updates"
    ]
    return (
        f"Lower the batches ({', '.join(batches)}) or plan.size={config.plan.size}, or set precision=bfloat16 "
        f"(now {config.precision}), and train anew in another folder; with the same settings --resume goes on."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
