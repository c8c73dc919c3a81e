"""The cases of a page: what is known of each, and what is shown of it."""

from __future__ import annotations

import base64
import gzip
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from fewscan.classes import IGNORED, Region
from fewscan.data.plans.base import Pictures
from fewscan.errors import DataError
from fewscan.evaluation.calibration import Estimate, Signals
from fewscan.evaluation.quality_table import QualityRow
from fewscan.io.scans import read_scan, write_scan
from fewscan.reporting.page.cases import Card, CaseFiles, disagreement, make_cards, telling_slice
from support.known import known
from support.pictures import noise, png, tiff, write
from support.scans import disc, oblique, slice_plan, volume_plan

NAMES = ("background", "a", "b")
PLAN = slice_plan(classes=NAMES)
REGIONS = slice_plan(
    classes=("background", "1", "five"),
    class_numbers=(0, 1, 5),
    ignored_number=9,
    regions=(Region("both", (1, 5)), Region("five", (5,))),
)
SVG = "{http://www.w3.org/2000/svg}"


def load(base64_text: str) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(base64_text)))


def test_where_masks_disagree() -> None:
    prediction, reference = np.array([0, 1, 0, 2, 1]), np.array([0, 1, 2, 0, 2])
    assert disagreement(prediction, reference).tolist() == [0, 0, 1, 2, 3]
    assert not disagreement(prediction, np.full(5, IGNORED)).any()
    wrong = np.zeros((4, 5, 6), np.uint8)
    masks = {"prediction": np.ones_like(wrong), "disagreement": wrong}
    masks["prediction"][1] = 0
    assert telling_slice(masks, 0) == 0
    wrong[3, 2, 2] = 1
    assert telling_slice(masks, 0) == 3
    assert telling_slice(masks, 2) == 2
    assert telling_slice({"prediction": wrong * 0}, 1) == 2


def case_files(tmp_path: Path, shape: tuple[int, int, int] = (4, 20, 24), label: int = 1) -> CaseFiles:
    where = oblique(shape)
    write_scan(tmp_path / "image.nii.gz", disc(shape).astype(np.float32), where)
    write_scan(tmp_path / "mask.nii.gz", disc(shape, 4, label), where)
    write_scan(tmp_path / "reference.nii.gz", disc(shape, 6), where)
    image, mask, reference = (tmp_path / f"{name}.nii.gz" for name in ("image", "mask", "reference"))
    return CaseFiles("<case>", "p", image, mask, reference, {"a": {"dice": 0.5, "hd95_mm": None}}, None)


def test_a_card_shows_the_case(tmp_path: Path) -> None:
    (card,) = make_cards([case_files(tmp_path)], PLAN, lambda: None)
    assert list(card.volumes) == ["image", "prediction", "reference", "disagreement"]
    masks = {name: np.asarray(load(text).dataobj) for name, text in card.volumes.items()}
    assert np.array_equal(masks["disagreement"], disagreement(masks["prediction"], masks["reference"]))
    assert [path.get("class") for path in svg_of(card).iter(f"{SVG}path")] == ["prediction c1", "reference c1"]
    assert "&lt;case&gt;" in card.thumbnail
    counted = disc((4, 20, 24), 4).sum() * np.prod(oblique().spacing_mm) / 1000
    assert card.contents == {"a": pytest.approx(1000 * counted), "b": 0.0}
    assert card.facts["scores"] == {"": 0.5, "a": 0.5}
    # The place to look at first lies in the scan.
    voxel = np.linalg.inv(oblique((4, 20, 24)).affine_ras) @ (*card.facts["focus"], 1)
    assert voxel[2] == pytest.approx(card.planes[0].number, abs=0.01)


def svg_of(card: Card) -> ET.Element:
    return ET.fromstring(str(card.thumbnail).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"'))


def test_a_card_of_volumes_shows_a_plane_of_each_direction_through_the_focus(tmp_path: Path) -> None:
    (card,) = make_cards([case_files(tmp_path, (12, 20, 24))], volume_plan(classes=NAMES), lambda: None)
    x, y, z, _ = np.linalg.inv(oblique((12, 20, 24)).affine_ras) @ (*card.facts["focus"], 1)
    assert np.allclose([plane.number for plane in card.planes], (z, y, x), atol=0.51)
    assert [plane.axis for plane in card.planes] == [0, 1, 2]
    assert card.where == "3 planes"
    svg = svg_of(card)
    assert [path.get("class") for path in svg.iter(f"{SVG}path")] == 3 * ["prediction c1", "reference c1"]
    assert all(str(plane) in known(svg.get("aria-label")) for plane in card.planes)
    # All to one scale: what two planes share is as long in both.
    axial, coronal, sagittal = [
        (float(known(i.get("width"))), float(known(i.get("height")))) for i in svg.iter(f"{SVG}image")
    ]
    assert axial[0] == coronal[0]
    assert axial[1] == sagittal[0]
    assert coronal[1] == sagittal[1]
    _, _, width, height = map(float, known(svg.get("viewBox")).split())
    assert width > axial[0] + sagittal[0]
    assert height > coronal[1] + axial[1]


def test_a_scan_of_one_slice_is_shown_by_that_slice(tmp_path: Path) -> None:
    for plan in (PLAN, volume_plan(classes=NAMES)):
        (card,) = make_cards([case_files(tmp_path, (20, 1, 24))], plan, lambda: None)
        assert [tuple(plane) for plane in card.planes] == [(1, 0)]
        assert card.where == "slice 0"


def test_a_card_of_regions_has_their_volumes_and_shows_nothing_of_what_is_ignored(tmp_path: Path) -> None:
    files = case_files(tmp_path)
    mask = disc((4, 20, 24), 4)
    mask[:2] *= 5
    write_scan(files.prediction, mask, oblique((4, 20, 24)))
    write_scan(known(files.reference), np.full((4, 20, 24), 9, np.uint8), oblique((4, 20, 24)))
    (card,) = make_cards([files], REGIONS, lambda: None)
    assert card.contents["both"] == pytest.approx(2 * card.contents["five"])
    reference, wrong = (volume_of(card, name) for name in ("reference", "disagreement"))
    assert not reference.any()
    assert not wrong.any()


def volume_of(card: Card, name: str) -> np.ndarray:
    content = gzip.decompress(base64.b64decode(card.volumes[name]))
    return np.asarray(nibabel.Nifti1Image.from_bytes(content).dataobj)


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    files = case_files(tmp_path, label=3)
    with pytest.raises(DataError, match=r"mask\.nii\.gz: label values \[3\] are no classes \(0 to 2\)"):
        make_cards([files], PLAN, lambda: None)
    write_scan(files.prediction, disc((5, 20, 24)), oblique((5, 20, 24)))
    with pytest.raises(
        DataError, match=r"mask\.nii\.gz: shape \(5, 20, 24\) .* differs from \(4, 20, 24\) of its image"
    ):
        make_cards([files], PLAN, lambda: None)
    grid = read_scan(files.image).geometry
    write_scan(files.prediction, disc((4, 20, 24)), replace(grid, origin=(9.0, 9.0, 9.0), stored=None))
    with pytest.raises(DataError, match=r"mask\.nii\.gz: origin .* of its image"):
        make_cards([files], PLAN, lambda: None)


def test_worst_first_then_by_estimate_then_by_name(tmp_path: Path) -> None:
    def case(name: str, dice: float | None = None, estimate: float | None = None) -> CaseFiles:
        expected = Estimate(estimate, 0.0, 1.0) if estimate is not None else None
        quality = QualityRow(name, expected, False, "", Signals(None, None, None, None))
        scores = {"a": {"dice": dice}} if dice is not None else {}
        return CaseFiles(name, name, tmp_path, tmp_path, None, scores, quality)

    cases = [case("z"), case("y"), case("b", 0.9, 0.1), case("c", estimate=0.5), case("d", 0.3)]
    assert [c.name for c in sorted(cases, key=lambda c: c.standing)] == ["d", "c", "b", "y", "z"]


def test_a_card_of_a_coloured_picture_is_in_colour_and_counts_pixels(tmp_path: Path) -> None:
    colours, mask = noise((20, 24, 3)), np.zeros((20, 24), np.uint8)
    mask[4:12, 6:14] = 1
    files = CaseFiles(
        "case",
        "p",
        write(tmp_path / "image.png", png(colours, kind=2)),
        write(tmp_path / "mask.png", png(mask)),
        write(tmp_path / "reference.png", png(np.roll(mask, 2, axis=1))),
        {"a": {"dice": 0.75, "hd95_pixel": 2.0}},
        None,
    )
    plan = PLAN.model_copy(update={"pictures": Pictures(unit="pixel"), "class_names": ("background", "a")})
    (card,) = make_cards([files], plan, lambda: None)
    image = np.asarray(load(card.volumes["image"]).dataobj)
    assert image.dtype.names == ("R", "G", "B")
    assert set(image["R"].ravel().tolist()) <= set(colours[..., 0].ravel().tolist())
    assert not np.array_equal(image["R"], image["G"])
    assert (card.facts["holds"], card.facts["hd95"]) == ({"a": "64 pixels"}, {"a": "HD95 2.0 pixel"})
    assert card.where == "picture"


def test_a_card_of_a_picture_of_known_size_has_its_lengths_in_micrometres(tmp_path: Path) -> None:
    mask = np.zeros((20, 24), np.uint8)
    mask[4:12, 6:14] = 1
    size = {282: (20000, 1), 283: (20000, 1), 296: 3}
    image = write(tmp_path / "image.tif", tiff([noise((20, 24))], changes=size))
    files = CaseFiles("case", "p", image, write(tmp_path / "mask.png", png(mask)), None, {}, None)
    pictures = Pictures(unit="um", pixel_size_um="files")
    plan = PLAN.model_copy(update={"pictures": pictures, "class_names": ("background", "a")})
    (card,) = make_cards([files], plan, lambda: None)
    assert card.facts["holds"] == {"a": "16 µm²"}
    width, height = (float(side) for side in svg_of(card).get("viewBox", "").split()[2:])
    assert 6 < width < 12
    assert 6 < height < 12
