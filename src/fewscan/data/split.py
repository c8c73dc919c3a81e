"""Who trains, who validates, and whose labels may be seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fewscan.data.cases import Case, patients_of
from fewscan.data.index import DatasetIndex
from fewscan.data.names import case_you_meant, remedy_of_unknown
from fewscan.errors import ConfigError, DataError, Fault
from fewscan.io.files import read_json
from fewscan.words import abbreviate

PARTS = ("train", "val", "test")
HELD_OUT_SHARE = 0.2
FEWEST_TO_HOLD_OUT = 10


@dataclass(frozen=True)
class Split:
    """Cases by role; a hidden label is gone: `label` is None from here on.

    Attributes:
        train: Training cases, in the order that decides which patients are labelled first.
        val: Labelled cases that training never sees.
        test: Cases that no training learns from and whose labels training never opens.
        notes: Sentences for the user that say what was decided.
        left_out: Unlabelled cases that could train, but that the updates of the training cannot draw; see `data.pool`.
    """

    train: tuple[Case, ...]
    val: tuple[Case, ...]
    test: tuple[Case, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: tuple[Case, ...] = ()

    @property
    def labelled(self) -> tuple[Case, ...]:
        """Training cases whose label may be read."""
        return tuple(case for case in self.train if case.label is not None)

    def with_left_out(self) -> Split:
        """The split with all that could have trained among the training cases."""
        return replace(self, train=(*self.train, *self.left_out), left_out=())

    @property
    def part_of(self) -> dict[str, str]:
        """train, val or test, by case name."""
        parts = zip(PARTS, (self.train, self.val, self.test), strict=True)
        return {case.name: part for part, cases in parts for case in cases}

    def to_json(self) -> dict[str, Any]:
        """Case names by role, as the run's splits.json keeps them; those left out only where there are any."""
        left_out = {"left_out": [case.name for case in self.left_out]} if self.left_out else {}
        return {
            "train_labelled": [case.name for case in self.labelled],
            "train_unlabelled": [case.name for case in self.train if case.label is None],
            "val": [case.name for case in self.val],
            "test": [case.name for case in self.test],
            **left_out,
        }


def describe_split(name: str, split: Split) -> list[str]:
    """List what a user should know of a split, a line each.

    Args:
        name: The data set's.
        split: Split into labelled, unlabelled and held-out cases.
    """
    patients = patients_of(split.labelled)
    hidden = len(split.train) - len(split.labelled)
    lines = [
        f"{name}: {len(split.labelled)} labelled scans of {len(patients)} patients, {hidden} unlabelled scans, "
        f"{len(split.val)} for validation",
        *(f"  {note}" for note in split.notes),
    ]
    lines += [f"  {site}: {counts}" for site, counts in _by_site(split).items()]
    if not patients:
        lines.append("  no training scan is labelled: a batch has unlabelled patches alone, training.labelled is 0")
    elif not hidden:
        lines.append("  every training scan is labelled: they also serve as the unlabelled pool")
    return lines


def _by_site(split: Split) -> dict[str, str]:
    """How many scans of each site have which role; empty where the data set names no sites."""
    sites = dict.fromkeys(case.site for case in (*split.train, *split.val, *split.test) if case.site)
    found = {}
    for site in sites:
        train, val = ([case for case in cases if case.site == site] for cases in (split.train, split.val))
        known = sum(case.label is not None for case in train)
        found[site] = f"{known} labelled, {len(train) - known} unlabelled scans, {len(val)} for validation"
    return found


def split_of_run(path: Path, index: DatasetIndex) -> Split:
    """The split that a run's splits.json keeps; labels that were hidden from the run stay hidden.

    Raises:
        DataError: The file is not a run's, or names cases that the data set does not have.
    """
    names = read_json(path)
    parts = ("train_labelled", "train_unlabelled", "val", "test", "left_out")
    if isinstance(names, dict):
        names.setdefault("left_out", [])
    if not isinstance(names, dict) or not all(_is_names(names.get(part)) for part in parts):
        raise DataError.of(path, "not the split of a run", "Give the folder of a `fewscan train` run")
    by_name = {case.name: case for case in index.cases}
    unknown = [name for part in parts for name in names[part] if name not in by_name]
    if unknown:
        raise DataError.of(
            index.root,
            f"lacks {len(unknown)} of the run's cases: {abbreviate(unknown)}",
            f"Give the data set that {path.parent} was trained on",
        )
    shown = [by_name[name] for name in names["train_labelled"]]
    hidden = [replace(by_name[name], label=None) for name in names["train_unlabelled"]]
    left_out = tuple(replace(by_name[name], label=None) for name in names["left_out"])
    val, test = (tuple(by_name[name] for name in names[part]) for part in ("val", "test"))
    return Split((*shown, *hidden), val, test, left_out=left_out)


def make_split(
    index: DatasetIndex,
    labelled: int | None = None,
    labelled_list: Sequence[str] | None = None,
    *,
    may_lack_labels: bool = False,
) -> Split:
    """Split by patient and hide labels.

    The data set's `splits.json` ({"train": [cases], "val": [cases], "test": [cases]}, or nnU-Net's
    `splits_final.json`, fold 0) decides; without one, a fifth of the labelled patients is held out where there are
    ten or more, the same for every run. Unlabelled cases train, but for those of held-out patients. Where the data set
    names sites, as large a part of each is held out, and labels are kept of the sites in turn.

    Args:
        index: Data set to split.
        labelled: Number of labelled patients, the first of the training part, whose labels are kept; None: any number.
        labelled_list: Names of the patients or cases whose labels are kept; None: all.
        may_lack_labels: Whether there need not be any label to train with; `labelled` may be 0 then.

    Raises:
        DataError: The split names unknown cases, a case twice or validation cases without a label, separates a patient,
            or leaves no label to train with where there has to be one; every fault at once.
        ConfigError: `labelled` or `labelled_list` cannot be met.
    """
    where, names, notes = _named_split(index)
    by_name = {case.name: case for case in index.cases}
    faults = [*_unknown(where, names, by_name), *_listed_twice(where, names)]
    listed = {part: [by_name[name] for name in names[part] if name in by_name] for part in PARTS}
    faults += [*_bare_validation(where, listed["val"]), *_separated(where, listed)]
    pool, more = _unlisted(index, listed)
    train = [*listed["train"], *pool]
    has_label = any(case.label is not None for case in train)
    if not has_label and not (train and may_lack_labels):
        faults.append(no_label(index))
    if faults:
        raise DataError(faults)
    kept = _kept_labels(train, labelled, labelled_list, fewest=0 if may_lack_labels else 1)
    shown = tuple(case if case.name in kept else replace(case, label=None) for case in train)
    return Split(shown, tuple(listed["val"]), tuple(listed["test"]), (*index.notes, *notes, *more))


def no_label(index: DatasetIndex, fatal: bool = True) -> Fault:
    """Say that no training case has a label.

    Args:
        index: Data set of the cases.
        fatal: Whether there has to be one.
    """
    remedy = (
        "Put at least one mask into labelsTr/, and its case into the training part where a file lists the parts; "
        "without any, a model of another site can be trained on: --continue RUN --method itl"
    )
    return Fault(str(index.root), "no training case has a label", remedy, fatal)


def _named_split(index: DatasetIndex) -> tuple[Path, dict[str, list[str]], list[str]]:
    """The file or folder that decides, the names of each part, and notes."""
    for file in ("splits.json", "splits_final.json"):
        path = index.root / file
        if path.is_file():
            content = read_json(path)
            parts = _part_lists(path, _first_fold(path, content) if file == "splits_final.json" else content)
            return path, parts, [f"the split is that of {file}"]
    return index.root, *_default_split(index)


def _first_fold(path: Path, content: Any) -> Any:
    if not isinstance(content, list) or not content:
        raise DataError.of(path, "must be a list of folds, as nnU-Net writes it", "Mend it, or write splits.json")
    return content[0]


def _part_lists(path: Path, content: Any) -> dict[str, list[str]]:
    if not isinstance(content, dict) or not isinstance(content.get("train"), list):
        problem = 'must be an object with lists of case names, "train" and "val"'
        raise DataError.of(path, problem, 'Write it as {"train": ["case01"], "val": ["case02"]}')
    wrong = [part for part in PARTS if not _is_names(content.get(part, []))]
    if wrong:
        raise DataError.of(path, f'"{wrong[0]}" must be a list of case names', 'Write it as ["case01", "case02"]')
    others = [key for key, value in content.items() if key not in PARTS and isinstance(value, list)]
    if others:
        raise DataError.of(path, f'"{others[0]}" is no part of a split', 'The parts are "train", "val" and "test"')
    return {part: list(content.get(part, [])) for part in PARTS}


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _default_split(index: DatasetIndex) -> tuple[dict[str, list[str]], list[str]]:
    patients = sorted(patients_of(index.labelled))
    order = [patients[i] for i in np.random.default_rng(0).permutation(len(patients))]
    site_of = {case.patient: case.site for case in index.cases}
    order = mixed(order, site_of, evenly=True)
    held_out = round(HELD_OUT_SHARE * len(order)) if len(order) >= FEWEST_TO_HOLD_OUT else 0
    note = (
        f"no splits.json: {held_out} of {len(order)} labelled patients are held out for validation"
        if held_out
        else f"no splits.json and fewer than {FEWEST_TO_HOLD_OUT} labelled patients: no validation set"
    )
    rank = {patient: i for i, patient in enumerate(order)}
    cases = sorted(index.labelled, key=lambda case: (rank[case.patient], case.name))
    val = set(order[len(order) - held_out :])
    return {
        "train": [case.name for case in cases if case.patient not in val],
        "val": [case.name for case in cases if case.patient in val],
        "test": [],
    }, [note]


def _unknown(where: Path, names: Mapping[str, Sequence[str]], by_name: Mapping[str, Case]) -> list[Fault]:
    unknown = [name for part in PARTS for name in names[part] if name not in by_name]
    if not unknown:
        return []
    problem = f"the split names cases that do not exist: {abbreviate(unknown)}"
    return [Fault(str(where), problem, remedy_of_unknown(unknown[0], by_name))]


def _listed_twice(where: Path, names: Mapping[str, Sequence[str]]) -> list[Fault]:
    counts = Counter(name for part in PARTS for name in names[part])
    twice = [
        f"{name} ({', '.join(part for part in PARTS for other in names[part] if other == name)})"
        for name, count in counts.items()
        if count > 1
    ]
    problem = f"the split names cases more than once: {abbreviate(twice)}"
    return [Fault(str(where), problem, "Name each once")] if twice else []


def _bare_validation(where: Path, val: Sequence[Case]) -> list[Fault]:
    bare = [case.name for case in val if case.label is None]
    if not bare:
        return []
    remedy = (
        "Add their labels to labelsTr/, or take them out of the split: unlabelled scans of a held-out patient are left "
        "out of training"
    )
    return [Fault(str(where), f"validation cases without a label: {abbreviate(bare)}", remedy)]


def _separated(where: Path, listed: Mapping[str, Sequence[Case]]) -> list[Fault]:
    """Faults of patients in several parts; a case that is in several itself has a fault of its own."""
    counts = Counter(name for cases in listed.values() for name in {case.name for case in cases})
    first: dict[str, str] = {}
    apart: dict[str, str] = {}
    for part, cases in listed.items():
        for case in cases:
            if counts[case.name] == 1 and first.setdefault(case.patient, part) != part:
                apart[case.patient] = f"patient {case.patient} is in {first[case.patient]} and in {part}"
    if not apart:
        return []
    remedy = "Put all cases of a patient into one part of splits.json"
    return [Fault(str(where), abbreviate(list(apart.values())), remedy)]


def _unlisted(index: DatasetIndex, listed: Mapping[str, Sequence[Case]]) -> tuple[list[Case], list[str]]:
    """Unlabelled cases that train though no part lists them, and what to say of the others."""
    used = {case.name for cases in listed.values() for case in cases}
    held_out = {case.patient for part in ("val", "test") for case in listed[part]}
    rest = [case for case in index.cases if case.name not in used]
    unlabelled = [case for case in rest if case.label is None]
    kept_away = [case.name for case in unlabelled if case.patient in held_out]
    alone = [case.name for case in rest if case.label is not None]
    notes = []
    if kept_away:
        notes.append(
            f"{len(kept_away)} unlabelled scans of held-out patients are left out of training: {abbreviate(kept_away)}"
        )
    if alone:
        notes.append(f"{len(alone)} labelled cases are in no part of the split and are left alone: {abbreviate(alone)}")
    return [case for case in unlabelled if case.patient not in held_out], notes


def _kept_labels(
    train: Sequence[Case], labelled: int | None, labelled_list: Sequence[str] | None, fewest: int
) -> set[str]:
    """Names of the training cases whose labels stay visible."""
    with_label = [case for case in train if case.label is not None]
    patients = patients_of(with_label)
    if labelled_list is not None:
        return _listed(with_label, labelled_list)
    if labelled is not None and not fewest <= labelled <= len(patients):
        raise ConfigError(
            f"--labelled {labelled}: must be {fewest} to {len(patients)}, the labelled patients of the training split."
        )
    chosen = set(mixed(patients, {case.patient: case.site for case in train})[:labelled])
    return {case.name for case in with_label if case.patient in chosen}


def mixed(patients: Sequence[str], site_of: Mapping[str, str], *, evenly: bool = False) -> list[str]:
    """Patients of several sites mixed; of each site they stay in their order.

    Args:
        patients: Names of the patients.
        site_of: Site of each.
        evenly: Whether any stretch has as large a part of each site; else the sites follow each other in turns.

    >>> mixed(["a", "b", "c", "d"], {"a": "1", "b": "1", "c": "1", "d": "2"})
    ['a', 'd', 'b', 'c']
    >>> mixed(["a", "b", "c", "d"], {"a": "1", "b": "1", "c": "1", "d": "2"}, evenly=True)
    ['a', 'b', 'd', 'c']
    """
    sizes = Counter(site_of[patient] for patient in patients)
    seen: Counter[str] = Counter()
    places = {}
    for patient in patients:
        site = site_of[patient]
        places[patient] = (seen[site] + 0.5) / (sizes[site] if evenly else 1)
        seen[site] += 1
    return sorted(patients, key=lambda patient: places[patient])


def _listed(with_label: Sequence[Case], wanted: Sequence[str]) -> set[str]:
    names = {case.name for case in with_label} | {case.patient for case in with_label}
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ConfigError(
            f"--labelled-list: not a labelled patient or case of the training split: {abbreviate(unknown)}."
            f"{case_you_meant(unknown[0], names)}"
        )
    twice = [name for name, count in Counter(wanted).items() if count > 1]
    if twice:
        raise ConfigError(f"--labelled-list: names {abbreviate(twice)} more than once. Name each patient or case once.")
    kept = {case.name for case in with_label if case.name in wanted or case.patient in wanted}
    if not kept:
        raise ConfigError("--labelled-list: the list is empty. Name at least one patient or case.")
    return kept
