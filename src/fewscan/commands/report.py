"""fewscan report: everything that a run has to say on one page that opens anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewscan.errors import ConfigError
from fewscan.evaluation.evaluate import match_pairs
from fewscan.io.elsewhere import refuse_elsewhere
from fewscan.io.files import AnyPath
from fewscan.reporting.page.sources import read_run
from fewscan.run_folder import PredictionFolder, RunFolder
from fewscan.runs.page import (
    MOST_CASES,
    find_data,
    find_rival,
    predicted_cases,
    score_predicted,
    validation_cases,
    write_cases,
)
from fewscan.terminal.console import Reporter


def report(
    run: AnyPath,
    predictions: AnyPath | None = None,
    *,
    output: AnyPath | None = None,
    images: Sequence[AnyPath] = (),
    dataset: AnyPath | None = None,
    compare: AnyPath | None = None,
    references: AnyPath | None = None,
    most_cases: int = MOST_CASES,
    reporter: Reporter | None = None,
) -> Path:
    """Write the page of a run: its validation cases, or those of a folder of masks.

    Args:
        run: Folder of a training run.
        predictions: Folder of masks that `predict` made with the run; None: the run's validation.
        output: HTML file to write; None: `report.html` beside the masks, or in the run.
        images: Scans of the masks, or folders of them; empty: they are looked for in the data set.
        dataset: Folder of the data set that the run was trained on; None: the one that provenance.json names.
        compare: Folder of a supervised run with the same labelled scans; None: one beside the run, if there is one.
        references: Folder of references for the masks, named as they are: those that have one are scored and compared;
            None: the page shows estimates alone.
        most_cases: Number of cases on the page, from 1, the worst ones first.
        reporter: Reporter that shows progress and decisions; None: nothing is shown.

    Returns:
        The path of the page.

    Raises:
        DataError: The folder is not a run's, or an image, mask or data set is not to be found or does not fit.
        ConfigError: The run to compare with is of other scans, or references or another run are given that the page
            has no place for.

    Examples:
        >>> import fewscan
        >>> fewscan.report("RUN", most_cases=10).name
        'report.html'
    """
    if references is not None and predictions is None:
        raise ConfigError("--references are of predicted masks: give the folder that `fewscan predict` wrote as well.")
    if references is not None and compare is not None:
        raise ConfigError("--compare is of the page of a run, --references of that of its masks. Give one of the two.")
    refuse_elsewhere(run, predictions, output, *images, dataset, compare, references)
    reporter = reporter or Reporter(quiet=True)
    files = read_run(RunFolder(Path(run)))
    remedy = "Give its folder with --dataset" if predictions is None else "Give the scans with --images"
    data = find_data(
        files,
        Path(dataset) if dataset is not None else None,
        None if predictions is not None and images else remedy,
        reporter,
    )
    masks = PredictionFolder(Path(predictions)) if predictions is not None else None
    if masks is None:
        cases = validation_cases(files, data)
    else:
        pairs = match_pairs(masks.path, Path(references)).both if references is not None else {}
        if pairs:
            files = score_predicted(files, pairs, reporter)
        cases = predicted_cases(files, masks, [Path(path) for path in images], data, pairs)
    page = Path(output) if output is not None else (masks or files.folder).page
    write_cases(
        files,
        cases,
        data=data,
        predictions=masks.path if masks is not None else None,
        rival=None if files.is_referenced else find_rival(files, Path(compare) if compare is not None else None),
        output=page,
        most_cases=most_cases,
        reporter=reporter,
    )
    return page
