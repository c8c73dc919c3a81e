"""A training that is tried and not begun: what it would cost, from a few scans in a temporary cache."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fewscan.config import Config
from fewscan.data.cache import build_cache
from fewscan.data.cases import Case
from fewscan.data.plans.base import Plan
from fewscan.data.split import Split
from fewscan.data.survey import Survey
from fewscan.engine.forecast import Forecast
from fewscan.methods.base import Stage
from fewscan.runs.continuation import Start
from fewscan.runs.folds import settings_of_fold
from fewscan.runs.job import throwaway_method
from fewscan.runs.outlook import look_ahead
from fewscan.runs.rehearsal import Rehearsal, Together
from fewscan.runs.time_limit import TimeLimit
from fewscan.terminal.console import Reporter


@dataclass(frozen=True)
class DryRun:
    """What a training would be, and how long it would take.

    Attributes:
        plan: Plan by which scans would become input, with the ceiling: the best Dice that its canvas allows.
        split: Split into labelled, unlabelled and held-out cases.
        forecast: Forecast of the time, in parts.

    Examples:
        >>> import fewscan
        >>> tried = fewscan.train(
        ...     "DATASET", "TRIED", labelled=2, recipe="quick", settings=short, dry_run=True
        ... )
        >>> len(tried.split.labelled), tried.forecast.seconds > 0
        (2, True)
    """

    plan: Plan
    split: Split
    forecast: Forecast

    def to_json(self) -> dict[str, Any]:
        """Plan, ceiling, split and times as plain values."""
        plan = self.plan.model_dump(mode="json")
        return {
            "plan": plan,
            "ceiling": plan["ceiling"],
            "split": self.split.to_json(),
            "time": self.forecast.to_json(),
        }


def try_training(
    config: Config,
    plan: Plan,
    split: Split,
    survey: Survey,
    device: torch.device,
    stages: Sequence[Stage],
    reporter: Reporter,
    *,
    folds: Sequence[Split] = (),
    limit: TimeLimit | None = None,
    start: Start | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> DryRun:
    """Preprocess as many scans as a batch needs, try the method on them, and forget both.

    Args:
        config: Resolved settings.
        plan: Plan of the data set.
        split: Cases by role.
        survey: Survey of all their scans.
        device: Device to compute on.
        stages: Stages of the method, whose largest batch says how many scans are needed.
        reporter: Reporter that is told what a limit means.
        folds: Splits of the folds; empty: one network is trained on all labelled cases.
        limit: Limit of the time; None: there is none.
        start: Finished run whose weights training starts from; None: they are fresh.
        clock: Function that gives the time in s.

    Raises:
        DataError: A file cannot be read, or the temporary folder cannot be written.
    """
    first, trainings = (folds[0], len(folds)) if folds else (split, 1)
    together = Together(config, split, trainings) if folds else None
    if folds:
        config = settings_of_fold(config)
    cases, everything = _cases_of_a_batch(first, stages), (*split.train, *split.val)
    with tempfile.TemporaryDirectory() as folder:
        cache, started = Path(folder) / "train", clock()
        build_cache(cases, plan, cache)
        preprocessing = (clock() - started) / _voxels(cases, survey) * _voxels(everything, survey)
        if limit is not None:
            limit.count(preprocessing)
        with throwaway_method(config, plan, plan.store(cache, device), device, start) as (method, phases):
            rehearsal = Rehearsal(config, plan, first, survey, phases, together)
            share = limit.shares(trainings)[0] if limit is not None else None
            ahead = look_ahead(rehearsal, method, reporter, later=trainings - 1, share=share)
    forecast = ahead.whole._replace(preprocessed=len(everything), preprocessing_seconds=preprocessing)
    return DryRun(plan, split, forecast)


def _cases_of_a_batch(split: Split, stages: Sequence[Stage]) -> tuple[Case, ...]:
    """As many labelled and unlabelled training cases as the largest batch has images; at least one of each, if any.

    Where nothing is trained the labelled cases are what the model is made of: all of them.
    """
    labelled = max([1, *(stage.labelled for stage in stages)]) if stages else len(split.labelled)
    unlabelled = max([1, *(stage.unlabelled for stage in stages)])
    hidden = [case for case in split.train if case.label is None]
    return (*split.labelled[:labelled], *hidden[:unlabelled])


def _voxels(cases: Sequence[Case], survey: Survey) -> int:
    return sum(math.prod(survey.geometry(case).shape) for case in cases)
