"""The page of a run: which cases it shows, and what they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fewscan.config import read_settings
from fewscan.data.fingerprint import take_fingerprint
from fewscan.data.index import DatasetIndex
from fewscan.data.split import Split
from fewscan.errors import ConfigError, DataError
from fewscan.evaluation.summary import case_scores
from fewscan.io.files import read_json
from fewscan.reporting.page.cases import CaseFiles, make_cards
from fewscan.reporting.page.sources import RunFiles, read_run
from fewscan.reporting.page.verdict import Rival
from fewscan.reporting.page.write import Contents, write_page
from fewscan.run_folder import RunFolder
from fewscan.terminal.console import Reporter
from fewscan.words import abbreviate

MOST_CASES = 60
# What a supervised run must share to be compared with.
ALIKE = ("seed", "plan", "network", "augmentation", "stages")


@dataclass(frozen=True)
class DataOfRun:
    """The data set that a run was trained on, and its cases by role."""

    index: DatasetIndex
    split: Split


def write_report(run: RunFolder, data: DataOfRun, reporter: Reporter, most_cases: int) -> None:
    """Write `report.html` of a run that has just been trained."""
    files = read_run(run)
    cases = _validation_cases(files, data)
    _write(
        files,
        cases,
        data=data,
        predictions=None,
        rival=_find_rival(files, None),
        output=run.page,
        most_cases=most_cases,
        reporter=reporter,
    )


def _write(
    files: RunFiles,
    cases: Sequence[CaseFiles],
    *,
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


def _validation_cases(files: RunFiles, data: DataOfRun | None) -> list[CaseFiles]:
    """The scored cases; none where nothing was held out, or the run is not finished."""
    if files.summary is None or data is None:
        return []
    by_name = {case.name: case for case in data.split.val}
    unknown = [name for name in files.summary["cases"] if name not in by_name]
    if unknown:
        raise DataError(
            f"{files.folder.validation.summary}: scores cases that splits.json does not validate: "
            f"{abbreviate(unknown)}. Restore both."
        )
    return [
        CaseFiles(
            name=name,
            patient=by_name[name].patient,
            image=by_name[name].images[0],
            prediction=files.folder.validation.mask(name),
            reference=by_name[name].label,
            scores=scores,
            quality=files.quality.get(name),
        )
        for name, scores in case_scores(files.summary).items()
    ]


def _find_rival(files: RunFiles, compare: Path | None) -> Rival | None:
    """The supervised run that was given, or one beside the run, as a benchmark leaves it."""
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


def _as_rival(files: RunFiles, folder: Path) -> Rival | None:
    other = RunFolder(folder)
    summary = other.validation.summary
    config = read_settings(other.config)
    same = config["method"] == "supervised" and all(config.get(key) == files.config.get(key) for key in ALIKE)
    if not (same and summary.is_file() and read_json(other.splits) == files.splits):
        return None
    return Rival(folder.name, read_json(summary))
