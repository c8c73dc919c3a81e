"""A run that looks where another one points: its masks say around what canvases are laid, in training and prediction.

Where the anatomy is a small part of the scans, a network that sees all of them spends most of its pixels on what is
none, and has coarse ones: on ACDC 93 % of the canvas is background (docs/experiments.md). A first, short training finds
the anatomy well enough to point at it; the second one shows it alone, in finer pixels.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewscan.data.cases import Case
from fewscan.data.foci import Foci, around, focus_of, write_foci
from fewscan.data.index import DatasetIndex
from fewscan.errors import ConfigError, DataError
from fewscan.inference.batches import ScanBlock
from fewscan.inference.model import CARD, WEIGHTS, ModelCard, load_model
from fewscan.inference.predict import predict_cases
from fewscan.inference.predictor import Predictor
from fewscan.io.files import atomic_path, make_folder, sha256_of
from fewscan.io.geometry import Geometry, Voxel
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.run_folder import MASK_ENDING, RunFolder
from fewscan.runs.continuation import refuse_known
from fewscan.terminal.console import Reporter

TEXT = "looking where the anatomy lies"


@dataclass(frozen=True)
class Locator:
    """A finished model whose masks point at the anatomy.

    Attributes:
        folder: Folder with the model.
        networks: Networks on the device.
        card: Description of the model.
        device: Device of the networks.
    """

    folder: Path
    networks: tuple[SegmentationNetwork, ...]
    card: ModelCard
    device: torch.device

    @classmethod
    def of(cls, folder: Path, device: torch.device) -> Locator:
        """Load a model.

        Args:
            folder: Folder of a finished run, or of a model that a run keeps for the purpose.
            device: Device to predict on.

        Raises:
            DataError: The run is not finished, has several networks or a locator of its own, or a file is damaged.
        """
        if len(parts := RunFolder(folder).parts) > 1:
            remedy = f"Give one of them, such as {parts[0]}"
            raise DataError.of(folder, f"is a run of {len(parts)} folds, a network each", remedy)
        networks, card = load_model(folder, device)
        if card.located:
            problem = "looks itself where another run points"
            raise DataError.of(folder, problem, "Give that one, or train one that sees all of the scans")
        return cls(folder, networks, card, device)

    def check(self, index: DatasetIndex, held_out: Sequence[Case]) -> None:
        """Refuse a data set whose scans the model cannot be shown, or where it has seen what is held out.

        Args:
            index: Data set.
            held_out: Validation and test cases.

        Raises:
            ConfigError: The data set has other channels than the model was trained on.
            DataError: The model has learnt from the label of a held-out case.
        """
        ours = self.card.plan.channel_names
        if ours != index.channel_names:
            raise ConfigError(
                f"--around {self.folder}: it was trained on the channels {', '.join(ours)}, and the scans of "
                f"{index.name} have {', '.join(index.channel_names)}. Train one on these scans."
            )
        refuse_known(RunFolder(self.folder), index, held_out)

    def find(self, cases: Sequence[Case], reporter: Reporter | None = None) -> Foci:
        """Predict scans, and find the middle of what is foreground; labels are not read.

        Args:
            cases: Cases whose images are read. One that cannot be read has no focus: whoever reads it next says why.
            reporter: Reporter that shows progress; None: nothing is shown.

        Returns:
            Foci by case name; none of a scan in which nothing was found.
        """
        watch = _Watch()
        with (
            tempfile.TemporaryDirectory(prefix="fewscan-") as folder,
            (reporter or Reporter(quiet=True)).bar(TEXT, len(cases)) as step,
        ):
            written = predict_cases(
                Predictor(self.networks),
                self.card.plan,
                around(cases, {}),
                Path(folder),
                self.device,
                MASK_ENDING,
                progress=step,
                on_refusal=_leave_to_the_next,
                observer=watch,
                postprocessing=self.card.postprocessing,
                decode=self.card.task.decode,
            )
            for _, path in written:
                # Of a hundred thousand scans no more than a few masks lie there at a time.
                path.unlink()
        return watch.foci

    def look_around(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Give cases the foci that are found in their scans.

        Args:
            cases: Cases whose images are read.
        """
        return around(cases, self.find(cases))


class _Watch:
    """Takes the focus of every mask."""

    def __init__(self) -> None:
        self.foci: dict[str, Voxel] = {}

    def on_block(self, predictor: Predictor, block: ScanBlock, probs: Tensor) -> None:
        """Probabilities say nothing that masks do not."""

    def on_mask(self, case: Case, mask: np.ndarray, geometry: Geometry) -> None:
        """Where its largest part lies."""
        del geometry
        focus = focus_of(mask)
        if focus is not None:
            self.foci[case.name] = focus


def _leave_to_the_next(case: Case, error: DataError) -> None:
    """The scan is read again, for the run itself, and its faults are said then."""


def keep_locator(run: RunFolder, locator: Locator | None, foci: Foci) -> None:
    """Copy a locator's model into a run, which needs it for every scan to come, beside what it has found.

    Args:
        run: Folder of a run that begins.
        locator: Locator that the run's cases have their foci from; None: they have none.
        foci: Foci by case name.

    Raises:
        WriteError: A file cannot be written.
    """
    # A start that was killed before all was written down may have left others.
    shutil.rmtree(run.locator, ignore_errors=True)
    run.foci.unlink(missing_ok=True)
    if locator is None:
        return
    make_folder(run.locator)
    write_foci(run.foci, foci)
    for name in (WEIGHTS, CARD):
        with atomic_path(run.locator / name) as beside:
            shutil.copyfile(locator.folder / name, beside)


def check_locator(run: RunFolder, folder: Path | None) -> None:
    """Compare an unfinished run's locator with the one that is asked for this time.

    Args:
        run: Folder of the unfinished run.
        folder: Folder of the run that is to point at the anatomy; None: none is.

    Raises:
        ConfigError: The run was started with another one.
    """
    before = _digest(run.locator) if run.locator.is_dir() else None
    now = _digest(folder) if folder is not None else None
    if before == now:
        return
    if before is None:
        was = "without --around"
    else:
        was = "with --around" if now is None else "with --around and another model"
    raise ConfigError(f"{run}: the run was started {was}. Give the same --around, or choose another folder.")


def locator_of(run: RunFolder, card: ModelCard, device: torch.device) -> Locator | None:
    """Load the locator that a run keeps.

    Args:
        run: Folder of the run.
        card: Description of its model.
        device: Device to predict on.

    Returns:
        The locator; None: the run sees scans around their middle.

    Raises:
        DataError: It is not there, or a file of it is damaged.
    """
    if not card.located:
        return None
    if not run.locator.is_dir():
        problem = "not there, and without it nobody knows where in a scan this model has to look"
        raise DataError.of(
            run.locator, problem, "Take the whole folder of the run; of a fold, give the run of all folds"
        )
    return Locator.of(run.locator, device)


def _digest(folder: Path) -> str:
    path = folder / WEIGHTS
    if not path.is_file():
        raise DataError.of(folder, "holds no finished run", "Give the folder of a finished `fewscan train` run")
    return sha256_of(path)
