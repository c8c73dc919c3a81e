"""Scores of held-out cases: the full metrics on the scans' own grids, with the saved model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from fewscan.classes import IGNORED
from fewscan.data.cases import Case
from fewscan.data.plans.base import Plan
from fewscan.data.reading import read_shown
from fewscan.data.survey import Survey
from fewscan.evaluation.evaluate import scored_names
from fewscan.evaluation.summary import (
    Summary,
    case_means,
    headline_title,
    scores_by_site,
    spread,
    summarise,
    summary_table,
    write_csv,
)
from fewscan.inference.model import load_model
from fewscan.inference.predict import Observer, predict_cases
from fewscan.inference.predictor import Predictor
from fewscan.io.files import write_json
from fewscan.io.scans import read_mask
from fewscan.networks.segmenter import SegmentationNetwork
from fewscan.reporting.overlays import save_overlay
from fewscan.run_folder import MASK_ENDING, RunFolder, ScoresFolder
from fewscan.tasks.tables import Tables
from fewscan.terminal.console import Reporter


def validate_model(
    run: RunFolder,
    cases: Sequence[Case],
    survey: Survey,
    device: torch.device,
    reporter: Reporter,
    folder: ScoresFolder,
    observer: Observer | None = None,
    tables: Tables | None = None,
) -> Summary:
    """Predict held-out cases with the saved model, score them on their own grid, draw three of them.

    The labels are read for the scores, whatever the survey knows; the pictures take them from it. Writes into `folder`,
    of the run, `CASE.nii.gz`, `summary.json`, `summary.csv` and overlays of the best, median and worst case.

    Args:
        run: Folder of the run with the model.
        cases: Cases with labels, at least one.
        survey: Survey with the labels that it knows.
        device: Device to predict on.
        reporter: Reporter that shows progress and scores.
        folder: Folder that is written into.
        observer: Observer of the predictions.
        tables: Tables that measure every mask.
    """
    part = folder.path.name
    networks, card = load_model(run.path, device)
    plan, task = card.plan, card.task
    scores = {}
    with reporter.bar(f"scoring: {part}", len(cases)) as step:
        for case, path in predict_cases(
            Predictor(networks),
            plan,
            cases,
            folder.path,
            device,
            MASK_ENDING,
            progress=step,
            observer=observer,
            tables=tables,
            decode=task.decode,
        ):
            if case.label is None:
                raise ValueError(f"{part} case {case.name} has no label")
            scores[case.name] = task.score(path, case.label)
    say_remarks(networks, reporter)
    summary = summarise(scores, scored_names(plan.classes))
    write_scores(folder, summary, reporter, sites=sites_of(cases))
    _draw_cases(folder, cases, survey, summary, plan)
    return summary


def say_remarks(networks: Iterable[SegmentationNetwork], reporter: Reporter) -> None:
    """Say what networks have remarked on since they were asked last."""
    for network in networks:
        for remark in network.take_remarks():
            reporter.say(remark)


def sites_of(cases: Sequence[Case]) -> dict[str, str]:
    """Site of each case, by its name; empty where the data set names no sites."""
    return {case.name: case.site for case in cases if case.site}


def write_scores(
    folder: ScoresFolder,
    summary: Summary,
    reporter: Reporter,
    patients: Mapping[str, str] | None = None,
    sites: Mapping[str, str] | None = None,
) -> None:
    """Add how much the cases differ to a summary, write its files, and show it.

    Args:
        folder: Folder of the scored masks.
        summary: Scores of all cases; its "spread", and its "sites" where there are some, are set.
        reporter: Place to show the table.
        patients: Patient of each case, by the case's name, where they are a handful; see `evaluation.summary.spread`.
        sites: Site of each case, by the case's name; None or empty: the data set names no sites.
    """
    summary["spread"] = spread(summary, patients)
    if sites:
        summary["sites"] = scores_by_site(summary, sites)
    write_json(folder.summary, summary)
    write_csv(folder.table, summary)
    reporter.say(summary_table(summary))


def _draw_cases(folder: ScoresFolder, cases: Sequence[Case], survey: Survey, summary: Summary, plan: Plan) -> None:
    means, title = case_means(summary), headline_title(summary)
    ranked = sorted(cases, key=lambda case: means[case.name])
    chosen = {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1]}
    # Of few cases one has several ranks: it is read once.
    for case in {case.name: case for case in chosen.values()}.values():
        path = folder.mask(case.name)
        classes, image = plan.classes, read_shown(case.images[0], case.reading)
        prediction = classes.to_inside(read_mask(path).array, path)
        reference = survey.labels(case, classes).array
        for rank in [rank for rank, ranked_case in chosen.items() if ranked_case.name == case.name]:
            save_overlay(
                folder.overlay(rank),
                image.picture,
                prediction=classes.colours(prediction),
                reference=classes.colours(np.where(reference == IGNORED, 0, reference)),
                class_names=classes.legend,
                title=f"{rank}: {case.name}, mean {title} {means[case.name]:.3f}",
                axes=plan.picture_axes_of(prediction.shape),
                spacing_mm=image.geometry.spacing_mm,
            )
