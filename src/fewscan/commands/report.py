"""fewscan report: everything that a run has to say on one page that opens anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewscan.data.cases import collect_cases
from fewscan.data.index import read_dataset
from fewscan.data.split import split_of_run
from fewscan.data.strangers import list_folder
from fewscan.errors import DataError
from fewscan.io.endings import scan_ending, scan_stem
from fewscan.io.files import AnyPath
from fewscan.reporting.page.cases import CaseFiles
from fewscan.reporting.page.sources import RunFiles, read_quality, read_run
from fewscan.run_folder import PredictionFolder, RunFolder
from fewscan.runs.page import (
    MOST_CASES,
    DataOfRun,
    _find_rival,
    _validation_cases,
    _write,
)
from fewscan.runs.provenance import dataset_of
from fewscan.terminal.console import Reporter
from fewscan.words import abbreviate


def report(
    run: AnyPath,
    predictions: AnyPath | None = None,
    *,
    output: AnyPath | None = None,
    images: Sequence[AnyPath] = (),
    dataset: AnyPath | None = None,
    compare: AnyPath | None = None,
    most_cases: int = MOST_CASES,
    reporter: Reporter | None = None,
) -> Path:
    """Write the page of a run: its validation cases, or those of a folder of masks.

    Args:
        run: folder of a training run.
        predictions: masks that `predict` made with it; None: the validation's.
        output: HTML file to write; None: `report.html` beside the masks, or in the run.
        images: the scans of the predictions, or folders of them; empty: they are looked for in the data set.
        dataset: that the run was trained on; None: where provenance.json says that it was.
        compare: a supervised run of the same labelled scans; None: one beside the run, if there is one.
        most_cases: so many are on the page, the worst ones.
        reporter: where to show progress.

    Returns:
        The page's path.

    Raises:
        DataError: the folder is not a run's, or an image, mask or data set is not to be found or does not fit.
        ConfigError: the run to compare with is of other scans.
    """
    reporter = reporter or Reporter(quiet=True)
    files = read_run(RunFolder(Path(run)))
    remedy = "Give its folder with --dataset." if predictions is None else "Give the scans with --images."
    data = _find_data(
        files, Path(dataset) if dataset is not None else None, None if predictions is not None and images else remedy
    )
    masks = PredictionFolder(Path(predictions)) if predictions is not None else None
    if masks is None:
        cases = _validation_cases(files, data)
    else:
        cases = _predicted_cases(files, masks, [Path(path) for path in images], data)
    page = Path(output) if output is not None else (masks or files.folder).page
    _write(
        files,
        cases,
        data=data,
        predictions=masks.path if masks is not None else None,
        rival=_find_rival(files, Path(compare) if compare is not None else None),
        output=page,
        most_cases=most_cases,
        reporter=reporter,
    )
    return page


def _find_data(files: RunFiles, dataset: Path | None, remedy: str | None) -> DataOfRun | None:
    """The data set that was given, or that the run was trained on where it still is; remedy None: it is not needed."""
    told = files.provenance.dataset if files.provenance is not None else None
    if dataset is None and remedy is None and (told is None or not told.is_dir()):
        return None
    root = dataset if dataset is not None else dataset_of(files.folder, remedy or "Give its folder.")
    index = read_dataset(root)
    return DataOfRun(index, split_of_run(files.folder.splits, index))


def _predicted_cases(
    files: RunFiles, folder: PredictionFolder, images: Sequence[Path], data: DataOfRun | None
) -> list[CaseFiles]:
    """Masks with their images; they have no reference."""
    if not folder.path.is_dir():
        raise DataError(f"{folder}: there is no such folder. Give the folder that `fewscan predict` wrote.")
    masks = {scan_stem(path): path for path in list_folder(folder.path) if scan_ending(path)}
    if not masks:
        raise DataError(f"{folder}: holds no masks. Give the folder that `fewscan predict` wrote.")
    known = collect_cases(images, len(files.plan.channel_names)) if images else data.index.cases if data else ()
    by_name = {case.name: case for case in known}
    missing = [name for name in masks if name not in by_name]
    if missing:
        raise DataError(f"{folder}: no image for {abbreviate(missing)}. Give the folder of the scans with --images.")
    quality = read_quality(folder.quality)
    return [
        CaseFiles(name, by_name[name].patient, by_name[name].images[0], mask, None, {}, quality.get(name))
        for name, mask in masks.items()
    ]
