"""NIfTI headers are laid out as nibabel has them, which reading a scan does without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from nibabel import nifti1, nifti2

from fewscan.io.nifti_layout import NIFTI_1, NIFTI_2
from fewscan.io.scans import write_scan
from support.scans import geometry


def test_fields_are_those_of_nibabel() -> None:
    assert nifti1.header_dtype == NIFTI_1
    assert nifti2.header_dtype == NIFTI_2
    assert (NIFTI_1.itemsize, NIFTI_2.itemsize) == (348, 540)


def test_a_scan_is_read_without_nibabel_and_pydicom(tmp_path: Path) -> None:
    where = geometry()
    write_scan(tmp_path / "a.nii.gz", np.ones(where.shape, np.float32), where)
    code = "import sys; from pathlib import Path; from fewscan.io.scans import read_scan; read_scan(Path('a.nii.gz'));"
    code += "print(sorted({'nibabel', 'pydicom'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
