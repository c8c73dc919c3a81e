"""Folds of labelled patients: who is held out, and who trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewscan.data.cases import Case, patients_of
from fewscan.data.folds import count_folds, describe_folds, make_folds, why_no_folds
from fewscan.data.split import Split
from fewscan.errors import ConfigError


def case(patient: int, frame: int = 0, labelled: bool = True) -> Case:
    name = f"p{patient:02d}_f{frame}"
    label = Path(f"{name}.nii.gz") if labelled else None
    return Case(name, (Path(f"{name}_0000.nii.gz"),), label, f"p{patient:02d}")


def split_of(patients: int, frames: int = 1, unlabelled: int = 2) -> Split:
    """Patients with labelled frames, the first of which has an unlabelled one too; others without a label."""
    labelled = [case(p, f) for p in range(patients) for f in range(frames)]
    hidden = [case(0, 9, labelled=False), *(case(50 + p, 0, labelled=False) for p in range(unlabelled))]
    return Split((*labelled, *hidden), (case(80),), (case(90),))


@given(st.integers(3, 12), st.integers(1, 3), st.data())
def test_every_labelled_scan_is_held_out_once_and_never_trains_then(
    patients: int, frames: int, data: st.DataObject
) -> None:
    split = split_of(patients, frames)
    count = data.draw(st.integers(2, patients))
    folds = make_folds(split, count)
    assert len(folds) == count
    assert sorted(c.name for fold in folds for c in fold.val) == sorted(c.name for c in split.labelled)
    for fold in folds:
        assert fold.val
        assert fold.labelled
        assert not {c.patient for c in fold.val} & {c.patient for c in fold.train}
        assert not fold.test
        # Those of the split's own validation and test part train nowhere.
        assert not {"p80", "p90"} & {c.patient for c in (*fold.train, *fold.val)}
        assert {c.name for c in split.train if c.patient >= "p50"} <= {c.name for c in fold.train}
    sizes = [len(patients_of(fold.val)) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_patients_of_each_site_go_into_different_folds() -> None:
    split = split_of(6, unlabelled=0)
    train = tuple(replace(c, site="AB"[number % 2]) for number, c in enumerate(split.labelled))
    for fold in make_folds(replace(split, train=train), 3):
        assert sorted(c.site for c in fold.val) == ["A", "B"]


def test_an_unlabelled_scan_of_a_held_out_patient_does_not_train() -> None:
    first, *others = make_folds(split_of(3), 3)
    assert [c.patient for c in first.val] == ["p00"]
    assert "p00_f9" not in [c.name for c in first.train]
    assert all("p00_f9" in [c.name for c in fold.train] for fold in others)


@pytest.mark.parametrize(("patients", "folds"), [(1, 0), (2, 0), (3, 3), (6, 6), (7, 5), (40, 5)])
def test_auto_leaves_one_out_up_to_six_patients(patients: int, folds: int) -> None:
    assert count_folds(split_of(patients), "auto") == folds
    assert count_folds(split_of(patients), "none") == 0


@pytest.mark.parametrize(("patients", "folds", "said"), [(2, 2, "too few"), (5, 6, "2 to 5"), (5, 1, "2 to 5")])
def test_folds_that_cannot_be_are_refused(patients: int, folds: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        count_folds(split_of(patients), folds)


def test_what_is_said_names_numbers() -> None:
    assert describe_folds(make_folds(split_of(3), 3)).startswith("3 folds: each labelled patient is held out once")
    assert describe_folds(make_folds(split_of(7), 5)).startswith("5 folds: up to 2 patients")
    assert "with 1 labelled patient nobody can be held out" in why_no_folds(split_of(1))
