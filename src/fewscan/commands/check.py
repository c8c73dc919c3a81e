"""fewscan check: every fault of a data set at once."""

from __future__ import annotations

from pathlib import Path

from fewscan.data.cases import files_of
from fewscan.data.index import DatasetIndex, read_dataset
from fewscan.data.split import Split, make_split, no_label
from fewscan.data.survey import list_faults, survey_cases
from fewscan.errors import DataError, Fault
from fewscan.io.files import AnyPath
from fewscan.terminal.console import Reporter
from fewscan.words import abbreviate
from fewscan.work.choice import choose_executor
from fewscan.work.staging import Staging


def check(
    dataset: AnyPath, *, reporter: Reporter | None = None, executor: str = "auto", workers: int | None = None
) -> list[Fault]:
    """Read everything and list what is wrong, the split of the data set included.

    Args:
        dataset: Folder of the data set, in the nnU-Net layout, or its URL, such as "s3://bucket/dataset".
        reporter: Reporter that shows progress and decisions; None: nothing is shown.
        executor: Executor that reads the scans: auto (this process, and others where it takes long), serial, processes,
            ray or ray:ADDRESS.
        workers: Number of processes, from 1; None: as many as processors and memory allow.

    Returns:
        The faults; training would fail if any of them is fatal.

    Raises:
        ConfigError: There is no such executor.
        DataError: The data set lies elsewhere and cannot be had.

    Examples:
        >>> import fewscan
        >>> fewscan.check("DATASET")
        []
    """
    with Staging.of(reporter or Reporter(quiet=True), executor) as staging:
        root = staging.names(dataset)
        faults = _check(root, staging.reporter, staging, workers)
        return [staging.told_fault(fault) for fault in faults]


def _check(root: Path, reporter: Reporter, staging: Staging, workers: int | None) -> list[Fault]:
    """The faults of a data set that lies here, or has stand-ins here."""
    try:
        index = read_dataset(root)
    except DataError as error:
        return list(error.faults)
    split, faults = _check_split(index)
    for note in split.notes if split is not None else ():
        reporter.say(note)
    who = staging.executor(choose_executor(staging.executor_name, workers, files_of(index.cases)))
    with reporter.bar("checking scans", len(index.cases)) as step:
        survey = survey_cases(
            index, index.cases, measured=(), pictured=(), appearances=False, progress=step, executor=who
        )
    return faults + list_faults(index, index.cases, survey, split.part_of if split is not None else None)


def _check_split(index: DatasetIndex) -> tuple[Split | None, list[Fault]]:
    """The split, if training would have one, and the faults of it."""
    try:
        split = make_split(index, may_lack_labels=True)
    except DataError as error:
        return None, list(error.faults)
    faults = [] if split.labelled else [no_label(index, fatal=False)]
    bare = [case.name for case in split.test if case.label is None]
    if bare:
        problem = f"test cases without a label: {abbreviate(bare)}"
        remedy = "fewscan benchmark needs their labels, fewscan train does not"
        faults.append(Fault(str(index.root), problem, remedy, fatal=False))
    return split, faults
