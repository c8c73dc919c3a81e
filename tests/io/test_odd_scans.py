"""Every odd scan is read right, or refused with its name, the fault and the remedy."""

import os
import re
import resource
import time
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from fewscan.classes import Classes
from fewscan.commands.check import check
from fewscan.data.check import check_images
from fewscan.errors import DataError
from fewscan.evaluation.evaluate import score_files
from fewscan.io.scans import read_geometry, read_scan, write_scan
from support.known import known
from support.odd_scans import ODD, Odd, Right, holding, nifti
from support.scans import as_stored, disc, geometry, make_dataset

READ = [pytest.param(odd, odd.expected, id=odd.name) for odd in ODD if isinstance(odd.expected, Right)]
REFUSED = [pytest.param(odd, *odd.expected, id=odd.name) for odd in ODD if not isinstance(odd.expected, Right)]


@pytest.mark.parametrize(("odd", "expected"), READ)
def test_read_right(tmp_path: Path, odd: Odd, expected: Right) -> None:
    path = tmp_path / odd.name
    odd.make(path)
    scan = read_scan(path)
    assert np.array_equal(as_stored(scan), expected.array, equal_nan=expected.array.dtype.kind == "f")
    assert scan.array.dtype.isnative
    assert scan.array.flags.c_contiguous
    for where in (scan.geometry, read_geometry(path)):
        file = known(where.stored)
        order = file.orientation.order
        assert where.shape == tuple(expected.array.shape[axis] for axis in order) == scan.array.shape
        assert np.allclose(where.spacing_mm, [expected.spacing[axis] for axis in order], rtol=1e-6)
        if expected.affine is not None:
            assert np.allclose(file.affine_ras, expected.affine, atol=1e-5)
        assert bool(where.notes) == bool(expected.note)
    notes = " ".join(str(fault) for fault in check_images([path]) if not fault.fatal and "same value" not in str(fault))
    assert re.search(expected.note, notes)
    assert bool(notes) == bool(expected.note)


@pytest.mark.parametrize(("odd", "fault", "remedy"), REFUSED)
def test_refused_by_name_with_fault_and_remedy(tmp_path: Path, odd: Odd, fault: str, remedy: str) -> None:
    path = tmp_path / odd.name
    odd.make(path)
    with pytest.raises(DataError) as error:
        read_scan(path)
    assert str(error.value).startswith(f"{path}: ")
    assert re.search(fault, str(error.value))
    assert remedy in str(error.value)
    (found,) = check_images([path])
    assert found.fatal
    assert found.remedy


def test_a_header_alone_never_takes_the_memory_it_asks_for(tmp_path: Path) -> None:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    for odd in ODD:
        if odd.name.startswith("absurd"):
            odd.make(tmp_path / odd.name)
            for read in (read_geometry, read_scan):
                with pytest.raises(DataError, match="cut short"):
                    read(tmp_path / odd.name)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    assert time.monotonic() - start < 10


def test_there_are_many_and_each_has_its_own_name() -> None:
    assert len(ODD) >= 60
    assert len({odd.name for odd in ODD}) == len(ODD)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holding(nifti())(tmp_path / "locked.nii")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(DataError, match=r"locked\.nii: you may not read this file. Change its permissions"):
        read_scan(tmp_path / "locked.nii")


def test_a_file_locked_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holding(nifti())(tmp_path / "locked.nii")

    def refuse(*_: object) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"locked\.nii: you may not read this file. Change its permissions"):
        read_scan(tmp_path / "locked.nii")


def test_values_too_large_to_compute_with(tmp_path: Path) -> None:
    write_scan(tmp_path / "large.nii", disc((4, 20, 24)) * 1e200, geometry())
    (fault,) = check_images([tmp_path / "large.nii"])
    assert "from 0 to 1e+200, too large to compute with. Divide them" in str(fault)
    assert fault.fatal


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e12])
def test_masks_that_no_integers_can_hold_are_not_scored(tmp_path: Path, value: float) -> None:
    for name, number in (("sound.nii", 1.0), ("odd.nii", value)):
        write_scan(tmp_path / name, np.full((4, 20, 24), number, np.float32), geometry())
    for one, other in (("sound.nii", "odd.nii"), ("odd.nii", "sound.nii")):
        with pytest.raises(DataError, match=r"odd\.nii: the mask holds NaN, infinite or huge values"):
            score_files(tmp_path / one, tmp_path / other, Classes.consecutive(("background", "a")))


def label(values: float, dtype: type[np.number] = np.float32) -> np.ndarray:
    return disc((4, 20, 24)).astype(dtype) * values


LABELS = {
    "0.9999": (label(0.9999), None),
    "1.0001 as double": (label(1.0001, np.float64), None),
    "gap": (label(3, np.uint8), r"label values \[3\] are not in dataset\.json \(0 to 1\)"),
    "halves": (label(0.5), r"such as \[0\.5\] are not whole"),
    "0.9": (label(0.9), "are not whole"),
    "negative": (label(-1, np.int16), r"label values \[-1\] are not in"),
    "NaN": (label(np.nan), "NaN or infinite"),
    "infinite": (np.full((4, 20, 24), np.inf, np.float32), "NaN or infinite"),
    "255": (label(255, np.uint8), r"label values \[255\] are not in"),
    "huge": (label(1e30, np.float64), "are not in dataset"),
}


@pytest.mark.parametrize("name", LABELS)
def test_odd_labels(tmp_path: Path, name: str) -> None:
    array, problem = LABELS[name]
    root = make_dataset(tmp_path / "set", labelled=1, unlabelled=0)
    path = root / "labelsTr" / "case_00.nii.gz"
    write_scan(path, array, geometry())
    faults = check(root)
    if problem is None:
        assert faults == []
    else:
        (fault,) = faults
        assert fault.fatal
        assert fault.file == str(path)
        assert re.search(problem, str(fault))
        assert fault.remedy


def test_a_class_that_no_label_has_is_no_fault(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labels={"background": 0, "absent": 1, "disc": 2})
    write_scan(root / "labelsTr" / "case_00.nii.gz", label(2, np.uint8), geometry())
    assert check(root) == []
