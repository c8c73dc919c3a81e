"""What a run's networks make of scans, shard by shard: the work of `fewscan suggest`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from fewscan.data.cases import Case
from fewscan.devices import choose_device
from fewscan.errors import DataError
from fewscan.inference.describe import Description, describe_cases
from fewscan.inference.model import ModelCard, load_model
from fewscan.inference.predictor import Predictor
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.run_folder import RunFolder
from fewscan.runs.locating import Locator, locator_of
from fewscan.runs.prediction import shards_of
from fewscan.terminal.console import Reporter
from fewscan.work.base import Crash, Executor, fill_in, in_order
from fewscan.work.serial import Serial


@dataclass(frozen=True)
class Describer:
    """A model that is ready to describe scans.

    Attributes:
        networks: Networks on the device.
        card: Description of the model.
        device: Device of the networks.
        locator: Model that points at the anatomy first; None: scans are seen around their middle.
    """

    networks: tuple[SegmentationNetwork, ...]
    card: ModelCard
    device: torch.device
    locator: Locator | None

    @classmethod
    def of(cls, run: Path, device: torch.device) -> Describer:
        """Load a model.

        Args:
            run: Folder of the run.
            device: Device to compute on.

        Raises:
            DataError: The run is not finished, or a file of it is damaged.
        """
        networks, card = load_model(run, device)
        return cls(networks, card, device, locator_of(RunFolder(run), card, device))


class Describing:
    """Work that describes scans; of each case it yields a description, or the error for which it is left out.

    Args:
        run: Folder of the run with the model.
        devices: Names of the devices, one for each worker in turns.
        describer: Model that this process has loaded; it stays here, others load their own.
    """

    def __init__(self, run: Path, devices: Sequence[str], describer: Describer | None = None) -> None:
        self.run, self.devices, self.describer = run, devices, describer

    def __reduce__(self) -> tuple[type[Describing], tuple[Path, Sequence[str]]]:
        return Describing, (self.run, self.devices)

    def open(self, worker: int) -> Callable[[Sequence[Case]], Iterator[Description | DataError]]:
        """Load the model, unless it is loaded here."""
        describer = self.describer
        if describer is None:
            describer = Describer.of(self.run, choose_device(self.devices[worker % len(self.devices)]))
        return partial(_describe, describer)


def _describe(describer: Describer, cases: Sequence[Case]) -> Iterator[Description | DataError]:
    """What there is of each case, in the order of the cases."""
    if describer.locator is not None:
        cases = describer.locator.look_around(cases)
    refused: dict[str, DataError] = {}

    def leave_out(case: Case, error: DataError) -> None:
        refused[case.name] = error

    card = describer.card
    found = describe_cases(Predictor(describer.networks), card.plan, cases, describer.device, leave_out, card.task)
    return fill_in([case.name for case in cases], found, refused.__getitem__)


def describe_scans(
    work: Describing, cases: Sequence[Case], reporter: Reporter, executor: Executor | None = None
) -> dict[str, Description]:
    """Describe scans by name; those that cannot be read are left out, and said.

    The shards are cut by the scans' names alone, and no batch of the network spans two, so that the same comes out
    whoever does it.

    Args:
        work: Work that describes them.
        cases: Cases whose images are read; their labels are not.
        reporter: Reporter that shows progress.
        executor: Executor of the work; None: this process.
    """
    with reporter.bar("describing training scans", len(cases)) as step:
        results = in_order((executor or Serial()).run(work, shards_of(cases), step))
    described = {}
    for case, result in zip(cases, results, strict=True):
        if isinstance(result, Description):
            described[case.name] = result
        else:
            fault = result.fault(case.images[0]) if isinstance(result, Crash) else result
            reporter.say(f"{case.name} is left out: {fault}")
    return described
