"""The page of a run: which cases it shows, and what they are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewscan.config import read_settings
from fewscan.data.cases import collect_cases
from fewscan.data.foci import read_foci, split_around
from fewscan.data.index import DatasetIndex, read_dataset
from fewscan.data.split import Split, split_of_run
from fewscan.data.strangers import list_folder
from fewscan.data.survey import Survey, survey_cases
from fewscan.data.survey_file import find_survey
from fewscan.errors import ConfigError, DataError
from fewscan.evaluation.evaluate import scored_names
from fewscan.evaluation.quality_table import read_quality_table
from fewscan.evaluation.summary import case_scores, summarise
from fewscan.inference.model import read_held_out
from fewscan.io.endings import scan_stem
from fewscan.io.files import read_json
from fewscan.io.formats import scans_among
from fewscan.reporting.page.cases import CaseFiles, make_cards
from fewscan.reporting.page.objects import read_object_scores
from fewscan.reporting.page.sources import RunContents, read_run
from fewscan.reporting.page.training_scans import draw_training_scans
from fewscan.reporting.page.verdict import Rival
from fewscan.reporting.page.write import PageContents, write_page
from fewscan.run_folder import PredictionFolder, RunFolder
from fewscan.runs.provenance import dataset_of
from fewscan.tasks.base import task_of
from fewscan.terminal.console import Reporter
from fewscan.words import abbreviate

MOST_CASES = 60
# What a supervised run must share to be compared with; `stages` is what older runs have in the place of `training`.
ALIKE = ("seed", "plan", "network", "augmentation", "training", "stages")


@dataclass(frozen=True)
class DataOfRun:
    """The data set that a run was trained on.

    Attributes:
        index: Data set as it is now.
        split: Cases of the run by role.
        survey: Survey of the training and validation scans, each read once.
    """

    index: DatasetIndex
    split: Split
    survey: Survey


def write_report(run: RunFolder, data: DataOfRun, reporter: Reporter, most_cases: int) -> None:
    """Write `report.html` of a run that has just been trained."""
    files = read_run(run)
    cases = validation_cases(files, data)
    write_cases(
        files,
        cases,
        data=data,
        predictions=None,
        rival=find_rival(files, None),
        output=run.page,
        most_cases=most_cases,
        reporter=reporter,
    )


def write_cases(
    files: RunContents,
    cases: Sequence[CaseFiles],
    *,
    data: DataOfRun | None,
    predictions: Path | None,
    rival: Rival | None,
    output: Path,
    most_cases: int,
    reporter: Reporter,
) -> None:
    """Write a page of cases, the worst first.

    Args:
        files: Contents of the run's folder.
        cases: Cases of the validation, or predicted ones.
        data: Data set that the run was trained on; None: the page has nothing on a data set.
        predictions: Folder of the predicted masks, for the page's head; None: the cases are the validation's.
        rival: Supervised run to compare with; None: there is none.
        output: Path of the HTML file to write.
        most_cases: Number of cases that are drawn at most; the others are only named.
        reporter: Place to show progress.

    Raises:
        DataError: A scan or a mask cannot be read, or lies elsewhere than its image.
        WriteError: The page cannot be written.
    """
    ranked = sorted(cases, key=lambda case: case.standing)
    shown = ranked[:most_cases]
    with reporter.bar("drawing cases", len(shown)) as step:
        cards = make_cards(shown, files.plan, step)
    contents = PageContents(
        run=files,
        cards=cards,
        left_out=ranked[most_cases:],
        predictions=predictions,
        patients={case.name: case.patient for case in data.index.cases} if data is not None else {},
        fingerprint=data.survey.fingerprint(data.split.train) if data is not None else None,
        rival=rival,
        training_scans=draw_training_scans(data.split.labelled, data.survey, files.plan) if data is not None else [],
    )
    write_page(output, contents)
    reporter.say(f"open {output} in a browser ({output.stat().st_size / 1e6:.1f} MB, nothing else is needed)")


def validation_cases(files: RunContents, data: DataOfRun | None) -> list[CaseFiles]:
    """Find the scans and masks of a run's scored cases; none where nothing was held out, or the run is not finished.

    Raises:
        DataError: Scores are of cases that the run does not validate.
    """
    if files.summary is None or data is None:
        return []
    held_out = data.split.labelled if files.is_cross_validated else data.split.val
    by_name = {case.name: case for case in held_out}
    unknown = [name for name in files.summary["cases"] if name not in by_name]
    if unknown:
        raise DataError.of(
            files.scores.summary,
            f"scores cases that splits.json does not hold out: {abbreviate(unknown)}",
            "Restore both",
        )
    return [
        CaseFiles(
            name=name,
            patient=by_name[name].patient,
            image=by_name[name].images[0],
            prediction=files.scores.mask(name),
            reference=by_name[name].label,
            scores=scores,
            quality=files.quality.get(name),
            surveyed=found.label if (found := data.survey.of(by_name[name])) is not None else None,
        )
        for name, scores in case_scores(files.summary).items()
    ]


def find_data(files: RunContents, dataset: Path | None, remedy: str | None, reporter: Reporter) -> DataOfRun | None:
    """Read the data set that a run was trained on; of its scans those alone that the run's survey does not know.

    Args:
        files: Contents of the run's folder.
        dataset: Folder of the data set; None: the one that the run was trained from.
        remedy: Words for the error: what to do where the data set is gone; None: the page can do without the data set.
        reporter: Place to show how far reading is.

    Raises:
        DataError: The data set is gone and needed, or is not the run's.
    """
    recorded = files.provenance.dataset if files.provenance is not None else None
    if dataset is None and remedy is None and (recorded is None or not recorded.is_dir()):
        return None
    root = dataset if dataset is not None else dataset_of(files.folder, remedy or "Give its folder")
    index = read_dataset(root)
    split = split_of_run(files.folder.splits, index)
    if files.folder.foci.is_file():
        split = split_around(split, read_foci(files.folder.foci))
    known = find_survey(files.folder.survey, index)
    with reporter.bar("looking at the data set", len(split.train)) as step:
        survey = survey_cases(index, split.train, known=known, progress=step)
    return DataOfRun(index, split, Survey({**known.cases, **survey.cases}))


def score_predicted(files: RunContents, pairs: Mapping[str, tuple[Path, Path]], reporter: Reporter) -> RunContents:
    """Score predicted masks against references: the run's contents with these scores in place of the held-out cases'.

    Args:
        files: Contents of the folder of the run that made the masks.
        pairs: Mask and reference of each case, by the case's name.
        reporter: Place to show progress.

    Raises:
        DataError: A mask or a reference cannot be read, or they lie at different places.
    """
    task, scores = task_of(files.plan), {}
    with reporter.bar("scoring", len(pairs)) as step:
        for name, pair in pairs.items():
            scores[name] = task.score(*pair)
            step()
    return replace(files, summary=summarise(scores, scored_names(files.plan.classes)), is_referenced=True)


def predicted_cases(
    files: RunContents,
    folder: PredictionFolder,
    images: Sequence[Path],
    data: DataOfRun | None,
    pairs: Mapping[str, tuple[Path, Path]],
) -> list[CaseFiles]:
    """Find the image of every mask in a folder, and its reference where there is one.

    Args:
        files: Contents of the folder of the run that made the masks; its summary scores those that have a reference.
        folder: Folder that `fewscan predict` wrote.
        images: Paths of scans, or of folders of scans; empty: those of the data set.
        data: Data set that the run was trained on; None: it was not found.
        pairs: Mask and reference of each case that has one, by the case's name.

    Raises:
        DataError: The folder or its masks are not there, or a mask has no image.
    """
    if not folder.path.is_dir():
        raise DataError.of(folder.path, "there is no such folder", "Give the folder that `fewscan predict` wrote")
    masks = {scan_stem(path): path for path in scans_among(list_folder(folder.path))}
    if not masks:
        raise DataError.of(folder.path, "holds no masks", "Give the folder that `fewscan predict` wrote")
    known = collect_cases(images, files.plan.reading) if images else data.index.cases if data else ()
    by_name = {case.name: case for case in known}
    missing = [name for name in masks if name not in by_name]
    if missing:
        raise DataError.of(
            folder.path, f"no image for {abbreviate(missing)}", "Give the folder of the scans with --images"
        )
    quality, objects = read_quality_table(folder.quality), read_object_scores(folder.objects)
    scores = case_scores(files.summary) if files.summary is not None and files.is_referenced else {}
    return [
        CaseFiles(
            name=name,
            patient=by_name[name].patient,
            image=by_name[name].images[0],
            prediction=mask,
            reference=pairs[name][1] if name in pairs else None,
            scores=scores.get(name, {}),
            quality=quality.get(name),
            object_scores=objects.get(name, {}),
        )
        for name, mask in masks.items()
    ]


def find_rival(files: RunContents, compare: Path | None) -> Rival | None:
    """Find a supervised run to compare with.

    Args:
        files: The run that is compared.
        compare: The supervised run's folder; None: one beside the run is taken, as a benchmark leaves it, if any.

    Raises:
        ConfigError: The given run is not supervised, not finished, or of other scans or settings.
    """
    if compare is not None:
        rival = _as_rival(files, compare)
        if rival is None:
            raise ConfigError(
                f"{compare}: not a finished supervised run of the same scans and settings. Train one with "
                "--method supervised and otherwise the same options."
            )
        return rival
    beside = sorted(files.folder.path.resolve().parent.glob(f"supervised*/{files.folder.config.name}"))
    return next((rival for path in beside if (rival := _as_rival(files, path.parent))), None)


def _as_rival(files: RunContents, folder: Path) -> Rival | None:
    other = RunFolder(folder)
    summary = other.scores.summary
    config = read_settings(other.config)
    same = config["method"] == "supervised" and all(config.get(key) == files.config.get(key) for key in ALIKE)
    if not (
        same
        and summary.is_file()
        and read_json(other.splits) == files.splits
        and read_held_out(folder) == files.held_out
    ):
        return None
    return Rival(folder.name, read_json(summary))
