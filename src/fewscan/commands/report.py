"""fewscan report: everything that a run has to say on one page that opens anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fewscan.commands.console import Reporter
from fewscan.commands.predict import collect_cases
from fewscan.commands.provenance import dataset_of
from fewscan.config import read_settings
from fewscan.data.fingerprint import take_fingerprint
from fewscan.data.index import DatasetIndex, read_dataset
from fewscan.data.split import Split, split_of_run
from fewscan.data.strangers import list_folder
from fewscan.evaluation.summary import case_scores
from fewscan.io import read_json, scan_ending, scan_stem
from fewscan.reporting.page.cases import CaseFiles, make_cards
from fewscan.reporting.page.sources import RunFiles, read_quality, read_run
from fewscan.reporting.page.verdict import Rival
from fewscan.reporting.page.write import Contents, write_page
from fewscan.types import ConfigError, DataError, some

PAGE = "report.html"
MOST_CASES = 60
# What a supervised run must share to be compared with.
ALIKE = ("seed", "plan", "network", "augmentation", "stages")


@dataclass(frozen=True)
class DataOfRun:
    """The data set that a run was trained on, and its cases by role."""

    index: DatasetIndex
    split: Split


def report(
    run: Path,
    predictions: Path | None = None,
    output: Path | None = None,
    images: Sequence[Path] = (),
    dataset: Path | None = None,
    compare: Path | None = None,
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
    files = read_run(Path(run))
    remedy = "Give its folder with --dataset." if predictions is None else "Give the scans with --images."
    data = _find_data(files, dataset, None if predictions is not None and images else remedy)
    output = Path(output) if output is not None else Path(predictions or run) / PAGE
    if predictions is None:
        cases = _validation_cases(files, data)
    else:
        cases = _predicted_cases(files, Path(predictions), [Path(path) for path in images], data)
    folder = Path(predictions) if predictions is not None else None
    _write(files, cases, data, folder, _find_rival(files, compare), output, most_cases, reporter)
    return output


def write_report(run: Path, data: DataOfRun, reporter: Reporter, most_cases: int) -> None:
    """Write `report.html` of a run that has just been trained."""
    files = read_run(run)
    cases = _validation_cases(files, data)
    _write(files, cases, data, None, _find_rival(files, None), run / PAGE, most_cases, reporter)


def _write(
    files: RunFiles,
    cases: Sequence[CaseFiles],
    data: DataOfRun | None,
    predictions: Path | None,
    rival: Rival | None,
    output: Path,
    most_cases: int,
    reporter: Reporter,
) -> None:
    ranked = sorted(cases, key=lambda case: case.standing)
    shown = ranked[:most_cases]
    with reporter.bar("drawing cases", len(shown)) as step:
        cards = make_cards(shown, files.plan.classes, files.plan.slice_axis, step)
    contents = Contents(
        run=files,
        cards=cards,
        left_out=ranked[most_cases:],
        predictions=predictions,
        patients={case.name: case.patient for case in data.index.cases} if data is not None else {},
        fingerprint=take_fingerprint(data.index, data.split.train) if data is not None else None,
        rival=rival,
    )
    write_page(output, contents)
    reporter.say(f"open {output} in a browser ({output.stat().st_size / 1e6:.1f} MB, nothing else is needed)")


def _find_data(files: RunFiles, dataset: Path | None, remedy: str | None) -> DataOfRun | None:
    """The data set that was given, or that the run was trained on where it still is; remedy None: it is not needed."""
    told = files.provenance.dataset if files.provenance is not None else None
    if dataset is None and remedy is None and (told is None or not told.is_dir()):
        return None
    root = Path(dataset) if dataset is not None else dataset_of(files.folder, remedy or "Give its folder.")
    index = read_dataset(root)
    return DataOfRun(index, split_of_run(files.folder / "splits.json", index))


def _validation_cases(files: RunFiles, data: DataOfRun | None) -> list[CaseFiles]:
    """The scored cases; none where nothing was held out, or the run is not finished."""
    if files.summary is None or data is None:
        return []
    by_name = {case.name: case for case in data.split.val}
    unknown = [name for name in files.summary["cases"] if name not in by_name]
    if unknown:
        path = files.folder / "validation" / "summary.json"
        raise DataError(f"{path}: scores cases that splits.json does not validate: {some(unknown)}. Restore both.")
    return [
        CaseFiles(
            name=name,
            patient=by_name[name].patient,
            image=by_name[name].images[0],
            prediction=files.folder / "validation" / f"{name}.nii.gz",
            reference=by_name[name].label,
            scores=scores,
            quality=files.quality.get(name),
        )
        for name, scores in case_scores(files.summary).items()
    ]


def _predicted_cases(files: RunFiles, folder: Path, images: Sequence[Path], data: DataOfRun | None) -> list[CaseFiles]:
    """Masks with their images; they have no reference."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder. Give the folder that `fewscan predict` wrote.")
    masks = {scan_stem(path): path for path in list_folder(folder) if scan_ending(path)}
    if not masks:
        raise DataError(f"{folder}: holds no masks. Give the folder that `fewscan predict` wrote.")
    known = collect_cases(images, len(files.plan.channel_names)) if images else data.index.cases if data else ()
    by_name = {case.name: case for case in known}
    missing = [name for name in masks if name not in by_name]
    if missing:
        raise DataError(f"{folder}: no image for {some(missing)}. Give the folder of the scans with --images.")
    quality = read_quality(folder / "quality.csv")
    return [
        CaseFiles(name, by_name[name].patient, by_name[name].images[0], mask, None, {}, quality.get(name))
        for name, mask in masks.items()
    ]


def _find_rival(files: RunFiles, compare: Path | None) -> Rival | None:
    """The supervised run that was given, or one beside the run, as a benchmark leaves it."""
    if compare is not None:
        rival = _as_rival(files, Path(compare))
        if rival is None:
            raise ConfigError(
                f"{compare}: not a finished supervised run of the same scans and settings. Train one with "
                "--method supervised and otherwise the same options."
            )
        return rival
    beside = sorted(files.folder.resolve().parent.glob("supervised*/config.yaml"))
    return next((rival for path in beside if (rival := _as_rival(files, path.parent))), None)


def _as_rival(files: RunFiles, folder: Path) -> Rival | None:
    summary = folder / "validation" / "summary.json"
    config = read_settings(folder / "config.yaml")
    same = config["method"] == "supervised" and all(config.get(key) == files.config.get(key) for key in ALIKE)
    if not (same and summary.is_file() and read_json(folder / "splits.json") == files.splits):
        return None
    return Rival(folder.name, read_json(summary))
