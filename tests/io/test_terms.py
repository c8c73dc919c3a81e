"""Names, codes and colours of classes, and 3D Slicer's fields of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from fewscan.data.index import read_dataset
from fewscan.errors import ConfigError, DataError
from fewscan.io.scans import is_ours, read_mask, write_scan
from fewscan.io.segments import read_segments
from fewscan.io.terms import TISSUE, Code, Meaning, Segment, SegmentTerms, known_codes, parse_terms
from fewscan.runs.meaning import ending_of
from support.scans import geometry, make_dataset

GIVEN = {"tumour": {"type": ["4147007", "SCT", "Mass"], "colour": "#102030"}}


def test_what_dataset_json_says_goes_before_the_name() -> None:
    said = parse_terms(GIVEN, ("background", "tumour"))["tumour"].segment(2, "tumour", "#FFFFFF")
    assert (said.colour, said.kind) == ((16, 32, 48), Code("4147007", "SCT", "Mass"))
    assert said.category.meaning == "Morphologically Abnormal Structure"
    plain = SegmentTerms().segment(1, "Left_Kidney", "#E69F00")
    assert plain == Segment(1, "Left_Kidney", (230, 159, 0), TISSUE, TISSUE)
    assert SegmentTerms().segment(1, "LV", "#000000").kind.value == "87878005"
    assert known_codes("urinary bladder") == known_codes("Bladder")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"lung": {}}, '"segments" names "lung", which is no class'),
        ({"tumour": {"type": ["1", "SCT"]}}, "at tumour.type"),
        ({"tumour": {"type": ["1" * 17, "SCT", "x"]}}, "at tumour.type.0"),
        ({"tumour": {"colour": "red"}}, "at tumour.colour"),
        ({"tumour": {"code": "1"}}, "at tumour.code"),
        (["tumour"], "at its beginning"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_name(value: object, words: str) -> None:
    with pytest.raises(DataError, match=r"dataset\.json") as error:
        parse_terms(value, ("background", "tumour"))
    assert words in str(error.value)


def test_a_data_set_knows_its_terms_and_every_fault_of_them(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set")
    description = json.loads((root / "dataset.json").read_text())
    name = next(name for name, number in description["labels"].items() if number)
    (root / "dataset.json").write_text(json.dumps({**description, "segments": {name: GIVEN["tumour"]}}))
    assert read_dataset(root).terms[name].colour == "#102030"
    (root / "dataset.json").write_text(json.dumps({**description, "segments": GIVEN, "channel_names": {}}))
    with pytest.raises(DataError) as error:
        read_dataset(root)
    assert {"segments" in str(fault) for fault in error.value.faults} == {True, False}


def test_formats_of_masks_have_names() -> None:
    meaning = Meaning((), "a", "1")
    assert [ending_of(name, meaning) for name in ("nifti", "nrrd", "seg")] == [".nii.gz", ".seg.nrrd", ".dcm"]
    assert ending_of(None, None) is None
    assert ending_of("nifti", None) == ".nii.gz"
    with pytest.raises(ConfigError, match="number objects"):
        ending_of("seg", None)
    with pytest.raises(ConfigError, match="Choose nifti, nrrd, seg, rtstruct"):
        ending_of("dicom", meaning)


def test_a_mask_as_nrrd_has_the_fields_of_slicer(tmp_path: Path) -> None:
    grid = replace(geometry(), stored=None)
    mask = np.zeros(grid.shape, np.uint8)
    mask[1:3, 4:9, 2:7] = 3
    liver = Segment(3, "Liver ~\n left", (255, 128, 0), *(known_codes("liver") or ()))
    path = tmp_path / "mask.seg.nrrd"
    write_scan(path, mask, grid, predicted=True, meaning=Meaning((liver, Segment(4, "other", (0, 0, 0))), "a", "1"))
    image = sitk.ReadImage(str(path))
    fields = {name: image.GetMetaData(name) for name in image.GetMetaDataKeys()}
    assert fields["Segment0_Name"] == "Liver ~ left"
    assert fields["Segment0_LabelValue"] == "3"
    assert fields["Segment0_Color"] == "1 0.501961 0"
    assert fields["Segment0_Extent"] == "2 6 4 8 1 2"
    assert fields["Segment1_Extent"] == "0 -1 0 -1 0 -1"
    assert "~SCT^91723000^Anatomical Structure~SCT^10200004^Liver~" in fields["Segment0_Tags"]
    # What Slicer saves corrected segments on; without it, it cuts them out.
    name, _, given = fields["Segmentation_ConversionParameters"].removesuffix("|&").partition("|")
    numbers = [float(number) for number in given.removesuffix(";").split(";")]
    assert name == "Reference image geometry"
    assert np.allclose(np.reshape(numbers[:16], (4, 4)), grid.affine_ras)
    assert numbers[16:] == [0, grid.shape[2] - 1, 0, grid.shape[1] - 1, 0, grid.shape[0] - 1]
    assert np.array_equal(sitk.GetArrayFromImage(image), mask)
    assert read_segments(path) == {3: "Liver ~ left", 4: "other"}
    assert np.array_equal(read_mask(path).array, mask)
    assert is_ours(path)


def test_the_reader_of_slicers_authors_finds_names_colours_and_terms(tmp_path: Path) -> None:
    slicerio = pytest.importorskip("slicerio")
    grid = replace(geometry(), stored=None)
    mask = np.zeros(grid.shape, np.uint8)
    mask[1:3, 4:9, 2:7] = 3
    liver = Segment(3, "Liver", (255, 128, 0), *(known_codes("liver") or ()))
    path = tmp_path / "mask.seg.nrrd"
    write_scan(path, mask, grid, predicted=True, meaning=Meaning((liver,), "a", "1"))
    found = slicerio.read_segmentation(str(path))
    (segment,) = found["segments"]
    assert (segment["name"], segment["labelValue"], segment["extent"]) == ("Liver", 3, [2, 6, 4, 8, 1, 2])
    assert np.allclose(segment["color"], (1, 128 / 255, 0), atol=1e-6)
    assert segment["terminology"]["type"] == ["SCT", "10200004", "Liver"]
    # Its arrays are (x, y, z), its places in ITK's convention.
    assert np.array_equal(found["voxels"].transpose(2, 1, 0), mask)
    assert np.allclose(found["ijkToLPS"], np.diag([-1, -1, 1, 1]) @ grid.affine_ras)
