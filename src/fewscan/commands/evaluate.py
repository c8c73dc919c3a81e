"""fewscan evaluate: masks against references."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from fewscan.data.index import sites_of_masks
from fewscan.errors import ConfigError
from fewscan.evaluation.evaluate import Pairs, evaluate_folders, find_description, match_pairs
from fewscan.evaluation.metrics import TOLERANCES_MM
from fewscan.evaluation.summary import MISSING, RULES, Missing, Rules, scores_by_site, write_csv
from fewscan.io.elsewhere import refuse_elsewhere
from fewscan.io.files import AnyPath, make_folder, write_json
from fewscan.runs.results import Evaluation
from fewscan.tasks.base import task_near
from fewscan.terminal.console import Reporter
from fewscan.work.choice import choose_executor
from fewscan.work.staging import Staging


def evaluate(
    predictions: AnyPath,
    references: AnyPath,
    *,
    output: AnyPath | None = None,
    rules: Rules = "strict",
    reporter: Reporter | None = None,
    missing: Missing = "score",
    tolerances_mm: Sequence[float] = TOLERANCES_MM,
    executor: str = "auto",
    workers: int | None = None,
) -> Evaluation:
    """Score masks against references: overlap, surface distances and volumes per case and class, or objects.

    Where that data set names sites ("site_pattern", `sites.json`), there are scores of each too.

    Objects are compared where a dataset.json beside or above the references, or the masks, has "task": "instances".

    Args:
        predictions: Folder of predicted masks, or one mask; or a URL of either, such as "s3://bucket/masks".
        references: Folder of reference masks of the same names, or one mask; or a URL of either.
        output: JSON file to write, with a table `.csv` beside it; None: nothing is written.
        rules: Rules for distances where one mask alone is empty: strict (undefined), or paper (0, as published figures
            have it).
        reporter: Reporter that shows progress and decisions; None: nothing is shown.
        missing: Treatment of references that have no prediction: score (as missed), or skip (leave them out).
        tolerances_mm: Tolerances of the surface Dice (NSD) in mm, above 0.
        executor: Executor that scores the masks: auto (this process, and others where it takes long), serial,
            processes, ray or ray:ADDRESS.
        workers: Number of processes, from 1; None: as many as processors and memory allow.

    Returns:
        The scores; their summary names what is missing, left out and shown by no case.

    Raises:
        DataError: A mask lies elsewhere than its reference, cannot be read, or holds what is no class.
        ConfigError: A tolerance is no length, there are no such rules or no such executor, or the output is a URL.

    Examples:
        >>> import fewscan
        >>> scores = fewscan.evaluate("MASKS", "DATASET/labelsTr", missing="skip")
        >>> list(scores.cases), list(scores.classes)
        (['case_03'], ['disc'])
    """
    refuse_elsewhere(output)
    wrong = [tolerance for tolerance in tolerances_mm if not (math.isfinite(tolerance) and tolerance > 0)]
    if wrong:
        raise ConfigError(f"tolerance {wrong[0]:g}: must be above 0 mm. Give a length such as 1 or 0.5.")
    if missing not in MISSING or rules not in RULES:
        raise ConfigError(f"missing {missing!r}, rules {rules!r}: must be score or skip, and strict or paper.")
    with Staging.of(reporter or Reporter(quiet=True), executor) as staging:
        ours, theirs = staging.beside(predictions), staging.beside(references)
        task = task_near(theirs, ours)
        masks = match_pairs(ours, theirs)
        # Before masks are scored, which takes long: what is wrong with the names of sites is said at once.
        sites = _sites(masks, ours, theirs)
        files = [path for pair in masks.both.values() for path in pair]
        summary = evaluate_folders(
            ours,
            theirs,
            rules=rules,
            bar=staging.reporter.bar,
            missing=missing,
            tolerances_mm=sorted(set(tolerances_mm)),
            scoring=task.scoring if task is not None else None,
            executor=staging.executor(choose_executor(staging.executor_name, workers, files)),
        )
    if sites:
        summary["sites"] = scores_by_site(summary, sites)
    if output is not None:
        output = Path(output)
        make_folder(output.parent)
        write_json(output, summary)
        write_csv(output.with_suffix(".csv"), summary)
    return Evaluation(summary)


def _sites(masks: Pairs, predictions: Path, references: Path) -> dict[str, str]:
    """Site of each case, as the data set says whose dataset.json is the first beside or above the folders."""
    for folder in (references, predictions):
        found = find_description(folder)
        if found is not None:
            return sites_of_masks(found.folder, [*masks.both, *masks.missing])
    return {}
