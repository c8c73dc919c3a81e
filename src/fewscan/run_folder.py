"""The names of all files that a run, its scores and a prediction leave, and what they say of the run's state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fewscan.data.cases import Case
from fewscan.engine.checkpoint import checkpoint_files, updates_done
from fewscan.inference.model import CARD, FOLDS, FOLDS_HELD_OUT, SECOND_WEIGHTS, WEIGHTS, part_folders
from fewscan.io.formats import mask_ending
from fewscan.io.scans import is_ours
from fewscan.tasks.tables import OBJECTS, PICTURES, VOLUMES

State = Literal["new", "unfinished", "finished"]

# Held-out masks are all written in one format, whatever the scans' own.
MASK_ENDING = ".nii.gz"
QUALITY_TABLE = "quality.csv"
PAGE = "report.html"
PROGRESS = ".progress"


@dataclass(frozen=True)
class Folder:
    """A folder whose files are known by name; it may be handed to whatever takes a path.

    Attributes:
        path: Path of the folder, which need not be there.
    """

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)


class ScoresFolder(Folder):
    """The scored masks of held-out cases: `validation/` of a run, or `test/` of a benchmark's run."""

    @property
    def summary(self) -> Path:
        """Scores of every case and class, and their means."""
        return self.path / "summary.json"

    @property
    def table(self) -> Path:
        """The same scores for spreadsheets, a row per case and class."""
        return self.path / "summary.csv"

    @property
    def quality(self) -> Path:
        """What the model thinks of each mask, with the true Dice beside it."""
        return self.path / QUALITY_TABLE

    @property
    def decodings(self) -> Path:
        """What ways to decode were tried on every case; only of tasks that leave some open."""
        return self.path / "decodings.json"

    def mask(self, case: str) -> Path:
        """The predicted mask of a case."""
        return self.path / f"{case}{MASK_ENDING}"

    def overlay(self, rank: str) -> Path:
        """The picture of the case that is worst, median or best."""
        return self.path / f"{rank}.png"


class RunFolder(Folder):
    """A run's folder: where each of its files lies, and how far the run has come.

    >>> run = RunFolder(Path("runs") / "first")
    >>> run.weights.name, run.validation.summary.relative_to(run.path).as_posix(), run.state
    ('model.safetensors', 'validation/summary.json', 'new')
    """

    @property
    def state(self) -> State:
        """How far the run has come: checkpoints are removed by what finishes it, once all else is written.

        A run that was stopped before all that it is made from was written down has not trained: it is new.
        """
        if not self.config.is_file():
            return "new"
        saved = bool(checkpoint_files(self.checkpoints))
        # The card of a run of folds comes last of all that it writes.
        is_trained = self.weights.is_file() or self.folds_held_out.is_file()
        if is_trained and self.card.is_file() and not saved:
            return "finished"
        return "unfinished" if saved or self.files.is_file() else "new"

    @property
    def updates_done(self) -> int:
        """Updates until the newest checkpoint; 0 without one."""
        return updates_done(self.checkpoints)

    # What the run is made from.

    @property
    def config(self) -> Path:
        """Every setting, the chosen method's written out."""
        return self.path / "config.yaml"

    @property
    def plan(self) -> Path:
        """How scans become input: axis, size, spacing, normalisation, classes, and why."""
        return self.path / "plan.json"

    @property
    def splits(self) -> Path:
        """Names of cases by role: `train_labelled`, `train_unlabelled`, `val`, `test`."""
        return self.path / "splits.json"

    @property
    def files(self) -> Path:
        """Size in bytes and time of change in ns of every file of the data set that training reads."""
        return self.path / "files.json"

    @property
    def start(self) -> Path:
        """The finished run whose weights training starts from, with their SHA-256; only a run with `--continue`."""
        return self.path / "start.json"

    @property
    def locator(self) -> Path:
        """The model that points at the anatomy in every scan; only a run with `--around`."""
        return self.path / "locator"

    @property
    def foci(self) -> Path:
        """Where that model has found the anatomy in the run's own scans; only a run with `--around`."""
        return self.path / "foci.json"

    @property
    def facts(self) -> tuple[Path, ...]:
        """The four files of what the run is made from, in the order in which they are written."""
        return self.config, self.plan, self.splits, self.files

    # While it trains.

    @property
    def time_limit(self) -> Path:
        """Seconds that the run may take, and has taken so far; only a run with `--max-time` has it."""
        return self.path / "max_time.json"

    @property
    def survey(self) -> Path:
        """What one reading of every scan has found: faults, grids, labels, intensities, small pictures."""
        return self.path / "survey.npz"

    @property
    def lock(self) -> Path:
        """Who is at work here: machine and processes of a training."""
        return self.path / "train.lock"

    @property
    def cache(self) -> Path:
        """The preprocessed scans, where no other folder was given for them."""
        return self.path / "cache"

    @property
    def checkpoints(self) -> Path:
        """States of the training to go on from; a finished run has none."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """The log: a JSON object per line, of training or of a validation."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """The log once more, where `logging.tensorboard` asks for it."""
        return self.path / "tensorboard"

    @property
    def progress(self) -> Path:
        """Curves of the log."""
        return self.path / "progress.png"

    @property
    def gallery(self) -> Path:
        """Pseudo-labels at a few times of training."""
        return self.path / "gallery"

    # What it comes to.

    @property
    def alarms(self) -> Path:
        """What training warned of; `[]`: nothing."""
        return self.path / "alarms.json"

    @property
    def weights(self) -> Path:
        """The network for prediction."""
        return self.path / WEIGHTS

    @property
    def all_weights(self) -> tuple[Path, ...]:
        """The networks for prediction: the one, or that of each fold."""
        return tuple(part.weights for part in self.parts)

    @property
    def second_weights(self) -> Path:
        """The method's other network; not there where the method has one only."""
        return self.path / SECOND_WEIGHTS

    @property
    def card(self) -> Path:
        """What the weights are: method, network, plan."""
        return self.path / CARD

    @property
    def memory(self) -> Path:
        """Preprocessed patches of this site and earlier ones, with labels; only a run with `--memory` has it."""
        return self.path / "memory.safetensors"

    @property
    def embedding(self) -> Path:
        """Features of validation pixels in the plane; not there without validation cases."""
        return self.path / "embedding.json"

    @property
    def quality(self) -> Path:
        """What the run knows about the quality of its own masks."""
        return self.path / "quality.json"

    @property
    def postprocessing(self) -> Path:
        """What was chosen of post-processing on held-out cases, and what it gained there."""
        return self.path / "postprocessing.json"

    @property
    def validation(self) -> ScoresFolder:
        """The validation cases, scored with the last weights."""
        return ScoresFolder(self.path / "validation")

    @property
    def test(self) -> ScoresFolder:
        """The test cases, scored when all of a benchmark's runs are done."""
        return ScoresFolder(self.path / "test")

    @property
    def scores(self) -> ScoresFolder:
        """The held-out cases: those of the validation, or of the folds where there is no validation."""
        is_of_folds = self.cross_validation.summary.is_file() and not self.validation.summary.is_file()
        return self.cross_validation if is_of_folds else self.validation

    @property
    def parts(self) -> tuple[RunFolder, ...]:
        """The runs that train a network each: this one, or those of its folds."""
        return tuple(RunFolder(folder) for folder in part_folders(self.path))

    # Of a run of folds alone.

    @property
    def folds_held_out(self) -> Path:
        """Names of the patients that each fold holds out; only a run of folds has it."""
        return self.path / FOLDS_HELD_OUT

    def fold(self, number: int) -> RunFolder:
        """The run of a fold.

        Args:
            number: Number of the fold, from 0.
        """
        return RunFolder(self.path / FOLDS / str(number))

    @property
    def cross_validation(self) -> ScoresFolder:
        """The labelled cases, each scored by the fold that has not seen its patient."""
        return ScoresFolder(self.path / "cross_validation")

    @property
    def provenance(self) -> Path:
        """What the run was made by, from and on."""
        return self.path / "provenance.json"

    @property
    def page(self) -> Path:
        """All of the above for people, in one HTML file."""
        return self.path / PAGE

    @property
    def suggestions(self) -> Path:
        """The patients to label next; not there until `fewscan suggest` was asked."""
        return self.path / "suggestions.json"

    # Of a benchmark's runs alone.

    @property
    def record(self) -> Path:
        """What a benchmark asked for and what it cost; written last."""
        return self.path / "run.json"

    @property
    def log(self) -> Path:
        """What `fewscan train` said."""
        return self.path / "log.txt"


@dataclass(frozen=True)
class PredictionFolder(Folder):
    """A folder that `fewscan predict` writes masks into.

    Attributes:
        ending: Ending of the masks; None: that of each scan, or of its masks.
        own: Names of files, relative to the folder, that are known to be a prediction's, as they lie elsewhere.
    """

    ending: str | None = None
    own: frozenset[str] = frozenset()

    @property
    def lock(self) -> Path:
        """Who is at work here: machine and processes of a prediction."""
        return self.path / "predict.lock"

    @property
    def progress(self) -> Path:
        """What is known of the scans that are done, by which a prediction goes on; it may be removed once all are."""
        return self.path / PROGRESS

    @property
    def quality(self) -> Path:
        """What the model thinks of each mask."""
        return self.path / QUALITY_TABLE

    @property
    def volumes(self) -> Path:
        """The volume of every class, or region, in each of the masks."""
        return self.path / VOLUMES

    @property
    def objects(self) -> Path:
        """Of objects that are told apart: size, form, place, brightness and score of each, in the place of volumes."""
        return self.path / OBJECTS

    @property
    def pictures(self) -> Path:
        """How many objects each picture shows, how densely they lie, and how large they are."""
        return self.path / PICTURES

    @property
    def label_descriptions(self) -> Path:
        """Names and colours of the masks' numbers for ITK-SNAP; of objects and of pictures there is none."""
        return self.path / "itksnap_labels.txt"

    @property
    def overlays(self) -> Path:
        """Pictures with the outlines of their objects, as PNG."""
        return self.path / "overlays"

    @property
    def tables(self) -> tuple[Path, ...]:
        """All tables that a prediction may leave, of whatever task."""
        return self.quality, self.volumes, self.objects, self.pictures

    def overlay(self, case: Case) -> Path:
        """The picture of a case with outlines, where its task has them."""
        return self.overlays / f"{case.name}.png"

    def is_own(self, path: Path) -> bool:
        """Whether a file of the folder is one that `fewscan predict` wrote."""
        return path.relative_to(self.path).as_posix() in self.own or is_ours(path)

    @property
    def failed(self) -> Path:
        """The scans that have no mask, and why, and what an earlier call left of them; not there if all have one."""
        return self.path / "failed.json"

    @property
    def page(self) -> Path:
        """The page of the masks, where `fewscan report` was asked for it."""
        return self.path / PAGE

    def mask(self, case: Case) -> Path:
        """A case's mask."""
        return self.path / f"{case.name}{self.ending or mask_ending(case.images[0])}"

    def probabilities(self, case: Case) -> Path:
        """A case's probabilities, where they were asked for."""
        return self.path / f"{case.name}.npz"
