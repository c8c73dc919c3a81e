"""fewscan check: every fault of a data set at once."""

from __future__ import annotations

from pathlib import Path

from fewscan.commands.console import Reporter
from fewscan.data.check import Fault, check_cases
from fewscan.data.index import read_dataset
from fewscan.types import DataError


def check(dataset: Path, reporter: Reporter | None = None) -> list[Fault]:
    """Read everything and list what is wrong.

    Args:
        dataset: folder in the nnU-Net layout.
        reporter: where to show progress.

    Returns:
        The faults; training would fail if any of them is fatal.
    """
    reporter = reporter or Reporter(quiet=True)
    try:
        index = read_dataset(Path(dataset))
    except DataError as error:
        return [_structural(line) for line in str(error).splitlines()]
    with reporter.bar("checking scans", len(index.cases)) as step:
        faults = check_cases(index, index.cases, step)
    if not index.labelled:
        faults.append(Fault(str(dataset), "no case has a label", "Put at least one mask into labelsTr/", fatal=True))
    return faults


def _structural(line: str) -> Fault:
    where, _, rest = line.partition(": ")
    problem, _, remedy = rest.partition(". ")
    return Fault(where, problem.rstrip("."), remedy.rstrip(".") or "Mend it")
