"""DICOM from the archive to the mask: a training on series ends as one on their NIfTI, and masks go back as SEG."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import fewscan
from fewscan.data.phantom import make_phantom
from fewscan.io.files import read_json, write_json
from fewscan.io.scans import read_mask, read_scan, write_scan
from fewscan.io.terms import Meaning, Segment
from support.dicom_labels import as_series
from support.scans import TINY

# Of the runs one has a page, to be searched for names.
WITH_PAGE = "seg-labels"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom's scans as series in nested folders, with segmentations of those that are labelled."""
    folder = tmp_path_factory.mktemp("dicom")
    phantom = make_phantom(folder / "phantom", patients=4, labelled=2, validation=1)
    names = read_json(phantom / "dataset.json")["labels"]
    segments = tuple(Segment(number, name, (9, 9, 9)) for name, number in names.items() if number)
    for number, path in enumerate(sorted(phantom.rglob("*_0000.nii.gz"))):
        case = path.name.removesuffix("_0000.nii.gz")
        as_series(read_scan(path), folder / "archive" / case / "images", number)
        label = phantom / f"labelsTr/{case}.nii.gz"
        if label.is_file():
            grid = read_scan(folder / "archive" / case / "images").geometry
            meaning = Meaning(segments, "somebody", "1")
            target = folder / "archive" / case / "labels.dcm"
            write_scan(target, read_mask(label).array, grid, predicted=True, meaning=meaning)
    return folder / "archive"


@pytest.fixture(scope="module")
def sets(archive: Path) -> dict[str, Path]:
    """The archive converted, and the same cases as series, with NIfTI and with SEG for labels."""
    converted = fewscan.convert("dicom", archive, destination=archive.parent / "nifti")
    folders = sorted(path for path in archive.iterdir())
    cases = [f"case_{number:03d}" for number in range(1, len(folders) + 1)]
    write_json(converted / "splits.json", {"train": cases[:6], "val": cases[6:]})
    found = {"nifti": converted}
    for kind in ("nifti-labels", "seg-labels"):
        root = archive.parent / kind
        (root / "labelsTr").mkdir(parents=True)
        for case, folder in zip(cases, folders, strict=True):
            shutil.copytree(folder / "images", root / "imagesTr" / f"{case}_0000")
            label = converted / f"labelsTr/{case}.nii.gz"
            if label.is_file():
                source = label if kind == "nifti-labels" else folder / "labels.dcm"
                shutil.copy(source, root / "labelsTr" / f"{case}{'.nii.gz' if kind == 'nifti-labels' else '.dcm'}")
        for name in ("patients.json", "splits.json"):
            shutil.copy(converted / name, root / name)
        write_json(root / "dataset.json", {**read_json(converted / "dataset.json"), "file_ending": ".dcm"})
        found[kind] = root
    return found


def weights(run: Path) -> dict[str, np.ndarray]:
    return load_file(run / "model.safetensors")


@pytest.fixture(scope="module")
def runs(sets: dict[str, Path]) -> dict[str, Path]:
    """A short training on each."""
    made = {}
    for kind, root in sets.items():
        assert not [fault for fault in fewscan.check(root) if fault.fatal]
        output = root.parent / f"run-{kind}"
        settings = (*TINY, f"report.page={str(kind == WITH_PAGE).lower()}")
        made[kind] = fewscan.train(root, output, recipe="quick", settings=settings, device="cpu").folder
    return made


@pytest.mark.parametrize("kind", ["nifti-labels", "seg-labels"])
def test_a_training_on_series_ends_with_the_weights_of_one_on_nifti(runs: dict[str, Path], kind: str) -> None:
    ours, theirs = weights(runs[kind]), weights(runs["nifti"])
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    for name in ("splits.json", "validation/summary.csv"):
        assert (runs[kind] / name).read_text() == (runs["nifti"] / name).read_text()
