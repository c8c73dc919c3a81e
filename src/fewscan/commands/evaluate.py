"""fewscan evaluate: masks against references."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from fewscan.commands.console import Reporter
from fewscan.commands.outcomes import Evaluation
from fewscan.evaluation.evaluate import evaluate_folders
from fewscan.evaluation.summary import Rules, write_csv
from fewscan.io import make_folder, write_json


def evaluate(
    predictions: Path,
    references: Path,
    output: Path | None = None,
    rules: Rules = "strict",
    reporter: Reporter | None = None,
) -> Evaluation:
    """Score masks.

    Args:
        predictions: folder of masks, or one.
        references: folder of masks, or one.
        output: JSON file to write; the same name with .csv is written beside it.
        rules: strict, or paper to compare with published figures.
        reporter: where to show progress.

    Returns:
        The scores.

    Raises:
        DataError: a pair is missing or does not fit.
    """
    reporter = reporter or Reporter(quiet=True)
    with ExitStack() as stack:

        def progress(total: int) -> Callable[[], None]:
            return stack.enter_context(reporter.bar("scoring", total))

        summary = evaluate_folders(Path(predictions), Path(references), rules, progress=progress)
    if output is not None:
        output = Path(output)
        make_folder(output.parent)
        write_json(output, summary)
        write_csv(output.with_suffix(".csv"), summary)
    return Evaluation(summary)
