"""Every odd DICOM series is read right, or refused with its name, the fault and the remedy."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fewscan.data.check import check_images
from fewscan.errors import DataError
from fewscan.io.dicom.series import SeriesForm
from fewscan.io.endings import scan_ending, scan_stem
from fewscan.io.geometry import LPS_TO_RAS
from fewscan.io.scans import read_geometry, read_scan
from support.dicom import SECRETS
from support.known import known
from support.odd_dicom import CT, ODD, REFUSED, RIGHT, OddSeries, ReadAs

READ = [pytest.param(odd, odd.expected, id=odd.name) for odd in RIGHT if isinstance(odd.expected, ReadAs)]
OF_ITK = [pytest.param(odd, id=odd.name) for odd in RIGHT if isinstance(odd.expected, ReadAs) and odd.expected.itk]
NOT_READ = [pytest.param(odd, *odd.expected, id=odd.name) for odd in REFUSED if not isinstance(odd.expected, ReadAs)]


@pytest.mark.parametrize(("odd", "expected"), READ)
def test_read_right(tmp_path: Path, odd: OddSeries, expected: ReadAs) -> None:
    path = tmp_path / odd.name
    odd.make(path)
    assert (scan_ending(path), scan_stem(path)) == (".dcm", odd.name.removesuffix(".dcm"))
    scan = read_scan(path)
    assert np.array_equal(scan.geometry.to_stored(scan.array), expected.array)
    assert scan.array.dtype == expected.kind
    assert scan.array.dtype.isnative
    assert scan.array.flags.c_contiguous
    for where in (scan.geometry, read_geometry(path)):
        affine = LPS_TO_RAS @ known(where.stored).affine_ras
        assert np.allclose(affine, expected.affine_lps, atol=2e-4)
        assert where == scan.geometry
        assert bool(where.notes) == bool(expected.note)
    notes = " ".join(str(fault) for fault in check_images([path]) if not fault.fatal)
    assert re.search(expected.note, notes)


@pytest.mark.parametrize("odd", OF_ITK)
def test_itk_reads_the_same(tmp_path: Path, odd: OddSeries) -> None:
    import SimpleITK as sitk

    path = tmp_path / odd.name
    odd.make(path)
    scan = read_scan(path)
    form = known(scan.geometry.stored).form
    assert isinstance(form, SeriesForm)
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(found.path) for found in form.slices])
    image = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(image), scan.geometry.to_stored(scan.array))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    assert np.allclose(affine, LPS_TO_RAS @ scan.geometry.stored_affine_ras, atol=1e-6)


@pytest.mark.parametrize(("odd", "fault", "remedy"), NOT_READ)
def test_refused_by_name_with_fault_and_remedy(tmp_path: Path, odd: OddSeries, fault: str, remedy: str) -> None:
    path = tmp_path / odd.name
    odd.make(path)
    with pytest.raises(DataError) as error:
        read_scan(path)
    (found,) = error.value.faults
    assert found.file.startswith(str(path))
    assert re.search(fault, found.problem)
    assert re.search(remedy, found.remedy)
    assert found.remedy
    assert not [secret for secret in SECRETS if secret in str(found).replace(str(tmp_path), "")]
    (checked,) = check_images([path])
    assert checked == found


def test_there_are_many_and_each_has_its_own_name() -> None:
    assert len(ODD) >= 90
    assert len({odd.name for odd in ODD}) == len(ODD)


def test_a_header_cut_anywhere_is_refused_by_name_and_nothing_of_it_is_told(tmp_path: Path) -> None:
    whole = CT.write(tmp_path / "whole")[0].read_bytes()
    path = tmp_path / "cut"
    path.mkdir()
    for length in range(140, 700, 7):
        (path / "0.dcm").write_bytes(whole[:length])
        # A warning of the library would quote the header; here it is an error, and would not be one of ours.
        with pytest.raises(DataError, match=r"0\.dcm|cut"):
            read_scan(path)
