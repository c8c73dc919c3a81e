"""DICOM from the archive to the mask: a training on series ends as one on their NIfTI, and masks go back as SEG."""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
from safetensors.numpy import load_file

import fewscan
from fewscan.data.phantom import make_phantom
from fewscan.io.files import read_json, write_json
from fewscan.io.scans import is_ours, read_geometry, read_mask, read_scan, write_scan
from fewscan.io.segments import read_segments
from fewscan.io.terms import Meaning, Segment
from support.dicom import SECRETS
from support.dicom_labels import as_series
from support.how_to import shell_block
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


@pytest.fixture(scope="module")
def masks(runs: dict[str, Path], sets: dict[str, Path]) -> dict[str, Path]:
    """The masks of one series in every format, by a model that was trained on series."""
    series = sets["seg-labels"] / "imagesTr/case_008_0000"
    found = {}
    for kind in ("nifti", "nrrd", "seg"):
        output = runs["nifti"].parent / f"masks-{kind}"
        (found[kind],) = fewscan.predict(runs["seg-labels"], [series], output=output, format=kind)
    return found


def test_masks_of_all_formats_show_the_same_at_the_same_place(masks: dict[str, Path], sets: dict[str, Path]) -> None:
    names = {kind: path.name for kind, path in masks.items()}
    assert names == {"nifti": "case_008.nii.gz", "nrrd": "case_008.seg.nrrd", "seg": "case_008.dcm"}
    grid = read_geometry(sets["nifti"] / "imagesTr/case_008_0000.nii.gz")
    first = read_mask(masks["nifti"]).array
    assert first.any()
    for path in masks.values():
        found = read_mask(path)
        assert is_ours(path)
        assert np.array_equal(found.array, first)
        assert np.abs(found.geometry.affine_ras - grid.affine_ras).max() < 1e-3


def test_segments_have_the_names_of_the_classes(masks: dict[str, Path], sets: dict[str, Path]) -> None:
    labels = read_json(sets["seg-labels"] / "dataset.json")["labels"]
    wanted = {number: name for name, number in labels.items() if number}
    assert read_segments(masks["seg"]) == read_segments(masks["nrrd"]) == wanted


def test_a_folder_of_folders_is_predicted_and_what_cannot_be_written_is_told_before(
    runs: dict[str, Path], sets: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(sets["seg-labels"] / "imagesTr/case_007_0000", tmp_path / "in/a")
    shutil.copytree(sets["seg-labels"] / "imagesTr/case_008_0000", tmp_path / "in/b")
    (path := sorted((tmp_path / "in/b").iterdir())[0]).write_bytes(path.read_bytes()[:700])
    with pytest.raises(fewscan.DataError, match="no mask for 1 of the scans"):
        fewscan.predict(runs["seg-labels"], [tmp_path / "in"], output=tmp_path / "out", format="seg")
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        "a.dcm", "failed.json", "itksnap_labels.txt", "quality.csv", "volumes.csv",
    ]  # fmt: skip
    scan = sets["nifti"] / "imagesTr/case_008_0000.nii.gz"
    with pytest.raises(fewscan.DataError, match="refer to a series, and this scan is none"):
        fewscan.predict(runs["nifti"], [scan], output=tmp_path / "other", format="seg")
    # A mask in another format takes the place of the earlier one.
    fewscan.predict(runs["seg-labels"], [tmp_path / "in/a"], output=tmp_path / "out", format="nrrd")
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        "a.seg.nrrd", "itksnap_labels.txt", "quality.csv", "volumes.csv",
    ]  # fmt: skip
    with pytest.raises(fewscan.ConfigError, match="no such format of masks"):
        fewscan.predict(runs["nifti"], [scan], output=tmp_path / "other", format="png")


def test_a_report_of_masks_of_a_series_is_made(runs: dict[str, Path], sets: dict[str, Path], tmp_path: Path) -> None:
    series = sets["seg-labels"] / "imagesTr/case_008_0000"
    fewscan.predict(runs["seg-labels"], [series], output=tmp_path / "out", format="seg")
    page = fewscan.report(runs["seg-labels"], tmp_path / "out", images=[series])
    assert "case_008" in page.read_text()
    assert not [secret for secret in SECRETS if secret in page.read_text()]


def test_runs_masks_and_pages_tell_nothing_of_patients(runs: dict[str, Path], masks: dict[str, Path]) -> None:
    files = [path for run in runs.values() for path in run.rglob("*") if path.is_file()]
    files += [path for kind in ("nifti", "nrrd") for path in masks[kind].parent.rglob("*") if path.is_file()]
    assert any(path.name == "report.html" for path in files)
    found = [(path.name, secret) for path in files for secret in SECRETS if secret.encode() in unpacked(path)]
    assert not found


def unpacked(path: Path) -> bytes:
    """What a file holds, with its name."""
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            content = b"".join(archive.read(name) for name in archive.namelist())
    return path.name.encode() + content


def test_a_study_that_is_sent_in_comes_back_as_a_segmentation(
    runs: dict[str, Path], sets: dict[str, Path], masks: dict[str, Path], tmp_path: Path
) -> None:
    missing = [name for name in ("storescp", "storescu", "dcmdump") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} of Debian's package dcmtk are not installed")
    script = tmp_path / "on-study.sh"
    script.write_text(shell_block("dicom.md", "on-study.sh FOLDER"))
    script.chmod(0o755)
    (tmp_path / "incoming").mkdir()
    (tmp_path / "archive").mkdir()
    own, pacs = free_port(), free_port()
    settings = {
        "RUN": str(runs["seg-labels"]),
        "PACS_TITLE": "ARCHIVE",
        "PACS_HOST": "127.0.0.1",
        "PACS_PORT": str(pacs),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    receive = ["-od", str(tmp_path / "incoming"), "--sort-on-study-uid", "study", "--eostudy-timeout", "1"]
    with (
        serving(["storescp", "-aet", "ARCHIVE", "-od", str(tmp_path / "archive"), str(pacs)], pacs, {}),
        serving(["storescp", *receive, "--exec-on-eostudy", f"{script} #p", str(own)], own, settings),
    ):
        files = sorted((sets["seg-labels"] / "imagesTr/case_008_0000").iterdir())
        subprocess.run(["storescu", "127.0.0.1", str(own), *map(str, files)], check=True)
        back = first_file(tmp_path / "archive", seconds=300)
    shutil.copy(back, tmp_path / "back.dcm")
    found, expected = read_mask(tmp_path / "back.dcm"), read_mask(masks["nifti"])
    assert np.array_equal(found.array, expected.array)
    assert is_ours(tmp_path / "back.dcm")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def serving(command: Sequence[str], port: int, settings: Mapping[str, str]) -> Iterator[None]:
    """A program that listens on a port for as long as it is wanted."""
    with subprocess.Popen(command, env={**os.environ, **settings}) as process:
        try:
            until(lambda: _listens(port), seconds=20)
            yield
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as found:
        return found.connect_ex(("127.0.0.1", port)) == 0


def first_file(folder: Path, seconds: float) -> Path:
    """The first file that comes into a folder, once it is whole."""
    until(lambda: any(pydicom.misc.is_dicom(path) and _is_whole(path) for path in folder.iterdir()), seconds)
    return next(iter(sorted(folder.iterdir())))


def _is_whole(path: Path) -> bool:
    try:
        return "PixelData" in pydicom.dcmread(path)
    except (EOFError, OSError):
        return False


def until(what: Callable[[], bool], seconds: float) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.2)
