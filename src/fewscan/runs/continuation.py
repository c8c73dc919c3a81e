"""Training that starts from a finished run: its weights, its plan and its classes, with other scans or more labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fewscan.classes import Classes
from fewscan.config import Config
from fewscan.data.cases import Case
from fewscan.data.exemplars import Exemplars
from fewscan.data.index import DatasetIndex
from fewscan.data.plans.base import Plan
from fewscan.data.split import Split
from fewscan.errors import ConfigError, DataError
from fewscan.inference.model import ModelCard, load_model, load_second, read_card
from fewscan.io.files import FileStamp, read_json, sha256_of, write_json
from fewscan.methods.base import Earlier, Method
from fewscan.registry import METHODS
from fewscan.run_folder import RunFolder
from fewscan.runs.dims import Dims, check_axes
from fewscan.words import abbreviate

# What a network has learnt is to be changed, not to be forgotten: a third of the learning rate, half of the updates.
LEARNING_RATE = 1 / 3
LENGTH = 1 / 2
# Settings that the earlier run has decided.
DECIDED = ("plan.", "network.")


@dataclass(frozen=True)
class Start:
    """A finished run that a training starts from.

    Attributes:
        run: Folder of the finished run.
        card: Card of its model, with its network and its plan.
        digest: SHA-256 of its weights.
    """

    run: RunFolder
    card: ModelCard
    digest: str

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Read what a finished run's model is; its weights are read once they are needed.

        Args:
            folder: Folder of the run.

        Raises:
            DataError: The folder is no finished run of one network.
        """
        run = RunFolder(folder)
        if run.state != "finished":
            found = "is unfinished" if run.state == "unfinished" else "holds no finished run"
            raise DataError.of(folder, found, "Give the folder of a finished `fewscan train` run")
        if len(run.parts) > 1:
            remedy = f"Give one of them, such as {run.parts[0]}, or train one network without --folds and give that"
            raise DataError.of(folder, f"is a run of {len(run.parts)} folds, a network each", remedy)
        card = read_card(folder)
        if card.located:
            problem = "looks where another model points, from which training cannot go on"
            raise DataError.of(folder, problem, "Train on all scans anew with --around, or continue a run without it")
        return cls(run, card, sha256_of(run.weights))

    def settings(self, config: Config, assignments: Sequence[str]) -> Config:
        """Give the settings of a training that starts from the run: its network, fewer and smaller updates.

        Args:
            config: Settings of a training from fresh weights, with the run's kind of plan.
            assignments: Changes to the recipe that the user has given, each `key=value`; what they name is left.

        Raises:
            ConfigError: The training is too short now for the method.
        """
        given = _named(assignments)
        optimiser, training = config.optimiser, config.training
        if "optimiser.learning_rate" not in given:
            rate = optimiser.learning_rate * LEARNING_RATE
            optimiser = optimiser.model_copy(update={"learning_rate": rate})
        if "training.updates" not in given:
            training = training.model_copy(update={"updates": max(1, round(training.updates * LENGTH))})
        changes = {"network": self.card.network, "optimiser": optimiser, "training": training}
        continued = config.model_copy(update=changes)
        continued.check_methods()
        return continued

    def plan(self, index: DatasetIndex) -> Plan:
        """Give the run's plan for another data set of its channels and classes.

        Args:
            index: Data set of the training that starts from the run.

        Raises:
            DataError: The data set has other channels, classes or another task; all that differs is named.
        """
        plan = self.card.plan
        differing = told_apart(plan, index)
        if differing:
            raise DataError.of(
                index.root / "dataset.json",
                f"{self.run} was trained for others: {'; '.join(differing)}",
                "Give a data set with the same names and numbers in the same order, or train anew without --continue",
            )
        return plan.model_copy(
            update={"dataset": index.name, "notes": (f"the plan of {self.run}",), "ceiling": {}, "turned": 0.0}
        )

    def give_weights(self, method: Method, name: str) -> None:
        """Let a method's networks start with the run's weights.

        The run's second network is given where the same method has trained it.

        Args:
            method: Method with fresh weights, of the settings of `settings`.
            name: Name of the method.

        Raises:
            ConfigError: The method's network is of another form than the run's.
        """
        device = next(method.parameters()).device
        ours = load_model(self.run.path, device)[0]
        seconds = load_second(self.run.path, self.card, device) if self.card.method == name else ()
        try:
            method.start_from(Earlier((*ours, *seconds), self.exemplars))
        except RuntimeError as error:
            raise ConfigError(
                f"--continue {self.run}: the method's network is of another form than that run's. Train with another "
                f"method, or anew. ({error})"
            ) from None

    @property
    def exemplars(self) -> Exemplars | None:
        """Patches of earlier sites that the run has kept; None: it has kept none.

        Raises:
            DataError: The file of them is damaged.
        """
        return Exemplars.load(self.run.memory) if self.run.memory.is_file() else None

    def to_json(self) -> dict[str, Any]:
        """What a run says of what it started from."""
        return {"run": str(self.run.path.resolve()), "dataset": self.card.plan.dataset, "sha256": self.digest}


def load_continued(dims: Dims, load: Callable[[str], Config], start: Start, assignments: Sequence[str]) -> Config:
    """Read and check the settings of a training that starts from a finished run.

    Args:
        dims: Axes of the network's input that were asked for, or auto.
        load: Function from a kind of plan to the settings.
        start: Finished run.
        assignments: Changes to the recipe that the user has given, each `key=value`.

    Raises:
        ConfigError: A setting is unknown or out of its range, or another number of axes or what the run has decided
            was asked for, or the method does not work on the run's kind of plan.
    """
    if dims not in ("auto", start.card.ndim):
        raise ConfigError(
            f"--continue {start.run}: its network has {start.card.ndim} dimensions, and --dims is {dims}."
        )
    decided = [name for name in _named(assignments) if name.startswith(DECIDED)]
    if decided:
        raise ConfigError(
            f"--continue {start.run}: {', '.join(decided)} cannot be set, network and plan are those of that run. "
            "Leave it out, or train anew."
        )
    config = start.settings(load(start.card.plan.kind), assignments)
    check_axes(config)
    return config


def may_lack_labels(method: str, start: Start | None, labelled: int | None) -> bool:
    """Whether a training can do without any label.

    Args:
        method: Name of the method.
        start: Finished run that it starts from; None: it starts from fresh weights.
        labelled: Number of labelled patients that was asked for; None: all.

    Raises:
        ConfigError: None was asked for, and the training needs some.
    """
    possible = start is not None and METHODS.find(method).continues_without_labels
    if labelled == 0 and not possible:
        who = "a training from fresh weights" if start is None else f"the method {method}"
        raise ConfigError(
            f"--labelled 0: {who} needs labels. Without any, train on from the run of another site (--continue RUN) "
            "with --method itl; or keep the labels of a patient (--labelled 1)."
        )
    return possible


def without_labels(config: Config) -> Config:
    """The settings of a training on scans of which none is labelled: no batch has a labelled patch.

    Args:
        config: Settings as they were given.
    """
    return config.model_copy(update={"training": config.training.model_copy(update={"labelled": 0})})


def held_out_cases(split: Split, folds: Sequence[Split]) -> tuple[Case, ...]:
    """Cases that a training is scored on: those of its validation, and those that its folds hold out.

    Args:
        split: Split of the training.
        folds: Splits of its folds; empty: there are none.
    """
    return (*split.val, *(case for fold in folds for case in fold.val))


def write_start(run: RunFolder, start: Start | None) -> None:
    """Write down what a new run starts from; nothing where it starts from fresh weights.

    Args:
        run: Folder of the new run.
        start: Finished run that it starts from; None: it starts from fresh weights.
    """
    # A start that was killed before all was written down may have started from elsewhere.
    run.start.unlink(missing_ok=True)
    if start is not None:
        write_json(run.start, start.to_json())


def check_start(run: RunFolder, start: Start | None) -> None:
    """Compare what a run was started from with what it is to go on with.

    Args:
        run: Folder of the run that goes on.
        start: Finished run that was named this time; None: none was.

    Raises:
        ConfigError: It was another one, or none.
    """
    found = read_json(run.start) if run.start.is_file() else None
    before = found.get("sha256") if isinstance(found, dict) else None
    now = start.digest if start is not None else None
    if before != now:
        told = f"from the weights of {found['run']}" if found else "from fresh weights"
        given = f"from {start.run}, whose weights are others" if start is not None else "from fresh weights"
        raise ConfigError(
            f"{run}: the run was started {told}, now {given}. Give the same --continue, or choose another folder."
        )


def _named(assignments: Sequence[str]) -> list[str]:
    return [assignment.partition("=")[0].strip() for assignment in assignments]


def refuse_known(run: RunFolder, index: DatasetIndex, held_out: Sequence[Case]) -> None:
    """Refuse to hold out scans whose labels have taught an earlier run, as far as its folder says whose they were.

    Args:
        run: Folder of the earlier run, or of its model alone.
        index: Data set of the training that takes something of it.
        held_out: Cases that are to be scored.

    Raises:
        DataError: The run has learnt from the label of a held-out case.
    """
    if not (run.splits.is_file() and run.files.is_file()):
        return
    taught = set(read_json(run.splits).get("train_labelled", ()))
    sizes = {name: stamp[0] for name, stamp in read_json(run.files).items()}
    known = [case.name for case in held_out if case.name in taught and _is_same(case, index.root, sizes)]
    if known:
        raise DataError.of(
            run.path,
            f"has learnt from labels that are to be held out now: {abbreviate(known)}",
            "Their scores would flatter: hold out others (splits.json), leave --folds out, or train anew",
        )


def _is_same(case: Case, root: Path, sizes: dict[str, int]) -> bool:
    """Whether a case's label is a file that the earlier run knew, by its place in the data set and its size."""
    if case.label is None:
        return False
    size = sizes.get(case.label.relative_to(root).as_posix())
    return size is not None and size == FileStamp.of(case.label)[0]


def told_apart(there: Plan | DatasetIndex, here: DatasetIndex) -> list[str]:
    """Say what a network and a data set, or two data sets, do not have in common though training needs it.

    Args:
        there: Plan of the network, or the first data set.
        here: The other data set.
    """
    before, now = _names(there, there.classes), _names(here, here.classes)
    return [
        f"{what}: {abbreviate(before[what]) or 'none'} there, {abbreviate(now[what]) or 'none'} here"
        for what in before
        if before[what] != now[what]
    ]


def _names(where: Plan | DatasetIndex, classes: Classes) -> dict[str, list[str]]:
    """All that a network and the data set that it is trained on must have alike."""
    return {
        "channels": list(where.channel_names),
        "classes": [f"{number} {name}" for name, number in zip(classes.names, classes.numbers, strict=True)],
        "ignored number": [str(classes.ignored)],
        "regions": [f"{region.name} {region.numbers}" for region in classes.regions],
        "task": [where.task],
    }
