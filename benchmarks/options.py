"""What a run of the benchmarks is asked for, and the training configuration that all parts share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch
import typer

from benchmarks.measure import alone
from fewscan.config import Config, load_config
from fewscan.devices import choose_device
from fewscan.errors import FewscanError

P = ParamSpec("P")
R = TypeVar("R")


def run_command(main: Callable[..., None]) -> None:
    """Run a command of the benchmarks; an error that a user can put right is one message and exit code 2."""
    try:
        typer.run(main)
    except FewscanError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


@dataclass(frozen=True)
class Options:
    """Settings of a run.

    Attributes:
        folder: for caches, models and masks; nothing in it is kept.
        sizes: sides of the square slices, in pixels.
        warm_up: repetitions that are not counted.
        repetitions: that are.
        threads: of PyTorch, on the CPU.
        device: auto, cpu, cuda, ...
        dense: also time the dense head and loss: a minute and 12 GiB at 256².
        cases: unlabelled cases of the memory part; ten times as many are compared with them.
        data: data set whose validation volumes are predicted; None draws volumes.
        run: run whose model predicts them; None takes an untrained network.
        precision: auto, float32 or bfloat16: of the networks' arithmetic in training.
        methods: whose steps are timed; empty: all that are registered.
        settings: `key=value` changes to the paper's recipe.
        scans: numbers of small scans of the scale part.
        own_process: Whether what is measured alone has a process of its own, without which its memory means nothing.
    """

    folder: Path
    sizes: tuple[int, ...] = (128, 256)
    warm_up: int = 2
    repetitions: int = 7
    threads: int = 2
    device: str = "cpu"
    dense: bool = True
    cases: int = 50
    data: Path | None = None
    run: Path | None = None
    precision: str = "auto"
    methods: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    scans: tuple[int, ...] = (1000, 10_000)
    own_process: bool = True

    @property
    def where(self) -> torch.device:
        """The device itself."""
        return choose_device(self.device)

    def alone(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function in a process of its own, with as many threads as are asked for."""
        if not self.own_process:
            return function(*args, **kwargs)
        return alone(self.threads, function, *args, **kwargs)

    def config(self, size: int, method: str = "action", settings: tuple[str, ...] = ()) -> Config:
        """The paper's recipe (method section 5) at a size, for a method, with further changes."""
        return load_config(
            "paper",
            (f"plan.size={size}", f"precision={self.precision}", *self.settings, *settings),
            self.where.type,
            method=method,
            seed=0,
        )
