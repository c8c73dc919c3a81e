"""What is exported: a finished run, as every target is given it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fewscan.inference.model import ModelCard
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.run_folder import RunFolder
from fewscan.terminal.console import Reporter


@dataclass(frozen=True)
class Source:
    """A finished run, read.

    Attributes:
        run: Folder of the run.
        networks: Networks whose probabilities are averaged, one or that of each fold, on the CPU.
        card: Description that all of the networks share.
        dataset: Folder of the run's data set, where it was moved; None: where the run says that it was.
        reporter: Reporter that says what a user should know.
    """

    run: RunFolder
    networks: tuple[SegmentationNetwork, ...]
    card: ModelCard
    dataset: Path | None
    reporter: Reporter


# What a target does: it writes its files into an empty folder, and gives back a text in Markdown for its README.md, on
# how they are used.
Export = Callable[[Source, Path], str]
