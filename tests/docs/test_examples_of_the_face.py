"""The examples in the docstrings of `import fewscan`: run in one folder, in the order in which somebody would."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path

import nibabel
import numpy as np
import pytest

import fewscan
from fewscan.io.files import read_json, write_json
from support.face import ORDER
from support.scans import TINY, make_held_out


def make_decathlon(root: Path) -> None:
    """A data set as the Decathlon's: one scan and its label."""
    label = np.zeros((12, 10, 4), np.uint8)
    label[:4] = 1
    for folder, array in (("imagesTr", 100.0 * label), ("labelsTr", label)):
        (root / folder).mkdir(parents=True)
        nibabel.Nifti1Image(array, np.eye(4)).to_filename(root / folder / "a.nii.gz")
    training = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    labels = {"0": "background", "1": "hippocampus"}
    write_json(root / "dataset.json", {"modality": {"0": "MRI"}, "labels": labels, "training": training})


def test_every_public_name_has_an_example_that_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_held_out(tmp_path / "DATASET")
    make_held_out(tmp_path / "SITE_B")
    described = tmp_path / "SITE_B" / "dataset.json"
    write_json(described, {**read_json(described), "name": "B"})
    make_decathlon(tmp_path / "Task04_Hippocampus")
    monkeypatch.chdir(tmp_path)
    assert set(ORDER) == set(fewscan.__all__) - {"__version__"}
    for name in ORDER:
        doc = inspect.getdoc(getattr(fewscan, name)) or ""
        test = doctest.DocTestParser().get_doctest(doc, {"short": TINY}, name, None, 0)
        assert test.examples, name
        result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
        assert result.failed == 0, capsys.readouterr().out
