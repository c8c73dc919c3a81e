"""fewscan check: every fault of a data set at once."""

from __future__ import annotations

from pathlib import Path

from fewscan.data.index import DatasetIndex, read_dataset
from fewscan.data.split import Split, make_split, no_label
from fewscan.data.survey import list_faults, survey_cases
from fewscan.errors import DataError, Fault
from fewscan.io.files import AnyPath
from fewscan.terminal.console import Reporter
from fewscan.words import abbreviate


def check(dataset: AnyPath, *, reporter: Reporter | None = None) -> list[Fault]:
    """Read everything and list what is wrong, the split of the data set included.

    Args:
        dataset: Folder of the data set, in the nnU-Net layout.
        reporter: Reporter that shows progress and decisions; None: nothing is shown.

    Returns:
        The faults; training would fail if any of them is fatal.

    Examples:
        >>> import fewscan
        >>> fewscan.check("DATASET")
        []
    """
    reporter = reporter or Reporter(quiet=True)
    root = Path(dataset)
    try:
        index = read_dataset(root)
    except DataError as error:
        return list(error.faults)
    split, faults = _check_split(index)
    for note in split.notes if split is not None else ():
        reporter.say(note)
    with reporter.bar("checking scans", len(index.cases)) as step:
        survey = survey_cases(index, index.cases, measured=(), pictured=(), progress=step)
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
