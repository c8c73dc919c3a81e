"""Whatever the bytes of a scan or of a data set's JSON files are: read, or refused with a DataError."""

import gzip
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fewscan.data.check import check_images
from fewscan.data.index import read_dataset
from fewscan.data.split import make_split
from fewscan.errors import DataError
from fewscan.io.scans import read_geometry, read_scan
from fuzz.mutations import mutated
from support.odd_scans import PIXELS, STORED, ZIP, mha, nifti, nrrd, packed_mha
from support.pictures import noise, png, saved, tiff, tiled

PROFILE = settings.get_profile("fuzz")
TEXT = " ".join(map(str, PIXELS.ravel())).encode()
SEEDS = {
    ".nii": [
        nifti(),
        nifti(kind=nibabel.Nifti2Image),
        nifti(order=">"),
        nifti(STORED[..., None] / 3, edits=((112, "f", 2.0),)),
    ],
    ".nrrd": [nrrd(), nrrd(gzip.compress(PIXELS.tobytes()), encoding="gzip"), nrrd(TEXT, encoding="ascii")],
    ".mha": [mha(), packed_mha(ZIP)],
    ".png": [png(noise()), png(noise((12, 9, 2)), kind=4), png(noise(dtype="u2"), bits=16)],
    ".tif": [
        tiled(noise((20, 18), "u2"), packed=True),
        tiff([noise()]),
        tiff([noise(dtype="f4")] * 2, order=">", changes={270: b"ImageJ=1\nunit=um\n\0"}),
    ],
    ".jpg": [saved(Image.fromarray(noise()), "JPEG")],
}


def read_everything(path: Path) -> None:
    """What is read must be what a scan is; what is refused must be named."""
    refusal = ""
    try:
        where = read_geometry(path)
        scan = read_scan(path)
    except DataError as error:
        refusal = str(error)
    if refusal:
        assert refusal.startswith(f"{path}: ")
        assert ". " in refusal.removeprefix(f"{path}: ")
        return
    assert scan.geometry == where
    assert scan.array.shape == where.shape
    assert scan.array.dtype.kind in "iuf"
    assert min(where.spacing_mm) > 0
    assert np.isfinite(where.affine_ras).all()
    check_images([path])


@pytest.mark.parametrize("ending", SEEDS)
@PROFILE
@given(data=st.data())
def test_scans(folder: Path, ending: str, data: st.DataObject) -> None:
    path = folder / f"scan{ending}"
    path.write_bytes(data.draw(mutated(SEEDS[ending])))
    read_everything(path)


@PROFILE
@given(raw=mutated(SEEDS[".nii"]))
def test_packed_scans(folder: Path, raw: bytes) -> None:
    path = folder / "inner.nii.gz"
    path.write_bytes(gzip.compress(raw, 1))
    read_everything(path)


@PROFILE
@given(raw=mutated([gzip.compress(seed) for seed in SEEDS[".nii"]]))
def test_broken_gzip(folder: Path, raw: bytes) -> None:
    path = folder / "outer.nii.gz"
    path.write_bytes(raw)
    read_everything(path)


DESCRIPTION = {
    "name": "Discs",
    "channel_names": {"0": "MRI"},
    "labels": {"background": 0, "disc": 1},
    "file_ending": ".nii",
    "patient_pattern": "^(a)",
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.sampled_from(["0", "1", "²", "(", "a", ".nii"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["0", "1", "²", "a"]), inner, max_size=3)
    ),
    max_leaves=6,
)
DESCRIPTIONS = st.one_of(
    mutated([json.dumps(DESCRIPTION).encode(), json.dumps(DESCRIPTION, indent=1).encode("utf-16")]),
    st.builds(
        lambda changes: json.dumps({**DESCRIPTION, **changes}).encode(),
        st.dictionaries(st.sampled_from([*DESCRIPTION, "modality"]), VALUES, max_size=3),
    ),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.integers(1, 200_000).map(lambda depth: b"[" * depth),
)


OPTIONAL = st.one_of(st.none(), VALUES.map(lambda value: json.dumps(value).encode()))
PARTS = st.fixed_dictionaries({}, optional=dict.fromkeys(("train", "val", "test", "fold"), VALUES))
SPLITS = st.one_of(OPTIONAL, PARTS.map(lambda value: json.dumps(value).encode()))


@PROFILE
@given(description=DESCRIPTIONS, patients=OPTIONAL, splits=SPLITS, final=OPTIONAL)
def test_data_sets(
    folder: Path, description: bytes, patients: bytes | None, splits: bytes | None, final: bytes | None
) -> None:
    root = folder / "set"
    shutil.rmtree(root, ignore_errors=True)
    (root / "imagesTr").mkdir(parents=True)
    (root / "imagesTr" / "a_0000.nii").touch()
    (root / "dataset.json").write_bytes(description)
    (root / "labelsTr").mkdir()
    (root / "labelsTr" / "a.nii").touch()
    for name, content in (("patients.json", patients), ("splits.json", splits), ("splits_final.json", final)):
        if content is not None:
            (root / name).write_bytes(content)
    try:
        index = read_dataset(root)
    except DataError:
        return
    assert [case.name for case in index.cases] == ["a"]
    assert all(isinstance(name, str) for name in (*index.channel_names, *index.class_names, index.cases[0].patient))
    try:
        split = make_split(index)
    except DataError:
        return
    assert [case.name for case in split.train] == ["a"]
