"""Who trains, who validates, and whose labels may be seen."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fewscan.data.index import DatasetIndex
from fewscan.io import read_json
from fewscan.types import Case, ConfigError, DataError, some

HELD_OUT_SHARE = 0.2
FEWEST_TO_HOLD_OUT = 10


@dataclass(frozen=True)
class Split:
    """Cases by role; a hidden label is gone: `label` is None from here on.

    Attributes:
        train: in the order that decides who is labelled first.
        val: labelled cases that training never sees.
        test: cases that nothing here touches.
        notes: what was decided, for the user.
    """

    train: tuple[Case, ...]
    val: tuple[Case, ...]
    test: tuple[Case, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def labelled(self) -> tuple[Case, ...]:
        """Training cases whose label may be read."""
        return tuple(case for case in self.train if case.label is not None)

    def to_json(self) -> dict[str, Any]:
        """Case names by role, as the run's splits.json keeps them."""
        return {
            "train_labelled": [case.name for case in self.labelled],
            "train_unlabelled": [case.name for case in self.train if case.label is None],
            "val": [case.name for case in self.val],
            "test": [case.name for case in self.test],
        }


def split_of_run(path: Path, index: DatasetIndex) -> Split:
    """The split that a run's splits.json keeps; labels that were hidden from the run stay hidden.

    Raises:
        DataError: the file is not a run's, or names cases that the data set does not have.
    """
    names = read_json(path)
    parts = ("train_labelled", "train_unlabelled", "val", "test")
    if not isinstance(names, dict) or not all(isinstance(names.get(part), list) for part in parts):
        raise DataError(f"{path}: not the split of a run. Give the folder of a `fewscan train` run.")
    by_name = {case.name: case for case in index.cases}
    unknown = [str(name) for part in parts for name in names[part] if name not in by_name]
    if unknown:
        raise DataError(
            f"{index.root}: lacks {len(unknown)} of the run's cases: {some(unknown)}. "
            f"Give the data set that {path.parent} was trained on."
        )
    shown = [by_name[name] for name in names["train_labelled"]]
    hidden = [replace(by_name[name], label=None) for name in names["train_unlabelled"]]
    val, test = (tuple(by_name[name] for name in names[part]) for part in ("val", "test"))
    return Split((*shown, *hidden), val, test)


def make_split(index: DatasetIndex, labelled: int | None = None, labelled_list: Sequence[str] | None = None) -> Split:
    """Split by patient and hide labels.

    The data set's `splits.json` ({"train": [cases], "val": [cases], "test": [cases]}, or nnU-Net's
    `splits_final.json`, fold 0) decides; without one, a fifth of the labelled patients is held out where there are
    ten or more, the same for every run. Unlabelled cases always train.

    Args:
        index: the data set.
        labelled: keep the labels of the first so many labelled patients of the training split.
        labelled_list: keep the labels of these patients or cases.

    Raises:
        DataError: the split names unknown cases, or separates a patient.
        ConfigError: `labelled` or `labelled_list` cannot be met.
    """
    names, notes = _named_split(index)
    by_name = {case.name: case for case in index.cases}
    unknown = [name for part in names.values() for name in part if name not in by_name]
    if unknown:
        raise DataError(f"{index.root}: the split names cases that do not exist: {some(unknown)}.")
    used = {name for part in names.values() for name in part}
    pool = [case for case in index.unlabelled if case.name not in used]
    train = [by_name[name] for name in names["train"]] + pool
    val = tuple(by_name[name] for name in names["val"])
    _check_val(index, val)
    left_out = [case.name for case in index.labelled if case.name not in used]
    if left_out:
        notes.append(f"{len(left_out)} labelled cases are in no part of the split and are left alone")
    test = tuple(by_name[name] for name in names["test"])
    _check_patients_apart({"train": train, "val": val, "test": test})
    kept = _kept_labels(train, labelled, labelled_list)
    shown = tuple(case if case.name in kept else replace(case, label=None) for case in train)
    return Split(shown, val, test, tuple(notes))


def _named_split(index: DatasetIndex) -> tuple[dict[str, list[str]], list[str]]:
    for file, fold in (("splits.json", None), ("splits_final.json", 0)):
        path = index.root / file
        if path.is_file():
            content = read_json(path)
            parts = _part_lists(path, content if fold is None else content[fold])
            return parts, [f"the split is that of {file}"]
    return _default_split(index)


def _part_lists(path: Path, content: Any) -> dict[str, list[str]]:
    if not isinstance(content, dict) or not isinstance(content.get("train"), list):
        raise DataError(f'{path}: must be an object with lists of case names, "train" and "val".')
    return {part: [str(name) for name in content.get(part, [])] for part in ("train", "val", "test")}


def _default_split(index: DatasetIndex) -> tuple[dict[str, list[str]], list[str]]:
    patients = sorted({case.patient for case in index.labelled})
    order = [patients[i] for i in np.random.default_rng(0).permutation(len(patients))]
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


def _check_val(index: DatasetIndex, val: Iterable[Case]) -> None:
    missing = [case.name for case in val if case.label is None]
    if missing:
        raise DataError(
            f"{index.root}: validation cases without a label: {some(missing)}. "
            "Add their labels to labelsTr/, or take them out of splits.json."
        )


def _check_patients_apart(parts: dict[str, Iterable[Case]]) -> None:
    role: dict[str, str] = {}
    for part, cases in parts.items():
        for case in cases:
            if role.setdefault(case.patient, part) != part:
                raise DataError(
                    f"patient {case.patient} is in {role[case.patient]} and in {part}. "
                    "Put all cases of a patient into one part of splits.json."
                )


def _kept_labels(train: Sequence[Case], labelled: int | None, labelled_list: Sequence[str] | None) -> set[str]:
    """Names of the training cases whose labels stay visible."""
    with_label = [case for case in train if case.label is not None]
    patients = list(dict.fromkeys(case.patient for case in with_label))
    if not patients:
        raise DataError("No training case has a label. Put at least one mask into labelsTr/.")
    if labelled_list is not None:
        return _listed(with_label, labelled_list)
    if labelled is not None and not 1 <= labelled <= len(patients):
        raise ConfigError(
            f"--labelled {labelled}: must be 1 to {len(patients)}, the labelled patients of the training split."
        )
    chosen = set(patients[:labelled])
    return {case.name for case in with_label if case.patient in chosen}


def _listed(with_label: Sequence[Case], wanted: Sequence[str]) -> set[str]:
    names = {case.name for case in with_label} | {case.patient for case in with_label}
    unknown = [name for name in wanted if name not in names]
    if unknown:
        close = difflib.get_close_matches(unknown[0], names, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(
            f"--labelled-list: not a labelled patient or case of the training split: {some(unknown)}.{hint}"
        )
    kept = {case.name for case in with_label if case.name in wanted or case.patient in wanted}
    if not kept:
        raise ConfigError("--labelled-list: the list is empty. Name at least one patient or case.")
    return kept
