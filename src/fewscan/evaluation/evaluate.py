"""Score a folder of masks against a folder of references."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fewscan.classes import LARGEST_NUMBER, MOST_CLASSES, Classes, parse_classes
from fewscan.errors import DataError, Fault
from fewscan.evaluation.metrics import METRICS, TOLERANCES_MM, LabelMap, Scores, absent, case_metrics, not_predicted
from fewscan.evaluation.summary import Missing, Rules, Summary, spread, summarise
from fewscan.io.endings import scan_stem
from fewscan.io.files import read_json
from fewscan.io.formats import scans_among
from fewscan.io.geometry import Geometry, Scan
from fewscan.io.places import bring_over, differences, fits
from fewscan.io.scans import read_geometry, read_mask
from fewscan.io.segments import contradictions, read_segments
from fewscan.words import abbreviate
from fewscan.work.base import Crash, Each, Executor, cut, in_order
from fewscan.work.serial import Serial

# A mask, None where there is none, and its reference.
Pair = tuple[Path | None, Path]
HEADERS_AT_A_TIME = 16
MASKS_AT_A_TIME = 2
# What shows how far something is: words and a number of steps, then a function to call after each.
Bar = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


@contextmanager
def _no_bar(*_: object) -> Iterator[Callable[[], None]]:
    yield lambda: None


@dataclass(frozen=True)
class Pairs:
    """Predictions paired with their references.

    Attributes:
        both: Case → (prediction, reference).
        missing: Case → reference, of those without a prediction.
        unpaired: Cases that were predicted and have no reference.
    """

    both: Mapping[str, tuple[Path, Path]]
    missing: Mapping[str, Path]
    unpaired: Sequence[str]


class Scoring(NamedTuple):
    """How a folder of masks is scored where it is not class by class.

    Attributes:
        names: Names by the numbers of the scores, background first.
        score: Function from a mask, None where there is none, and its reference to scores by number.
    """

    names: tuple[str, ...]
    score: Callable[[Path | None, Path], dict[int, Scores]]


class Description(NamedTuple):
    """What a dataset.json says of masks.

    Attributes:
        folder: Folder of the file.
        meta: Content of the file.
        classes: Classes of its "labels".
    """

    folder: Path
    meta: Mapping[str, Any]
    classes: Classes


def evaluate_folders(
    predictions: Path,
    references: Path,
    *,
    rules: Rules = "strict",
    class_names: Sequence[str] | None = None,
    bar: Bar | None = None,
    missing: Missing = "score",
    tolerances_mm: Sequence[float] = TOLERANCES_MM,
    scoring: Scoring | None = None,
    executor: Executor | None = None,
) -> Summary:
    """Score every prediction against the reference of the same name.

    Args:
        predictions: Path of a folder of masks, or of one mask.
        references: Path of a folder of masks, or of one mask.
        rules: Way to count distances where exactly one mask is empty, see `summary.summarise`.
        class_names: Names of the classes in the order of their numbers, background first; None: those of the
            dataset.json beside or above either folder, and the numbers that occur where there is none.
        bar: Function that is given words and a number of steps, such as `Reporter.bar`; None: nothing is shown.
        missing: Treatment of references without a prediction: "score" (as missed) or "skip" (leave them out).
        tolerances_mm: Tolerances of the normalised surface Dice, in mm; of pictures in µm, or in pixels where nobody
            knows how large one is.
        scoring: How masks are scored; None: class by class.
        executor: Executor that scores them; None: this process.

    Returns:
        The summary; also "spread" (`summary.spread`), and the cases that are "missing", "skipped" and
        "without_reference".

    Raises:
        DataError: A mask lies elsewhere than its reference, cannot be read, or holds what is no class; every such fault
            at once.
    """
    pairs = match_pairs(predictions, references)
    classes = None
    if scoring is None:
        classes = Classes.consecutive(class_names) if class_names else _agreed_classes(predictions, references)
    bar = bar or _no_bar
    who = executor or Serial()
    with bar("comparing grids", len(pairs.both)) as step:
        compare = Each(partial(_misfits, classes=classes))
        # Headers alone are read: sixteen of them take as long as the way to another process and back.
        found = in_order(who.run(compare, cut(list(pairs.both.values()), HEADERS_AT_A_TIME), step))
    _raise(_faults(zip(pairs.both.values(), found, strict=True)))
    scored = pairs.missing if missing == "score" else {}
    files: dict[str, Pair] = {**pairs.both, **{case: (None, path) for case, path in scored.items()}}
    names_of_cases, files_of_cases = sorted(files), [files[case] for case in sorted(files)]
    with bar("scoring", len(files)) as step:
        score = Each(partial(_scored, scoring=scoring, classes=classes, tolerances_mm=tuple(tolerances_mm)))
        results = in_order(who.run(score, cut(files_of_cases, MASKS_AT_A_TIME), step))
    _raise(_faults(zip(files_of_cases, results, strict=True)))
    cases = {case: each for case, each in zip(names_of_cases, results, strict=True) if isinstance(each, dict)}
    names = scoring.names if scoring else scored_names(classes) if classes is not None else None
    if names is None:
        cases = _of_all_numbers(cases, set(scored))
    summary = summarise(cases, names, rules)
    return {
        **summary,
        "spread": spread(summary),
        "missing": sorted(scored),
        "skipped": sorted(set(pairs.missing) - set(scored)),
        "without_reference": list(pairs.unpaired),
    }


def scored_names(classes: Classes) -> tuple[str, ...]:
    """The names by the numbers of `score_files`: background, then what is scored."""
    return (classes.names[0], *(region.name for region in classes.scored))


def score_files(
    prediction: Path | None, reference: Path, classes: Classes, tolerances_mm: Sequence[float] = TOLERANCES_MM
) -> dict[int, Scores]:
    """Score one mask against its reference, on the reference's grid; not where the reference is to be ignored.

    Returns:
        Scores of what is scored of the classes, numbered from 1 in its order.

    Raises:
        DataError: A file cannot be read, holds a number that is no class, or the two lie at different places.
    """
    return _score(prediction, reference, classes, tolerances_mm)


def _score(
    prediction: Path | None, reference: Path, classes: Classes | None, tolerances_mm: Sequence[float]
) -> dict[int, Scores]:
    """Score a pair, a missing prediction as an empty one; without classes, score the numbers that either shows."""
    truth = _whole(read_mask(reference), prediction)
    theirs = _labels(truth.array, reference, classes, is_reference=True)
    mask = np.zeros_like(truth.array) if prediction is None else brought_over(prediction, reference, truth.geometry)
    ours = _labels(mask, prediction or reference, classes)
    if classes is not None and classes.ignored in theirs.boxes:
        # The boxes are larger than need be then, which changes nothing.
        ours = LabelMap(np.where(truth.array == classes.ignored, 0, mask), ours.boxes)
    if classes is not None:
        numbers = {k: region.numbers for k, region in enumerate(classes.scored, start=1)}
    else:
        numbers = {number: (number,) for number in sorted({*ours.boxes, *theirs.boxes})}
    grid = truth.geometry
    scores = case_metrics(ours, theirs, grid.spacing_mm, numbers, tolerances_mm, grid.unit)
    return scores if prediction is not None else {k: not_predicted(score) for k, score in scores.items()}


def _whole(truth: Scan, prediction: Path | None) -> Scan:
    """A reference that leaves out slices, on the grid of the prediction where that has them."""
    if not truth.geometry.is_part or prediction is None:
        return truth
    grid = read_geometry(prediction)
    array = bring_over(truth, grid)
    return truth if array is None else Scan(array, grid)


def brought_over(path: Path, reference: Path, grid: Geometry) -> np.ndarray:
    """Read a mask in the order of its reference's axes.

    Args:
        path: File of the mask.
        reference: File of the reference, for the error.
        grid: Grid of the reference.

    Raises:
        DataError: The mask cannot be read, or lies elsewhere.
    """
    mask = read_mask(path)
    array = bring_over(mask, grid)
    if array is None:
        raise DataError(_elsewhere(path, mask.geometry, reference, grid))
    return array


def _labels(array: np.ndarray, path: Path, classes: Classes | None, is_reference: bool = False) -> LabelMap:
    """Check the numbers, and look where they are.

    Raises:
        DataError: Some are no classes.
    """
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > LARGEST_NUMBER:
        raise DataError.of(path, f"holds numbers from {low} to {high}, which are no classes", "Give masks, not images")
    labels = LabelMap.of(array)
    if classes is None:
        if len(labels.boxes) > MOST_CLASSES:
            raise DataError.of(path, f"holds {len(labels.boxes)} different numbers", "Give masks, not images")
        return labels
    allowed = classes.known if is_reference else classes.numbers
    unknown = sorted(set(labels.boxes) - set(allowed))
    if unknown:
        raise DataError.of(
            path,
            f"label {abbreviate(list(map(str, unknown)))} is not one of the classes ({classes.describe()})",
            "Mend the mask, or the dataset.json of the references",
        )
    return labels


def _of_all_numbers(cases: Mapping[str, Mapping[int, Scores]], missing: set[str]) -> dict[str, dict[int, Scores]]:
    """The cases with scores for every number that any of them shows."""
    numbers = sorted({number for scores in cases.values() for number in scores})
    some = next((score for scores in cases.values() for score in scores.values()), None)
    nothing = absent(tuple(some.values) if some is not None else METRICS)
    return {
        case: {k: scores.get(k, not_predicted(nothing) if case in missing else nothing) for k in numbers}
        for case, scores in cases.items()
    }


def match_pairs(predictions: Path, references: Path) -> Pairs:
    """Pair masks of the same name.

    Raises:
        DataError: A path does not exist or holds no scans, a case is there twice, or no prediction has a reference.
    """
    if predictions.is_file() and references.is_file():
        return Pairs({scan_stem(predictions): (predictions, references)}, {}, ())
    ours, theirs = _masks(predictions), _masks(references)
    both = {case: (path, theirs[case]) for case, path in ours.items() if case in theirs}
    if not both:
        raise DataError.of(
            references,
            f"no reference for {len(ours)} predictions: {abbreviate(sorted(ours))}",
            "Name masks and references alike",
        )
    missing = {case: path for case, path in theirs.items() if case not in ours}
    return Pairs(both, missing, sorted(set(ours) - set(theirs)))


def _masks(folder: Path) -> dict[str, Path]:
    """Case → mask, by name; hidden files, such as macOS leaves beside others, are none."""
    if not folder.is_dir():
        raise DataError.of(folder, "there is no such folder", "Give two folders, or two files")
    masks: dict[str, Path] = {}
    faults: list[Fault] = []
    for path in scans_among(sorted(path for path in folder.iterdir() if not path.name.startswith("."))):
        other = masks.setdefault(scan_stem(path), path)
        if other != path:
            faults.append(Fault(str(path), f"the same case as {other.name}", "Take one of them away"))
    _raise(faults)
    if not masks:
        raise DataError.of(folder, "holds no scans", "Give a folder of masks")
    return masks


def _agreed_classes(predictions: Path, references: Path) -> Classes | None:
    """The classes of the references' dataset.json, else of the predictions'.

    Raises:
        DataError: The two sides have a dataset.json each, with other numbers for the same name.
    """
    theirs, ours = find_classes(references), find_classes(predictions)
    if theirs is None or ours is None:
        return theirs or ours
    numbers = {region.name: region.numbers for region in theirs.scored}
    for region in ours.scored:
        if numbers.get(region.name, region.numbers) != region.numbers:
            raise DataError.of(
                predictions,
                f"its dataset.json has {list(region.numbers)} for {region.name}, that of {references} "
                f"{list(numbers[region.name])}",
                "Bring the masks to the same numbers",
            )
    return theirs


def find_classes(near: Path) -> Classes | None:
    """The classes of a dataset.json in this folder or the one above, if there is one that names some.

    Raises:
        DataError: The dataset.json cannot be understood.
    """
    found = find_description(near)
    return found.classes if found is not None else None


def find_description(near: Path) -> Description | None:
    """What a dataset.json in this folder or the one above says, if there is one that names classes.

    Raises:
        DataError: The dataset.json cannot be understood.
    """
    folder = near if near.is_dir() else near.parent
    for path in (folder / "dataset.json", folder.parent / "dataset.json"):
        meta = read_json(path) if path.is_file() else None
        if isinstance(meta, dict) and "labels" in meta:
            return Description(path.parent, meta, parse_classes(meta["labels"], path))
    return None


def _faults(results: Iterable[tuple[Pair, object]]) -> list[Fault]:
    """The faults among the results of pairs, a crash being one."""
    faults: list[Fault] = []
    for (prediction, reference), result in results:
        if isinstance(result, Crash):
            faults.append(result.fault(prediction or reference))
        elif isinstance(result, list):
            faults += result
    return faults


def _scored(
    pair: Pair, scoring: Scoring | None, classes: Classes | None, tolerances_mm: Sequence[float]
) -> dict[int, Scores] | list[Fault]:
    """The scores of a pair, or its faults."""
    try:
        return scoring.score(*pair) if scoring else _score(*pair, classes, tolerances_mm)
    except DataError as error:
        return list(error.faults)


def _misfits(pair: tuple[Path, Path], classes: Classes | None) -> list[Fault]:
    """What a pair's headers show to be wrong."""
    prediction, reference = pair
    try:
        ours, theirs = read_geometry(prediction), read_geometry(reference)
    except DataError as error:
        return list(error.faults)
    faults = [] if fits(ours, theirs) else _elsewhere(prediction, ours, reference, theirs)
    return faults + [fault for path in (prediction, reference) for fault in _misnamed(path, classes)]


def _elsewhere(prediction: Path, ours: Geometry, reference: Path, theirs: Geometry) -> list[Fault]:
    return [
        Fault(str(prediction), f"{difference} of {reference}", "Predict on the reference's grid")
        for difference in differences(ours, theirs)
    ]


def _misnamed(path: Path, classes: Classes | None) -> list[Fault]:
    """Where the file's own names of segments are those of other classes."""
    found = contradictions(read_segments(path), classes) if classes is not None else []
    remedy = "Renumber its segments, or mend dataset.json"
    return [Fault(str(path), each.text, remedy) for each in found if each.swapped]


def _raise(faults: Sequence[Fault]) -> None:
    if faults:
        raise DataError(faults)
