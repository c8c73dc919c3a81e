"""Folds: the labelled patients are held out in turn, so that every labelled scan is scored by a network without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from fewscan.data.cases import by_site, patients_of
from fewscan.data.split import Split
from fewscan.errors import ConfigError
from fewscan.words import abbreviate

Folds = Literal["auto", "none"] | int

# Up to so many patients each is held out alone: a fold less would cost each network a sixth of its labels or more.
MOST_TO_LEAVE_ONE_OUT = 6
USUAL = 5
# Two scores have no interval worth the name, and no case is worse than the others.
FEWEST_PATIENTS = 3


def count_folds(split: Split, folds: Folds) -> int:
    """Number of folds that a split is trained in; 0: one network is trained on all labelled scans.

    Args:
        split: Split of the data set, with its labelled training cases.
        folds: Number of folds, from 2; auto: one for each labelled patient up to 6 of them, else 5, and none with
            fewer than 3; none: 0.

    Raises:
        ConfigError: Labelled patients are fewer than folds, or fewer than 3, or folds are fewer than 2.
    """
    patients = len(patients_of(split.labelled))
    if folds == "none":
        return 0
    if folds == "auto":
        if patients < FEWEST_PATIENTS:
            return 0
        return patients if patients <= MOST_TO_LEAVE_ONE_OUT else USUAL
    if patients < FEWEST_PATIENTS:
        raise ConfigError(
            f"--folds {folds}: {patients} labelled patients are too few to hold any out. Label {FEWEST_PATIENTS} or "
            "more, or train without --folds."
        )
    if not 2 <= folds <= patients:
        raise ConfigError(f"--folds {folds}: must be auto, none, or 2 to {patients}, the number of labelled patients.")
    return folds


def make_folds(split: Split, count: int) -> tuple[Split, ...]:
    """Hold out the labelled patients in turn.

    The first patients of the split go into different folds, and those of each site too. No scan of a patient that a
    fold holds out trains in it, with or without a label; all other unlabelled scans train in every fold.

    Args:
        split: Split of the data set; its own validation and test cases are in no fold.
        count: Number of folds, from 2 up to the number of labelled patients.

    Returns:
        A split for each fold, whose validation cases are the labelled scans of the patients that it holds out.
    """
    # Site after site, so that those of one are dealt to all folds.
    patients = [patient for cases in by_site(split.labelled).values() for patient in patients_of(cases)]
    held_out = [set(patients[first::count]) for first in range(count)]
    return tuple(
        replace(
            split,
            train=tuple(case for case in split.train if case.patient not in own),
            val=tuple(case for case in split.labelled if case.patient in own),
            test=(),
            notes=(),
        )
        for own in held_out
    )


def describe_folds(folds: Sequence[Split]) -> str:
    """Say in a line what the folds are.

    Args:
        folds: Splits by `make_folds`.
    """
    largest = max(len(patients_of(fold.val)) for fold in folds)
    how = "each labelled patient is held out once" if largest == 1 else f"up to {largest} patients are held out at once"
    return f"{len(folds)} folds: {how}, and scored by the network that has not seen it"


def name_held_out(fold: Split) -> str:
    """Name the patients that a fold holds out, for progress lines."""
    return abbreviate(patients_of(fold.val))


def why_no_folds(split: Split) -> str:
    """Say what cannot be known of a training whose labelled patients are too few for folds.

    Args:
        split: Split with one or two labelled patients.
    """
    patients = len(patients_of(split.labelled))
    return (
        f"--folds auto: with {patients} labelled patient{'' if patients == 1 else 's'} nobody can be held out, so one "
        "network is trained on all; how good it is, where it fails and whether the unlabelled scans help cannot be "
        f"known. Label {FEWEST_PATIENTS} patients or more"
    )
