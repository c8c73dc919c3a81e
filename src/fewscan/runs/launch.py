"""The start of a training of one or several processes: the first prepares it, then tells the others how to begin."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import BaseModel

from fewscan.config import Config, import_named
from fewscan.data.plans.kinds import AnyPlan
from fewscan.devices import choose_device, choose_own_device
from fewscan.distributed.collectives import joined, largest_over_ranks, rank, text_from_first
from fewscan.distributed.torchrun import local_number, processes
from fewscan.errors import FewscanError, Interrupted


class WorkerStart(BaseModel):
    """Message that lets a rank train with the others; the preprocessed scans and the checkpoint it reads itself.

    Attributes:
        config: Settings of the run, resolved.
        plan: Plan by which scans become input.
        checkpoint: File to go on from; None: from the start.
        fold: Number of the fold that is trained; None: the whole training.
        is_last: Whether nothing is trained after it.
        continued: Folder of the finished run whose weights training starts from; None: they are fresh.
        is_limited: Whether the time is limited, so that the first process changes the lengths of stages.
    """

    config: Config
    plan: AnyPlan
    checkpoint: Path | None
    fold: int | None = None
    is_last: bool = True
    is_limited: bool = False
    continued: Path | None = None


class Launch:
    """A process among those that train together; alone, it is the first.

    Args:
        device: Device of this process.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._has_ended = False

    @property
    def is_worker(self) -> bool:
        """Whether another process is the first."""
        return rank() > 0

    def broadcast_start(self, start: WorkerStart | None) -> None:
        """Let the workers begin; None: there is nothing to begin. Nothing is sent after None, or after a last start."""
        if not self._has_ended:
            self._has_ended = start is None or start.is_last
            text_from_first(start.model_dump_json(by_alias=True) if start is not None else "")

    def receive_start(self) -> WorkerStart | None:
        """Wait for what the first process sends."""
        text = text_from_first("")
        if not text:
            return None
        # The first process was given the same options as this one.
        import_named(json.loads(text)["config"])
        return WorkerStart.model_validate_json(text)


@contextmanager
def launched(device: str) -> Iterator[Launch]:
    """Join the processes that torchrun has started, or be the only one.

    Where the first one leaves before training, for good or by an error, so do the others.

    Args:
        device: Name of the device: "auto", "cpu", "cuda", ...; only a single process may be given a certain GPU.

    Raises:
        ConfigError: No such device is here.
        FewscanError: A step that the processes do together has failed; all but the first say which they are.
    """
    if processes() == 1:
        yield Launch(choose_device(device))
        return
    with joined(own := choose_own_device(device, local_number())):
        launch = Launch(own)
        try:
            yield launch
        except Interrupted as stop:
            # All ranks were interrupted after the same update; none goes before the first has tidied up.
            largest_over_ranks(0)
            if launch.is_worker:
                raise SystemExit(stop.code) from None
            raise
        except FewscanError as error:
            if launch.is_worker:
                raise FewscanError(f"process {rank()}: {error}") from error
            raise
        finally:
            if not launch.is_worker:
                launch.broadcast_start(None)
