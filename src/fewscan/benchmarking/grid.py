"""The runs of a benchmark: their folders, what is done, and the records they leave."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from fewscan.config import Config, load_config
from fewscan.data.folds import FEWEST_PATIENTS, Folds, count_folds
from fewscan.data.index import DatasetIndex
from fewscan.data.split import Split, make_split
from fewscan.engine.log import read_log, with_names_of_now
from fewscan.errors import ConfigError, DataError
from fewscan.evaluation.arms import RunResult
from fewscan.io.files import read_json, write_json
from fewscan.registry import METHODS
from fewscan.run_folder import RunFolder, ScoresFolder, State
from fewscan.runs.dims import Dims, load_choices
from fewscan.words import abbreviate

# A name becomes part of a folder's, and its parts are told apart by dashes.
VARIANT = re.compile(r"(?P<name>\w[\w.+]*)=(?P<method>[\w.:]+)(?P<settings>(,[^,=]+=[^,]+)*)")


@dataclass(frozen=True)
class Variant:
    """A method with settings of its own under a name of its own: a row of an ablation."""

    name: str
    method: str
    settings: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.method} with {', '.join(self.settings) or 'nothing changed'}"


def parse_variant(text: str) -> Variant:
    """NAME=METHOD,key=value,... → a variant.

    Raises:
        ConfigError: The text has another form.
    """
    match = VARIANT.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            f"--variant {text}: must be NAME=METHOD,key=value,... such as "
            "no_anco=action,methods.action.use_anco=false; letters, digits and _ . + in the name."
        )
    return Variant(match["name"], match["method"], tuple(part for part in match["settings"].split(",") if part))


@dataclass(frozen=True)
class RunSpec:
    """One run to make: a method or a variant of one, a number of labelled patients and a seed."""

    method: str
    labelled: int
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder, where the name of a method from outside has a dot for its colon."""
        return f"{_for_folders(self.method)}-{self.labelled:02d}-s{self.seed}"

    def __str__(self) -> str:
        return f"{self.method}, {self.labelled} labelled, seed {self.seed}"


@dataclass(frozen=True)
class Costs:
    """Time and memory that a run took.

    Attributes:
        seconds: Time by the clock on the wall, from start to exit, in s; None where the run was interrupted.
        memory_gib: Most resident memory of the process, in GiB, 0 where the system does not tell; None where the run
            was interrupted.
        device: Name of the device that the run was on.
    """

    seconds: float | None
    memory_gib: float | None
    device: str


@dataclass(frozen=True)
class Grid:
    """All runs of a benchmark.

    Attributes:
        index: Cases of the data set.
        output: Folder of the benchmark.
        specs: Runs to make, in that order.
        recipe: Name of the recipe of every run.
        settings: Changes to the recipe in every run, each `key=value`.
        splits: Split of the data set, by number of labelled patients.
        cache: Folder with a cache for every number of labelled patients.
        variants: Variants of methods, by name.
        folds: Folds that the labelled patients of every run are divided into, as `fewscan train --folds` takes them.
        dims: Axes of every network's input, 2 or 3, or auto, as `fewscan train --dims` takes them.
    """

    index: DatasetIndex
    output: Path
    specs: tuple[RunSpec, ...]
    recipe: str
    settings: tuple[str, ...]
    splits: dict[int, Split]
    cache: Path
    variants: dict[str, Variant] = field(default_factory=dict)
    folds: Folds = "none"
    dims: Dims = "auto"

    @property
    def split(self) -> Split:
        """Any of the splits: who is held out is the same in all."""
        return next(iter(self.splits.values()))

    @property
    def alone(self) -> tuple[str, ...]:
        """Names of the rows whose methods see no unlabelled scan."""
        names = dict.fromkeys(spec.method for spec in self.specs)
        return tuple(name for name in names if not METHODS.find(self.recipe_of(name)[0]).uses_unlabelled)

    def folder(self, spec: RunSpec) -> RunFolder:
        """The run's folder."""
        return RunFolder(self.output / "runs" / spec.name)

    def lock(self, spec: RunSpec) -> Path:
        """The file by which a process keeps the others from the run."""
        return self.output / "runs" / f"{spec.name}.lock"

    def recipe_of(self, name: str) -> tuple[str, tuple[str, ...]]:
        """The method that a row of the table trains, and its changes to the recipe."""
        variant = self.variants.get(name)
        return (variant.method, (*self.settings, *variant.settings)) if variant else (name, self.settings)

    def request(self, spec: RunSpec) -> dict[str, Any]:
        """All that decides a run's result; written into its record and compared with it."""
        method, settings = self.recipe_of(spec.method)
        return {
            "dataset": self.index.name,
            "split": _digest(self.splits[spec.labelled].to_json()),
            **asdict(spec),
            "method": method,
            "recipe": self.recipe,
            "settings": list(settings),
            # Records of earlier versions have no folds.
            **({"folds": self.folds} if self.folds != "none" else {}),
            # Those of earlier versions were all cut into slices, and do not say so.
            **({"dims": self.dims} if self.dims != 2 else {}),
        }

    def arguments(self, spec: RunSpec, device: str) -> list[str]:
        """Arguments of `fewscan train` that make the run."""
        method, settings = self.recipe_of(spec.method)
        options = {
            "--output": self.folder(spec),
            "--method": method,
            "--labelled": spec.labelled,
            "--recipe": self.recipe,
            "--seed": spec.seed,
            "--device": device,
            "--cache": self.cache / f"{spec.labelled:02d}",
            "--folds": self.folds,
            "--dims": self.dims,
        }
        # A page for every run of a grid would be a gigabyte; `fewscan report` writes the ones that are wanted. Runs of
        # all seeds share one cache.
        fixed = ("report.page=false", "training.pool=all")
        changes = [part for setting in (*fixed, *settings) for part in ("--set", setting)]
        return [str(self.index.root), *(str(part) for pair in options.items() for part in pair), *changes]

    def state(self, spec: RunSpec) -> State:
        """How far the run has come; finished is what also has its record.

        Raises:
            ConfigError: A run is there that was made from something else; it may have taken hours, so it is not
                removed.
        """
        run = self.folder(spec)
        if not run.path.exists():
            return "new"
        if not (run.record.is_file() and self._is_trained(run)):
            return "unfinished"
        _check_same(run, read_json(run.record)["request"], self.request(spec))
        return "finished"

    def done(self) -> list[RunSpec]:
        """The specs whose runs are there."""
        return [spec for spec in self.specs if self.state(spec) == "finished"]

    def missing(self) -> tuple[str, ...]:
        """Names of the runs that are not done: failed, not made yet, or still another process's."""
        return tuple(spec.name for spec in self.specs if self.state(spec) != "finished")

    def check_settings(self, devices: Sequence[str]) -> None:
        """Refuse before anything is trained what every run would refuse.

        Raises:
            ConfigError: A method, a recipe or a setting cannot be used on one of the devices, or some rows would be of
                slices and others of volumes.
        """
        kinds: dict[str, frozenset[str]] = {}
        for name in dict.fromkeys(spec.method for spec in self.specs):
            method, settings = self.recipe_of(name)
            for device in devices:
                load = partial(self._load, settings, device.partition(":")[0], method)
                kinds[name] = frozenset(config.plan.kind for config in load_choices(self.dims, load))
        _check_alike(kinds)

    def _load(self, settings: Sequence[str], device: str, method: str, kind: str) -> Config:
        return load_config(self.recipe, settings, device, kind, self.index.task, method=method)

    def can_go_on(self, spec: RunSpec) -> bool:
        """Whether training can go on with an unfinished run, or has ended with everything but the record there."""
        run = self.folder(spec)
        return self._is_trained(run) or (run.config.is_file() and run.updates_done > 0)

    def _is_trained(self, run: RunFolder) -> bool:
        is_scored = self.scores(run).summary.is_file() or not (self.split.val or self.folds != "none")
        return run.state == "finished" and is_scored

    def scores(self, run: RunFolder) -> ScoresFolder:
        """The folder of a run's scored cases: the validation's, or those of its folds where there is no validation.

        Args:
            run: Folder of one of the runs.
        """
        return run.validation if self.split.val else run.cross_validation

    def clear(self, spec: RunSpec) -> None:
        """Remove what an interrupted run left behind."""
        shutil.rmtree(self.folder(spec).path, ignore_errors=True)

    def finish(self, spec: RunSpec, costs: Costs, version: str, finished: str) -> None:
        """Write the run's record, which makes it done.

        Args:
            spec: Run that was trained.
            costs: Costs of the run.
            version: Version of fewscan.
            finished: Date and time at the end, in ISO 8601.
        """
        run = self.folder(spec)
        record = {
            "request": self.request(spec),
            "plan": _digest(read_json(run.plan)),
            **asdict(costs),
            "images_per_second": _images_per_second([part.metrics for part in run.parts]),
            "fewscan": version,
            "finished": finished,
        }
        write_json(run.record, record)

    def record(self, spec: RunSpec) -> dict[str, Any]:
        """The run's record, as `finish` wrote it."""
        return with_names_of_now(read_json(self.folder(spec).record))

    def result(self, spec: RunSpec, tested: bool) -> RunResult:
        """A finished run as scored on the test split, or else in validation."""
        run = self.folder(spec)
        record = self.record(spec)
        return RunResult(
            **asdict(spec),
            summary=read_json((run.test if tested else self.scores(run)).summary),
            seconds=record["seconds"],
            memory_gib=record["memory_gib"],
            images_per_second=record["images_per_second"],
        )


def make_grid(
    index: DatasetIndex,
    output: Path,
    *,
    methods: Sequence[str],
    labelled: Sequence[int],
    seeds: Sequence[int],
    recipe: str,
    settings: Sequence[str],
    cache: Path | None,
    variants: Sequence[Variant] = (),
    folds: Folds = "none",
    dims: Dims = "auto",
) -> Grid:
    """The grid of all combinations, variants after methods; one seed is done with before the next one begins.

    Raises:
        ConfigError: A number of labelled patients cannot be met, two rows have one name, or there is nothing to run.
        DataError: No held-out cases are there to score, or a test case has no label.
    """
    rows = [*methods, *(variant.name for variant in variants)]
    folders = [_for_folders(name) for name in rows]
    twice = [name for name, folder in zip(rows, folders, strict=True) if folders.count(folder) > 1]
    if twice:
        raise ConfigError(f"--variant {twice[-1]}: there is a method or a variant of that name. Choose another name.")
    if not rows or not labelled or not seeds:
        raise ConfigError("Nothing to run: give at least one method, number of labelled patients and seed.")
    splits = {n: make_split(index, n) for n in labelled}
    _check_held_out(index, splits, folds)
    specs = tuple(RunSpec(name, n, seed) for seed, n, name in product(dict.fromkeys(seeds), splits, rows))
    named = {variant.name: variant for variant in variants}
    return Grid(index, output, specs, recipe, tuple(settings), splits, cache or output / "cache", named, folds, dims)


def _check_held_out(index: DatasetIndex, splits: Mapping[int, Split], folds: Folds) -> None:
    split = next(iter(splits.values()))
    counts = {labelled: count_folds(own, folds) for labelled, own in splits.items()}
    if not split.val and not split.test and folds == "none":
        remedy = (
            'Hold the labelled patients out in turn with --folds auto, or name some as "val" or "test" in splits.json'
        )
        raise DataError.of(index.root, "no held-out cases to score", remedy)
    if not split.val and folds != "none" and not all(counts.values()):
        few = [labelled for labelled, count in counts.items() if not count]
        raise ConfigError(
            f"--folds {folds}: with --labelled {few[0]} nobody can be held out, and there are no validation cases. "
            f"Label {FEWEST_PATIENTS} patients or more."
        )
    bare = [case.name for case in split.test if case.label is None]
    if bare:
        raise DataError.of(
            index.root,
            f"test cases without a label: {abbreviate(bare)}",
            "Add their labels to labelsTr/, or take them out of splits.json",
        )


def _check_alike(kinds: Mapping[str, frozenset[str]]) -> None:
    """Refuse rows that could not be compared, by the kinds of plan that each of them may be of."""
    first = next(iter(kinds))
    other = next((name for name in kinds if kinds[name] != kinds[first]), None)
    if other is not None:
        can = [f"{name} may be of {' or '.join(sorted(kinds[name]))}" for name in (first, other)]
        raise ConfigError(f"{', and '.join(can)}: rows of a table need one kind of plan. Say which: --dims 2 or 3.")


def _check_same(run: RunFolder, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    other = [f"{key} {found.get(key)} instead of {value}" for key, value in wanted.items() if found.get(key) != value]
    if other:
        raise ConfigError(f"{run}: holds a run with {'; '.join(other)}. Choose another folder, or remove the run.")


def _for_folders(name: str) -> str:
    # Windows allows no colon in names, and a dash tells the parts of a folder's name apart.
    return re.sub(r"[^\w.+]", ".", name)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _images_per_second(logs: Sequence[Path]) -> float | None:
    """The median over the lines of the logs; None where nothing was trained."""
    records = [record for log in logs for record in read_log(log)]
    speeds = [record["images_per_second"] for record in records if "images_per_second" in record]
    return float(median(speeds)) if speeds else None
