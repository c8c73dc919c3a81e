from pathlib import Path

import numpy as np
import pytest

from fewscan.commands.check import check
from fewscan.data.index import read_dataset
from fewscan.data.phantom import make_phantom
from fewscan.data.split import make_split
from fewscan.io.scans import read_scan


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("data") / "phantom", patients=6, labelled=2, validation=1, seed=4)


def test_it_is_a_sound_data_set_with_few_labels(phantom: Path) -> None:
    assert check(phantom) == []
    split = make_split(read_dataset(phantom))
    assert [case.patient for case in split.labelled] == ["patient001"] * 2 + ["patient002"] * 2
    assert len(split.train) - len(split.labelled) == 6
    assert {case.patient for case in split.val} == {"patient006"}


def test_classes_are_nested_imbalanced_and_gone_at_the_apex(phantom: Path) -> None:
    label = read_scan(phantom / "labelsTr" / "patient001_frame01.nii.gz")
    assert label.geometry.spacing_mm == pytest.approx((8.0, 1.5, 1.5))
    shares = np.bincount(label.array.ravel(), minlength=4) / label.array.size
    assert shares[0] > 0.85
    assert all(0.002 < share < 0.1 for share in shares[1:])
    assert not label.array[-1].any()
    # The cavity is inside the wall: no voxel of it touches anything else in its slice.
    cavity = label.array == 3
    for axis in (1, 2):
        for step in (-1, 1):
            assert set(np.unique(np.roll(label.array, step, axis)[cavity])) <= {2, 3}


def test_the_seed_decides_and_noise_differs_between_patients(phantom: Path, tmp_path: Path) -> None:
    again = make_phantom(tmp_path / "again", patients=6, labelled=2, validation=1, seed=4)
    other = make_phantom(tmp_path / "other", patients=6, labelled=2, validation=1, seed=5)
    name = "imagesTr/patient001_frame01_0000.nii.gz"
    first = read_scan(phantom / name).array
    assert np.array_equal(first, read_scan(again / name).array)
    assert read_scan(other / name).array.shape != first.shape or not np.array_equal(
        read_scan(other / name).array, first
    )


def test_numbers_must_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 labelled and 5 validation patients of 6"):
        make_phantom(tmp_path / "new", patients=6, labelled=2, validation=5)
