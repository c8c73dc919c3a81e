"""Faults of the machine while a command runs, told with what to do: no memory left, no room left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from fewscan.config import Config
from fewscan.errors import DataError, FewscanError, WriteError
from fewscan.methods.base import Stage

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
        FewscanError: The memory is not enough.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        where = "the GPU" if isinstance(error, torch.OutOfMemoryError) else "this machine"
        raise FewscanError(f"The memory of {where} is not enough. {remedy} ({_first_line(error)})") from None


@contextmanager
def explained_training(config: Config, stages: Sequence[Stage] = ()) -> Iterator[None]:
    """Turn faults of the machine into errors that say which setting to lower, or how to go on.

    Args:
        config: Settings of the training.
        stages: Stages whose batches may take the memory; none before the method is built.

    Raises:
        FewscanError: The memory is not enough.
        DataError: A file cannot be written.
    """
    try:
        with explained_memory(_smaller(config, stages)):
            yield
    except WriteError as error:
        then = "Then go on with --resume; all is kept that the last checkpoint holds"
        raise DataError.of(error.file, error.problem, f"{error.remedy}. {then}") from None


def _smaller(config: Config, stages: Sequence[Stage]) -> str:
    """What to lower, and from what: the batches that the method draws, the patches, the precision."""
    batches = [
        f"{stage.full_section(config.method)}.{kind}={images}"
        for stage in stages
        if stage.updates > 0
        for kind, images in (("labelled", stage.labelled), ("unlabelled", stage.unlabelled))
        if images > 0
    ]
    larger = [f"the batches ({', '.join(dict.fromkeys(batches))})"] if batches else []
    larger += config.plan.memory_settings
    remedies = [f"lower {' or '.join(larger)}"] if larger else []
    if config.precision != "bfloat16":
        remedies.append(f"set precision=bfloat16 (now {config.precision})")
    text = ", or ".join(remedies) or "take a machine with more memory"
    return f"{text[0].upper()}{text[1:]}, and train anew in another folder; with the same settings --resume goes on."


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
