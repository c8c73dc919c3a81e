"""What is chosen of post-processing on held-out masks, and that predict does it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import fewscan
from fewscan.data.cases import Case
from fewscan.data.survey import Survey
from fewscan.errors import DataError
from fewscan.inference.model import read_card
from fewscan.io.files import read_json, write_json
from fewscan.io.scans import read_mask, write_scan
from fewscan.run_folder import RunFolder, ScoresFolder
from fewscan.runs.postprocessing import choose_postprocessing
from support.scans import disc, geometry
from support.terminals import Notes

WHERE = geometry((4, 20, 24), (5.0, 1.0, 1.0))


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("cache")))


def held_out(folder: Path, change: str, count: int = 4) -> tuple[ScoresFolder, list[Case]]:
    """References of discs, and masks that are right but for what is named."""
    folder.mkdir()
    cases = []
    for number in range(count):
        reference = disc(WHERE.shape)
        mask = reference.copy()
        if change == "specks" or (change == "half" and number % 2):
            mask[0, 0:2, 0:2] = 1
        if change in ("two parts", "half"):
            reference[3, 18:20, 0:3] = 1
            mask[3, 18:20, 0:3] = 1
        if change == "holes":
            mask[1, 10, 12] = 0
        write_scan(folder / f"case_{number}.nii.gz", mask, WHERE)
        label = folder / f"label_{number}.nii.gz"
        write_scan(label, reference, WHERE)
        cases.append(Case(f"case_{number}", (folder / f"image_{number}.nii.gz",), label, f"case_{number}"))
    return ScoresFolder(folder), cases


def chosen(copy: RunFolder, folder: Path, change: str, count: int = 4) -> list[str]:
    scored, cases = held_out(folder, change, count)
    steps = choose_postprocessing(copy, read_card(copy.path).plan, scored, cases, cases, Survey(), Notes())
    return [step.describe(("background", "disc")) for step in steps]


def test_specks_go_by_the_largest_part(copy: RunFolder, tmp_path: Path) -> None:
    assert chosen(copy, tmp_path / "masks", "specks") == ["only the largest part of the foreground"]
    told = read_json(copy.postprocessing)
    assert told["cases"] == 4
    # 284 voxels of discs, 4 too many.
    voxels = int(disc(WHERE.shape).sum())
    assert told["dice"] == pytest.approx(2 * voxels / (2 * voxels + 4))
    assert told["steps"] == [{"step": "only the largest part of the foreground", "dice": 1.0}]


def test_what_is_right_stays_as_it_is(copy: RunFolder, tmp_path: Path) -> None:
    assert chosen(copy, tmp_path / "masks", "two parts") == []
    assert read_json(copy.postprocessing)["steps"] == []


def test_holes_are_filled(copy: RunFolder, tmp_path: Path) -> None:
    assert chosen(copy, tmp_path / "masks", "holes") == ["no holes in disc"]


def test_small_parts_go_where_a_class_has_several(copy: RunFolder, tmp_path: Path) -> None:
    # The smallest part in the labels has 6 voxels of 5 mm³; the specks have 4, which is more than half of that.
    assert chosen(copy, tmp_path / "masks", "half") == []


def test_two_cases_choose_nothing(copy: RunFolder, tmp_path: Path) -> None:
    assert chosen(copy, tmp_path / "masks", "specks", count=2) == []
    assert not copy.postprocessing.exists() or read_json(copy.postprocessing)["cases"] != 2


def test_predict_does_what_the_card_says_unless_told_not_to(copy: RunFolder, dataset: Path, tmp_path: Path) -> None:
    card = read_json(copy.card)
    write_json(copy.card, {**card, "postprocessing": [{"kind": "smallest_part", "of": 1, "mm3": 1e9}]})
    scan = dataset / "imagesTr" / "case_13_0000.nii.gz"
    plain = fewscan.predict(copy, [scan], output=tmp_path / "plain", postprocess=False)
    done = fewscan.predict(copy, [scan], output=tmp_path / "done", save_probabilities=True)
    assert read_mask(plain.masks[0]).array.any()
    assert not read_mask(done.masks[0]).array.any()
    # The volumes are those of the mask that is written, the probabilities the network's own.
    assert (done.folder / "volumes.csv").read_text("utf-8").splitlines()[1].endswith(",0")
    probabilities = np.load(done.folder / "case_13.npz")["probabilities"]
    assert np.array_equal(probabilities.argmax(axis=0), read_mask(plain.masks[0]).array)


def test_a_card_with_a_step_for_a_class_that_is_not_there_is_refused(copy: RunFolder) -> None:
    write_json(copy.card, {**read_json(copy.card), "postprocessing": [{"kind": "fill_holes", "of": 7}]})
    with pytest.raises(DataError, match="not the description of a fewscan model"):
        read_card(copy.path)


def test_training_tries_it_on_its_validation_cases(run: Path) -> None:
    told = read_json(RunFolder(run).postprocessing)
    assert told["cases"] == 10
    summary = read_json(RunFolder(run).validation.summary)
    assert told["dice"] == pytest.approx(summary["mean"]["dice"], abs=1e-6)
    assert len(read_card(run).postprocessing) == len(told["steps"])
