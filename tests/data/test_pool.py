import json
from pathlib import Path

import pytest

from fewscan.classes import Classes
from fewscan.config import load_config
from fewscan.data.cases import Case
from fewscan.data.index import DatasetIndex
from fewscan.data.pool import FEWEST_SCANS, capped
from fewscan.data.split import Split, split_of_run

LABELLED = 3


def split_of(unlabelled: int) -> Split:
    cases = [
        Case(f"c{number:05d}", (Path("image"),), Path("label") if number < LABELLED else None, f"c{number:05d}")
        for number in range(LABELLED + unlabelled)
    ]
    return Split(tuple(cases), ())


def names(cases: tuple[Case, ...]) -> list[str]:
    return [case.name for case in cases]


@pytest.mark.parametrize(("unlabelled", "updates"), [(0, 1), (FEWEST_SCANS, 1), (1200, 300)])
def test_what_can_be_drawn_stays_as_it_is(unlabelled: int, updates: int) -> None:
    split = split_of(unlabelled)
    assert capped(split, updates, 4, seed=0) is split
    assert "left_out" not in split.to_json()


def test_what_cannot_be_drawn_is_left_out_and_told() -> None:
    split = split_of(9990)
    found = capped(split, 600, 4, seed=0)
    assert len(found.train) - LABELLED == 2400
    assert found.labelled == split.labelled
    assert names(found.train) == sorted(names(found.train))
    assert sorted(names((*found.train, *found.left_out))) == names(split.train)
    assert found.notes == (
        "2400 of 9990 unlabelled scans can be drawn by 600 updates of 4; the others are left out "
        "(--set training.pool=all takes them)",
    )


def test_of_fewer_than_a_thousand_none_is_left_out() -> None:
    found = capped(split_of(1500), 5, 4, seed=0)
    assert len(found.train) - LABELLED == FEWEST_SCANS
    assert "1000 of 1500 unlabelled scans train: 5 updates of 4 draw fewer" in found.notes[0]


def test_the_seed_decides_which() -> None:
    split = split_of(3000)
    first, again, other = (capped(split, 500, 4, seed) for seed in (0, 0, 1))
    assert first == again
    assert len(other.train) == len(first.train)
    assert set(names(other.train)) != set(names(first.train))
    # Of every stretch of names as many as of any other, about.
    half = sum(name < "c01503" for name in names(first.train[LABELLED:]))
    assert 900 < half < 1100


def test_a_run_knows_what_was_left_out(tmp_path: Path) -> None:
    split = capped(split_of(1500), 5, 4, seed=0)
    (tmp_path / "splits.json").write_text(json.dumps(split.to_json()))
    cases = tuple(sorted((*split.train, *split.left_out), key=lambda case: case.name))
    classes = Classes.consecutive(("background", "a"))
    found = split_of_run(tmp_path / "splits.json", DatasetIndex(tmp_path, "set", ("MRI",), classes, ".nii.gz", cases))
    assert (found.train, found.left_out) == (split.train, split.left_out)
    assert set(names(found.with_left_out().train)) == set(names(cases))


def test_batches_of_stages_count_too() -> None:
    assert load_config("quick", ["training.unlabelled=3"], method="fixmatch").most_unlabelled == 3
    own = ["training.unlabelled=3", "methods.action.pretraining.global.unlabelled=9"]
    assert load_config("quick", own, method="action").most_unlabelled == 9
