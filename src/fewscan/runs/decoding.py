"""How probabilities are decoded where the task leaves that open: tried on held-out cases, the best is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import ValidationError

from fewscan.data.assembler import Assembled
from fewscan.data.cases import Case
from fewscan.data.survey import Survey
from fewscan.errors import DataError
from fewscan.io.files import read_json, write_json
from fewscan.io.geometry import Geometry
from fewscan.run_folder import RunFolder, ScoresFolder
from fewscan.runs.postprocessing import FEWEST_CASES
from fewscan.settings import StrictModel
from fewscan.tasks.base import Task
from fewscan.tasks.tables import Table, Tables
from fewscan.terminal.console import Reporter

# The best of some hundred ways is ahead of the defaults by chance, too.
LEAST_GAIN = 1e-3
DIGITS = 5


class TriedDecodings(StrictModel):
    """What `decodings.json` says.

    Attributes:
        decodings: Ways that were tried, the defaults first, by the names of the task's `decodings`.
        scores: Headline metric, 0 to 1, of each of the ways, by case.
    """

    decodings: tuple[dict[str, float], ...]
    scores: dict[str, tuple[float, ...]]


class DecodingTrial(Tables):
    """Tries ways to decode the probabilities of held-out cases while these are predicted, in the writer's thread.

    Args:
        task: Task that leaves something open.
        survey: Survey with the labels that it knows; the others are read.
    """

    wants_probabilities = True

    def __init__(self, task: Task, survey: Survey) -> None:
        self.task = task
        self.survey = survey
        self._decodings: tuple[dict[str, float], ...] = ()
        self._scores: dict[str, tuple[float, ...]] = {}

    def measure(self, case: Case, found: Assembled, geometry: Geometry) -> None:
        """Try all ways on a case, whose label is read.

        Raises:
            DataError: The label cannot be read.
            ValueError: The case comes without its probabilities.
        """
        del geometry
        if found.probabilities is None:
            raise ValueError("ways to decode are tried on probabilities")
        reference = self.survey.labels(case, self.task.classes).array
        tried = self.task.try_decodings(found.probabilities.astype(np.float32), reference)
        self._decodings = tuple(each.decoding.model_dump() for each in tried)
        self._scores[case.name] = tuple(round(each.score, DIGITS) for each in tried)

    def tables(self, made: Sequence[str]) -> Iterator[Table]:
        """None: what was tried is for the model's card."""
        del made
        return iter(())

    def write(self, folder: ScoresFolder) -> None:
        """Write `decodings.json`.

        Args:
            folder: Folder of the scored masks.

        Raises:
            WriteError: The file cannot be written.
        """
        found = TriedDecodings(decodings=self._decodings, scores=self._scores)
        write_json(folder.decodings, found.model_dump(mode="json"))


def choose_decoding(run: RunFolder, task: Task, scored: Sequence[ScoresFolder], reporter: Reporter) -> dict[str, float]:
    """Choose the way to decode that held-out cases have the best mean of, for the model's card.

    The scores in the run stay those of the defaults: the way was chosen on these cases, so that its gain there
    flatters.

    Args:
        run: Folder of the run; `postprocessing.json` is written into it.
        task: Task that leaves something open.
        scored: Folders of held-out cases that ways were tried on, one for each network of the run or one for all.
        reporter: Place to say what was chosen, and what it gains.

    Returns:
        The choice by the names of the task's `decodings`; empty where the defaults are as good as any, or the cases are
        too few.

    Raises:
        DataError: A file of the run is damaged.
        WriteError: A file cannot be written.
    """
    tried = [_read(folder) for folder in scored]
    scores = np.array([row for each in tried for row in each.scores.values()])
    if len(scores) < FEWEST_CASES:
        return {}
    means = scores.mean(axis=0)
    best = int(means.argmax())
    gains = means[best] > means[0] + LEAST_GAIN
    chosen = tried[0].decodings[best] if gains else {}
    title = task.metrics.headline_title
    told = task.decodings.model_validate(chosen).describe()
    write_json(
        run.postprocessing,
        {
            "cases": len(scores),
            "metric": title,
            "dice": float(means[0]),
            "steps": [{"step": told, "dice": float(means[best])}] if gains else [],
        },
    )
    if gains:
        reporter.say(
            f"decoding: {told}: {title} {means[0]:.4f} → {means[best]:.4f} on the {len(scores)} held-out cases that it "
            "was chosen on; `fewscan predict` does it, --no-postprocess does not"
        )
    else:
        reporter.say(f"decoding: no way is better than the defaults on {len(scores)} held-out cases ({told})")
    return chosen


def _read(folder: ScoresFolder) -> TriedDecodings:
    path = folder.decodings
    try:
        return TriedDecodings.model_validate(read_json(path))
    except ValidationError as error:
        raise DataError.of(path, "not what decodings were tried", f"Train anew. {error}") from None
