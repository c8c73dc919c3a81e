"""The quality of predictions: what a run knows about it (`quality.json`), and tables of cases (`quality.csv`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from pydantic import Field, ValidationError

from fewscan.classes import IGNORED
from fewscan.data.appearance import feature_names
from fewscan.data.cases import Case, by_site
from fewscan.data.plans.base import Plan
from fewscan.data.split import Split
from fewscan.data.survey import Survey
from fewscan.errors import DataError
from fewscan.evaluation.calibration import LOWEST_SHARE, Calibration, Estimate, Signals, calibrate, doubt_ranks
from fewscan.evaluation.familiarity import Familiarity, SiteLooks, find_familiarity, learn_looks
from fewscan.evaluation.families import family_of
from fewscan.evaluation.quality_table import QualityRow, read_quality_table, write_quality_table
from fewscan.evaluation.shape import Expected, class_shapes, expected_shapes
from fewscan.evaluation.summary import Summary, case_means
from fewscan.inference.model import ModelCard, load_second, read_card
from fewscan.inference.quality import Assessment, QualityObserver
from fewscan.io.files import read_json, write_json
from fewscan.run_folder import PredictionFolder, RunFolder, ScoresFolder
from fewscan.runs.continuation import Start
from fewscan.runs.decoding import DecodingTrial
from fewscan.runs.scoring import validate_model
from fewscan.settings import StrictModel
from fewscan.tasks.base import task_of
from fewscan.terminal.console import Reporter
from fewscan.words import abbreviate

# 2: shapes and looks site by site.
FORMAT = 2
# Spreads beyond the labelled cases from which a case is flagged for its shape alone.
FLAG_FROM = 3.0
# Of fewer cases a fifth is not one.
FEWEST_TO_RANK = 5
# What an estimate is made from, with the second network and without; why not from the outlier: docs/quality.md.
ESTIMATED_FROM = (("entropy", "agreement_teacher", "agreement_tta"), ("entropy", "agreement_tta"))
# A calibration, and each case's estimate without its patient.
Fit = tuple[Calibration, dict[str, Estimate]]


class QualityModel(StrictModel):
    """What `quality.json` says.

    Attributes:
        format: Version of this file's format, from 1.
        two_networks: Whether the method has a second network.
        expected: Shapes of the labelled cases, by class number inside; None: no labelled case shows the whole.
        calibrations: Calibrations from signals to a Dice, those that need most signals first; empty without enough
            validation cases.
        expected_by_site: Shapes of the labelled cases of each site, where there are several, those of earlier runs
            among them; a mask is compared with the site that it fits best.
        calibrations_by_site: Calibrations of those sites whose validation cases they estimate better, each without its
            patient, than those of all.
        looks: Looks of the scans of each site that the model has seen, in this run and in those that it continues.
    """

    format: Annotated[int, Field(ge=1, le=FORMAT)] = FORMAT
    two_networks: bool
    expected: dict[int, Expected] | None
    calibrations: tuple[Calibration, ...]
    expected_by_site: dict[str, dict[int, Expected]] = Field(default_factory=dict)
    calibrations_by_site: dict[str, tuple[Calibration, ...]] = Field(default_factory=dict)
    looks: tuple[SiteLooks, ...] = ()

    @property
    def alternatives(self) -> tuple[dict[int, Expected], ...]:
        """Shapes of which a mask should have one; none where nothing is known."""
        return tuple(self.expected_by_site.values()) or ((self.expected,) if self.expected is not None else ())


def read_quality_model(run: RunFolder) -> QualityModel | None:
    """What a run knows; None where it has no `quality.json`.

    Raises:
        DataError: The file is not one of fewscan's.
    """
    path = run.quality
    if not path.is_file():
        return None
    try:
        return QualityModel.model_validate(read_json(path))
    except ValidationError as error:
        raise DataError.of(
            path, "not the quality of a fewscan run", f"Restore it, or predict --no-quality. {error}"
        ) from None


class QualityAssessor:
    """Assesses predictions while a finished run makes them; says which signals cannot be had.

    Attributes:
        observer: Observer for `predict_cases`.

    Args:
        run: Folder of the run with the model.
        card: Description of the model.
        device: Device of the network.
        reporter: Reporter that says which signals cannot be had, and what was found.
        others: Folders of further runs whose networks are averaged with the run's: nobody has learnt what their signals
            say, so nothing is estimated.

    Raises:
        DataError: A file of the run is damaged.
    """

    def __init__(
        self, run: RunFolder, card: ModelCard, device: torch.device, reporter: Reporter, others: Sequence[Path] = ()
    ) -> None:
        self.quality = read_quality_model(run)
        self.reporter = reporter
        second = () if others else load_second(run.path, card, device)
        expected = self.quality.alternatives if self.quality is not None else ()
        together = self.quality.expected if self.quality is not None else None
        named = [*expected, *([together] if together is not None else [])]
        if any(sorted(shapes) != list(range(1, len(card.plan.class_names))) for shapes in named):
            raise DataError.of(run.quality, "is of other classes than model.json", "Take all files from the same run")
        self.observer = QualityObserver(card.plan, second, expected)
        self._names = feature_names(len(card.plan.channel_names))
        self._familiar: dict[str, Familiarity] = {}
        looks = self.quality.looks if self.quality is not None else ()
        if any(len(site.centre) != len(self._names) for site in looks):
            raise DataError.of(run.quality, "is of other channels than model.json", "Take all files from the same run")
        if others and self.quality is not None:
            self.quality = self.quality.model_copy(update={"calibrations": (), "two_networks": False})
            reporter.say("several runs are averaged: outliers are flagged, no Dice is estimated")
        elif self.quality is None:
            reporter.say(f"{run.quality} is not there: signals of quality, but no estimate and no outliers")
        elif not task_of(card.plan).metrics.is_estimated:
            reporter.say("cases are ranked by the network's own doubt, nothing is estimated")
        elif not self.quality.calibrations:
            outliers = "outliers are flagged, " if expected else ""
            reporter.say(f"{run} had too few validation cases: {outliers}no Dice is estimated")
        if not second and self.quality is not None and self.quality.two_networks:
            reporter.say(f"{run.second_weights} is not there: no agreement with the other network")

    def look_at(self, case: Case, appearance: Sequence[float]) -> None:
        """Compare a scan with those that the model has seen, before it is predicted.

        Args:
            case: Case of the scan.
            appearance: Numbers of `data.appearance`, all channels'.
        """
        looks = self.quality.looks if self.quality is not None else ()
        found = find_familiarity(looks, np.array(appearance), self._names)
        if found is not None:
            self._familiar[case.name] = found

    def row(self, case: Case) -> QualityRow:
        """What is known of a case that is finished; it is forgotten here."""
        familiar = self._familiar.pop(case.name, None)
        site = familiar.site if familiar is not None and familiar.score <= 1 else ""
        row = assess_case(case.name, self.observer.take(case), self.quality, site)
        return with_familiarity(row, familiar)

    def write(self, folder: PredictionFolder, assessed: Sequence[QualityRow]) -> None:
        """Write `quality.csv` of all cases, and say which look like none that the model has seen.

        Args:
            folder: Folder of the prediction.
            assessed: Rows of its cases, whoever has assessed them.
        """
        rows = with_doubtful_flagged(assessed)
        write_quality_table(folder.quality, rows)
        strange = [row.case for row in rows if (row.unlike or 0) > 1]
        if strange:
            self.reporter.say(
                f"WARNING: {len(strange)} of {len(rows)} scans look like none that the model has seen, its masks of "
                f"them may be wrong whatever it thinks of them: {abbreviate(strange)}"
            )
        self.reporter.say(f"{_summary_line(rows)}; see {folder.quality}")


def assess_case(case: str, found: Assessment, quality: QualityModel | None, site: str = "") -> QualityRow:
    """The estimate of a predicted case, and whether somebody should look at it.

    Args:
        case: Name of the case.
        found: Signals of the case.
        quality: What the run knows; None: nothing.
        site: Name of the site that the scan looks like; empty: nobody knows.
    """
    calibrations = quality.calibrations_by_site.get(site, quality.calibrations) if quality is not None else ()
    for calibration in calibrations:
        estimate = calibration.estimate(found.signals)
        if estimate is not None:
            return _flagged_row(case, found, estimate, calibration.lowest_fifth)
    return _flagged_row(case, found, None, calibrations[0].lowest_fifth if calibrations else None)


def _flagged_row(case: str, found: Assessment, estimate: Estimate | None, lowest_fifth: float | None) -> QualityRow:
    """Flag what is estimated at `lowest_fifth` or lower, and outliers; None: nothing is estimated."""
    reasons = []
    if lowest_fifth is not None and estimate is None:
        reasons.append("no estimate: the mask shows nothing on the canvas")
    is_low = lowest_fifth is not None and estimate is not None and estimate.dice <= lowest_fifth
    if is_low:
        reasons.append(f"the estimate is within the lowest fifth of validation, {lowest_fifth:.2f} or less")
    is_outlier = (found.signals.outlier or 0) >= FLAG_FROM
    if is_outlier:
        reasons.append(found.outlier_reason)
    return QualityRow(case, estimate, is_low or is_outlier, "; ".join(reasons), found.signals)


def with_familiarity(row: QualityRow, found: Familiarity | None) -> QualityRow:
    """Add to a case's row whether its scan looks like those that the model has seen, and flag it where it does not.

    Args:
        row: Row of the case.
        found: Comparison with the sites that the model has seen; None: nothing is known of them.
    """
    if found is None:
        return row
    row = row._replace(unlike=found.score, most_like=found.site)
    if found.score <= 1:
        return row
    far = f"the scan looks like none that the model has seen, {found.score:.1f} times the limit"
    reason = f"{far}: {found.reason}" if found.reason else far
    return row._replace(flagged=True, reason="; ".join(part for part in (row.reason, reason) if part))


def _standing(row: QualityRow) -> float:
    """To sort by: the lowest estimates first, and what nothing is known of before them."""
    return row.estimate.dice if row.estimate is not None else -1.0


def with_doubtful_flagged(rows: Sequence[QualityRow]) -> list[QualityRow]:
    """Flag the fifth of the cases that a model doubts most, where no Dice is estimated of any.

    Args:
        rows: Rows of all cases that were predicted together; fewer than 5 are given back as they are.
    """
    if len(rows) < FEWEST_TO_RANK or any(row.estimate is not None for row in rows):
        return list(rows)
    ranks = doubt_ranks({row.case: row.signals for row in rows})
    first = math.ceil(LOWEST_SHARE * len(rows))
    flagged = []
    for row in rows:
        rank = ranks[row.case]
        if rank > first:
            flagged.append(row)
            continue
        reason = f"number {rank} of {len(rows)} by the network's own doubt; no Dice is estimated"
        flagged.append(row._replace(flagged=True, reason="; ".join(part for part in (reason, row.reason) if part)))
    return flagged


def _summary_line(rows: Sequence[QualityRow]) -> str:
    flagged = [row.case for row in sorted(rows, key=_standing) if row.flagged]
    named = f", these first: {abbreviate(flagged)}" if flagged else ""
    return f"{len(flagged)} of {len(rows)} cases should be looked at{named}"


def validate_and_calibrate(
    run: RunFolder,
    split: Split,
    survey: Survey,
    device: torch.device,
    reporter: Reporter,
    start: Start | None = None,
    *,
    tries_decodings: bool = True,
) -> None:
    """Score the validation cases and learn what quality looks like: `validation/`, `quality.json`.

    Args:
        run: Folder of the run with the model.
        split: Split of the run.
        survey: Survey with the labels that it knows; the others are read.
        device: Device to predict on.
        reporter: Reporter that shows progress and what was learnt.
        start: Finished run that this one continues, whose sites are known too; None: it starts from fresh weights.
        tries_decodings: Whether ways to decode are tried for `choose_decoding`, where the task leaves that open.

    Raises:
        DataError: A file cannot be read, or written.
    """
    card = read_card(run.path)
    second = load_second(run.path, card, device)
    quality = _learn_sites(split, card.plan, survey, reporter, start)
    quality = quality.model_copy(update={"two_networks": bool(second)})
    if split.val:
        observer = QualityObserver(card.plan, second, quality.alternatives)
        task = task_of(card.plan)
        trial = DecodingTrial(task, survey) if tries_decodings and task.leaves_decoding_open else None
        summary = validate_model(run, split.val, survey, device, reporter, run.validation, observer, trial)
        if trial is not None:
            trial.write(run.validation)
        found = {case.name: observer.take(case) for case in split.val}
        familiar = _familiarity(quality, card.plan, split.val, survey, reporter)
        calibrations = _calibrate(run.validation, split.val, found, summary, reporter, familiar)
        quality = quality.model_copy(update=calibrations._asdict())
    write_json(run.quality, quality.model_dump(mode="json"))


def calibrate_on_folds(
    run: RunFolder,
    split: Split,
    survey: Survey,
    device: torch.device,
    reporter: Reporter,
    start: Start | None = None,
) -> None:
    """Learn what quality looks like from the labelled cases that the folds have scored: `quality.json`.

    The signals are those of each fold's own network; a prediction has them of all networks' mean. A mean is surer of
    itself and nearer to the truth, so that its estimates are on the low side.

    Args:
        run: Folder of the run, whose folds are scored and gathered in `cross_validation/`.
        split: Split of the whole run.
        survey: Survey of the labelled scans.
        device: Device of the networks.
        reporter: Reporter that says what was learnt.
        start: Finished run that this one continues, whose sites are known too; None: it starts from fresh weights.

    Raises:
        DataError: A file cannot be read, or written.
    """
    card = read_card(run.path)
    rows = {case: row for fold in run.parts for case, row in read_quality_table(fold.validation.quality).items()}
    found = {case: Assessment(row.signals, row.reason) for case, row in rows.items()}
    summary: Summary = read_json(run.cross_validation.summary)
    # Each fold has compared the looks of what it held out; of all scans together none is held out.
    calibrations = _calibrate(run.cross_validation, split.labelled, found, summary, reporter, _familiar_of(rows))
    second = load_second(run.path, card, device)
    quality = _learn_sites(split, card.plan, survey, reporter, start)
    update = {"two_networks": bool(second), **calibrations._asdict()}
    write_json(run.quality, quality.model_copy(update=update).model_dump(mode="json"))


def _familiar_of(rows: Mapping[str, QualityRow]) -> dict[str, Familiarity]:
    return {case: Familiarity(row.unlike, row.most_like, "") for case, row in rows.items() if row.unlike is not None}


def _learn_sites(split: Split, plan: Plan, survey: Survey, reporter: Reporter, start: Start | None) -> QualityModel:
    """Learn shapes and looks site by site; those of earlier runs' sites stay as they were."""
    expected = _expected(split.labelled, plan, survey, reporter)
    sites = {site or plan.dataset: cases for site, cases in by_site(split.train).items()}
    looks = [found for site, cases in sites.items() if (found := _looks(site, cases, survey)) is not None]
    if not looks and (together := _looks(plan.dataset, split.train, survey)) is not None:
        # Of each site too few to know how they differ: all are taken for one.
        looks = [together]
    shapes: dict[str, dict[int, Expected]] = {}
    earlier = read_quality_model(start.run) if start is not None else None
    if start is not None and earlier is not None:
        looks = [*(site for site in earlier.looks if site.site not in sites), *looks]
        before = earlier.expected_by_site or ({start.card.plan.dataset: earlier.expected} if earlier.expected else {})
        shapes = {site: found for site, found in before.items() if site not in sites}
    for site, cases in sites.items():
        own = [case for case in cases if case.label is not None]
        known = _expected(own, plan, survey, Reporter(quiet=True)) if expected is not None else None
        if known is not None:
            shapes[site] = known
    return QualityModel(
        two_networks=False, expected=expected, calibrations=(), expected_by_site=shapes, looks=tuple(looks)
    )


def _looks(site: str, cases: Sequence[Case], survey: Survey) -> SiteLooks | None:
    known = [(case.patient, found.appearance) for case in cases if (found := survey.of(case)) is not None]
    looks = [(patient, appearance) for patient, appearance in known if appearance is not None]
    if not looks:
        return None
    return learn_looks(site, np.array([appearance for _, appearance in looks]), [patient for patient, _ in looks])


def _familiarity(
    quality: QualityModel, plan: Plan, cases: Sequence[Case], survey: Survey, reporter: Reporter
) -> dict[str, Familiarity]:
    """How much held-out cases look like the training's, and a line about it."""
    names = feature_names(len(plan.channel_names))
    found: dict[str, Familiarity] = {}
    for case in cases:
        surveyed = survey.of(case)
        if surveyed is not None and surveyed.appearance is not None:
            familiar = find_familiarity(quality.looks, np.array(surveyed.appearance), names)
            found |= {case.name: familiar} if familiar is not None else {}
    strange = [case for case, familiar in found.items() if familiar.score > 1]
    if found:
        named = f": {abbreviate(strange)}" if strange else ""
        reporter.say(f"quality: {len(strange)} of {len(found)} held-out scans look like none of the training's{named}")
    return found


def _expected(labelled: Sequence[Case], plan: Plan, survey: Survey, reporter: Reporter) -> dict[int, Expected] | None:
    """Of those cases that are labelled all over: of the others nobody knows the whole shapes.

    None, too, where scans do not all show the same structures.
    """
    if not (labelled and task_of(plan).has_anatomy):
        return None
    shapes = []
    with reporter.bar("measuring labelled masks", len(labelled)) as step:
        for case in labelled:
            label = survey.labels(case, plan.classes)
            if not (label.array == IGNORED).any():
                axis = plan.viewing_axis_of(label.array.shape)
                shapes.append(class_shapes(label.array, label.geometry.spacing_mm, axis, len(plan.class_names)))
            step()
    if not shapes:
        reporter.say('quality: every labelled mask has voxels to "ignore", so no shapes are known and none is flagged')
        return None
    return expected_shapes(shapes)


class Calibrated(NamedTuple):
    """Calibrations of all cases, and those of sites; names as in `QualityModel`."""

    calibrations: tuple[Calibration, ...]
    calibrations_by_site: dict[str, tuple[Calibration, ...]]


def _calibrate(
    folder: ScoresFolder,
    cases: Sequence[Case],
    found: Mapping[str, Assessment],
    summary: Summary,
    reporter: Reporter,
    familiar: Mapping[str, Familiarity],
) -> Calibrated:
    """Fit the models, and write the validation cases' own table, each estimated without its patient."""
    dice = case_means(summary)
    metrics = family_of(summary["mean"])
    if not metrics.is_estimated:
        rows = with_doubtful_flagged([_flagged_row(case, found[case], None, None) for case in dice])
        rows = [with_familiarity(row, familiar.get(row.case)) for row in rows]
        write_quality_table(folder.quality, rows)
        reporter.say(f"quality: {metrics.headline_title} is not estimated; {_summary_line(rows)}")
        return Calibrated((), {})
    signals = {case: assessment.signals for case, assessment in found.items()}
    fits = _fits(signals, dice, cases)
    of_sites = _fits_of_sites(signals, dice, cases, fits[0][1] if fits else {})
    site_of = {case.name: case.site for case in cases}
    rows = []
    for case, value in dice.items():
        calibration, estimates = next(iter(of_sites.get(site_of[case], fits)), (None, {}))
        lowest_fifth = calibration.lowest_fifth if calibration is not None else None
        rows.append(_flagged_row(case, found[case], estimates.get(case), lowest_fifth)._replace(dice=value))
    rows = [with_familiarity(row, familiar.get(row.case)) for row in with_doubtful_flagged(rows)]
    write_quality_table(folder.quality, rows)
    reporter.say(_told(fits[0][0], rows) if fits else _told_why_not(signals))
    if of_sites:
        reporter.say(f"quality: estimates of scans that look like {', '.join(of_sites)} are made from its own cases")
    return Calibrated(
        tuple(calibration for calibration, _ in fits),
        {site: tuple(calibration for calibration, _ in own) for site, own in of_sites.items()},
    )


def _fits(signals: Mapping[str, Signals], dice: Mapping[str, float], cases: Sequence[Case]) -> list[Fit]:
    """Calibrations on cases, those that need most signals first, with each case's estimate without its patient."""
    patients = {case.name: case.patient for case in cases}
    own = {case: found for case, found in signals.items() if case in patients}
    return [fit for names in ESTIMATED_FROM if (fit := calibrate(own, dice, patients, names)) is not None]


def _fits_of_sites(
    signals: Mapping[str, Signals], dice: Mapping[str, float], cases: Sequence[Case], pooled: Mapping[str, Estimate]
) -> dict[str, list[Fit]]:
    """Calibrations of those sites whose cases they estimate better than that of all, each without its patient."""

    def error(estimates: Mapping[str, Estimate], names: Sequence[str]) -> float:
        return float(np.mean([abs(estimates[name].dice - dice[name]) for name in names]))

    found, sites = {}, by_site(cases)
    for site, own in sites.items() if len(sites) > 1 else ():
        fits = _fits(signals, dice, own)
        both = [case.name for case in own if fits and case.name in fits[0][1] and case.name in pooled]
        if both and error(fits[0][1], both) < error(pooled, both):
            found[site] = fits
    return found


def _told(calibration: Calibration, rows: Sequence[QualityRow]) -> str:
    rank = "undefined" if calibration.spearman is None else f"{calibration.spearman:.2f}"
    return (
        f"quality: estimates without labels have a rank correlation (Spearman) of {rank} with the Dice of "
        f"{calibration.cases} validation cases, each estimated without its patient; {_summary_line(rows)}"
    )


def _told_why_not(signals: Mapping[str, Signals]) -> str:
    """Why nothing is estimated."""
    outliers = any(signal.outlier is not None for signal in signals.values())
    flagged = "; outliers are flagged" if outliers else ""
    compared = sum(signal.agreement_tta is not None for signal in signals.values())
    few = f"{len(signals)} validation cases are"
    if compared < len(signals):
        few = f"{compared} of {len(signals)} validation cases have a mask to compare with that of the turned scan,"
    return f"quality: {few} too few for an estimate{flagged}"
