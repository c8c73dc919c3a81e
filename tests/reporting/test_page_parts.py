"""The parts of the report page: volumes, outlines, charts, and what is read and said of a run."""

import base64
import gzip
import hashlib
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from importlib import resources

import nibabel
import numpy as np
import pytest
from matplotlib.image import imread

from fewscan.classes import IGNORED, Classes, parse_classes
from fewscan.errors import DataError
from fewscan.evaluation.calibration import Estimate, Signals
from fewscan.evaluation.quality_table import QualityRow
from fewscan.io.files import write_json
from fewscan.io.scans import read_scan, write_scan
from fewscan.reporting.lines import Line
from fewscan.reporting.page.cases import CaseFiles, disagreement, make_cards, telling_slice
from fewscan.reporting.page.charts import heat, tint
from fewscan.reporting.page.pixels import choose_crop, nifti_base64, outline, png_uri, square
from fewscan.reporting.page.sources import read_run
from fewscan.reporting.page.svg import Axis, heat_map, line_chart, scatter, strips
from fewscan.reporting.page.verdict import patient_means
from fewscan.run_folder import RunFolder
from support.scans import disc, oblique

NAMES = ("background", "a", "b")


def decoded(uri):
    return imread(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def load(base64_text):
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(base64_text)))


def test_a_cut_and_coarser_volume_lies_where_it_lay():
    where = oblique((9, 40, 36))
    shown = np.zeros(where.shape, bool)
    shown[4, 20:24, 10:20] = True
    crop = choose_crop(shown, where.spacing_mm, 1200)
    assert np.prod(crop.shape) <= 1200
    assert np.prod(choose_crop(shown, where.spacing_mm, 10**9).shape) > 1200
    volume = np.random.default_rng(0).integers(0, 255, where.shape, dtype=np.uint8)
    image = load(nifti_base64(volume[crop.slices], where, crop))
    assert image.get_data_dtype() == np.uint8
    for index in ((0, 0, 0), tuple(side - 1 for side in image.shape)):
        voxel = [a + b * c for a, b, c in zip(crop.start[::-1], index, crop.step[::-1], strict=True)]
        assert np.allclose(image.affine @ (*index, 1), where.affine_ras @ (*voxel, 1), atol=1e-3)
        assert image.dataobj[index] == volume[tuple(voxel[::-1])]


def test_a_window_holds_what_is_shown_with_a_margin():
    shown = np.zeros((50, 60), bool)
    shown[20:30, 0:20] = True
    crop = choose_crop(shown, (1, 1), 10**6)
    assert crop.start == (15, 0)
    assert crop.stop == (35, 30)
    assert choose_crop(np.zeros((5, 6), bool), (1, 1), 100).shape == (5, 6)
    wide = square(crop, shown.shape, (1, 1))
    assert wide.shape == (30, 30)
    assert wide.start[0] == 10
    flat = square(choose_crop(shown, (1, 4), 10**6), shown.shape, (1, 4))
    assert flat.shape == (50, 30)


def test_pictures_come_back_as_they_were():
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    assert np.array_equal(np.rint(255 * decoded(png_uri(grey))), grey)
    colour = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(np.rint(255 * decoded(png_uri(colour))), colour)


def test_an_outline_goes_around_also_at_the_border():
    mask = np.zeros((6, 6), bool)
    assert outline(mask) == ""
    mask[:2, :3] = True
    path = outline(mask)
    points = np.array([[float(v) for v in pair.split()] for pair in path[1:-1].split("L")])
    assert points.min() == 0
    assert points.max(axis=0).tolist() == [3, 2]
    assert outline(mask | np.eye(6, dtype=bool)[::-1]).count("M") >= 2


def test_where_masks_disagree():
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


def case_files(tmp_path, shape=(4, 20, 24), label=1):
    where = oblique(shape)
    write_scan(tmp_path / "image.nii.gz", disc(shape).astype(np.float32), where)
    write_scan(tmp_path / "mask.nii.gz", disc(shape, 4, label), where)
    write_scan(tmp_path / "reference.nii.gz", disc(shape, 6), where)
    paths = (tmp_path / f"{name}.nii.gz" for name in ("image", "mask", "reference"))
    return CaseFiles("<case>", "p", *paths, {"a": {"dice": 0.5, "hd95_mm": None}}, None)


def test_a_card_shows_the_case(tmp_path):
    (card,) = make_cards([case_files(tmp_path)], Classes.consecutive(NAMES), 0, lambda: None)
    assert list(card.volumes) == ["image", "prediction", "reference", "disagreement"]
    masks = {name: np.asarray(load(text).dataobj) for name, text in card.volumes.items()}
    assert np.array_equal(masks["disagreement"], disagreement(masks["prediction"], masks["reference"]))
    svg = ET.fromstring(str(card.thumbnail).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"'))
    kinds = [path.get("class") for path in svg.iter("{http://www.w3.org/2000/svg}path")]
    assert kinds == ["prediction c1", "reference c1"]
    assert "&lt;case&gt;" in card.thumbnail
    counted = disc((4, 20, 24), 4).sum() * np.prod(oblique().spacing_mm) / 1000
    assert card.millilitres == {"a": pytest.approx(counted), "b": 0.0}
    assert card.facts["dice"] == {"": 0.5, "a": 0.5}
    # The place to look at first lies in the scan.
    voxel = np.linalg.inv(oblique((4, 20, 24)).affine_ras) @ (*card.facts["focus"], 1)
    assert voxel[2] == pytest.approx(card.slice_number, abs=0.01)


def test_a_card_of_regions_has_their_volumes_and_shows_nothing_of_what_is_ignored(tmp_path):
    files = case_files(tmp_path)
    classes = parse_classes({"background": 0, "both": [1, 5], "five": 5, "ignore": 9})
    mask = disc((4, 20, 24), 4)
    mask[:2] *= 5
    write_scan(files.prediction, mask, oblique((4, 20, 24)))
    write_scan(files.reference, np.full((4, 20, 24), 9, np.uint8), oblique((4, 20, 24)))
    (card,) = make_cards([files], classes, 0, lambda: None)
    assert card.millilitres["both"] == pytest.approx(2 * card.millilitres["five"])
    reference, wrong = (volume_of(card, name) for name in ("reference", "disagreement"))
    assert not reference.any()
    assert not wrong.any()


def volume_of(card, name):
    content = gzip.decompress(base64.b64decode(card.volumes[name]))
    return np.asarray(nibabel.Nifti1Image.from_bytes(content).dataobj)


def test_masks_that_do_not_fit_are_refused(tmp_path):
    files = case_files(tmp_path, label=3)
    with pytest.raises(DataError, match=r"mask\.nii\.gz: label values \[3\] are no classes \(0 to 2\)"):
        make_cards([files], Classes.consecutive(NAMES), 0, lambda: None)
    write_scan(files.prediction, disc((5, 20, 24)), oblique((5, 20, 24)))
    with pytest.raises(
        DataError, match=r"mask\.nii\.gz: shape \(5, 20, 24\) .* differs from \(4, 20, 24\) of its image"
    ):
        make_cards([files], Classes.consecutive(NAMES), 0, lambda: None)
    grid = read_scan(files.image).geometry
    write_scan(files.prediction, disc((4, 20, 24)), replace(grid, origin=(9.0, 9.0, 9.0), stored=None))
    with pytest.raises(DataError, match=r"mask\.nii\.gz: origin .* of its image"):
        make_cards([files], Classes.consecutive(NAMES), 0, lambda: None)


def test_worst_first_then_by_estimate_then_by_name(tmp_path):
    def case(name, dice=None, estimate=None):
        expected = Estimate(estimate, 0.0, 1.0) if estimate is not None else None
        quality = QualityRow(name, expected, False, "", Signals(None, None, None, None))
        scores = {"a": {"dice": dice}} if dice is not None else {}
        return CaseFiles(name, name, tmp_path, tmp_path, None, scores, quality)

    cases = [case("z"), case("y"), case("b", 0.9, 0.1), case("c", estimate=0.5), case("d", 0.3)]
    assert [c.name for c in sorted(cases, key=lambda c: c.standing)] == ["d", "c", "b", "y", "z"]


def parsed(chart):
    return ET.fromstring(str(chart))


def test_charts_are_xml_and_escape_names():
    line = Line("<em>&", [0, 10, 20], [0.0, 0.5, 20.0], colour=9, dashed=True)
    other = Line("other", [0, 20], [1.0, 2.0], dots=True)
    charts = [
        line_chart([line, other], "what", "updates", log=True, marks=[10], wide=True),
        line_chart([line], "what", "updates", y_range=(0, 1)),
        scatter([(0.1, 0.2, 1, "<s>")], "y", "x", diagonal=True, names=[("<u>", 1)]),
        scatter([(1, 2, 1, "p"), (3, 5, 2, "q")], "y", "x", crosses=[(2, 2, 1, "mean")]),
        strips([("<a>", 1, [0.2, 0.9, 1.0]), ("b", 2, [])], "Dice", "x"),
        heat_map(NAMES, [[1, -0.5, None]] * 3, "cosines"),
    ]
    for chart in charts:
        assert parsed(chart).find("svg").get("role") == "img"
        assert not {"em", "s", "u", "a"} & {element.tag for element in parsed(chart).iter()}


def test_charts_of_nothing_say_so():
    assert "Nothing to draw: losses" in line_chart([Line("a", [1], [0.0])], "losses", "x", log=True)
    assert "Nothing to draw" in scatter([], "y", "x")


def test_axes_and_their_ticks():
    axis = Axis(0, 100, 10, 110)
    assert [axis(v) for v in (0, 50, 100)] == [10, 60, 110]
    assert axis.ticks() == [0, 20, 40, 60, 80, 100]
    log = Axis(0.01, 100, 0, 4, log=True)
    assert [log(v) for v in (0.01, 1, 100)] == pytest.approx([0, 2, 4])
    assert log.ticks() == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert Axis(0.1, 1.2, 0, 1, log=True).ticks() == pytest.approx([0.1, 0.2, 0.5, 1])


def test_pseudo_labels_are_tinted_and_doubt_is_bright():
    image, labels = np.full((2, 2), 100, np.uint8), np.array([[0, 1], [2, 0]], np.uint8)
    picture = tint(image, labels)
    assert (picture[0, 0] == 100).all()
    assert picture[0, 1, 0] > picture[0, 1, 2]
    brightness = heat(np.array([[255, 190, 127, 40]], np.uint8)).sum(axis=2)[0]
    assert list(brightness) == sorted(brightness)
    assert brightness[2] == brightness[3]


def test_cases_of_a_patient_count_once():
    values = {"p1_a": 0.2, "p1_b": 0.4, "p2_a": 0.9, "x": 0.5}
    found = patient_means(values, {"p1_a": "p1", "p1_b": "p1", "p2_a": "p2"})
    assert found == pytest.approx([0.3, 0.9, 0.5])


def test_the_viewer_is_the_one_that_was_fetched():
    vendor = resources.files("fewscan.reporting.page") / "vendor"
    code = (vendor / "niivue.umd.js").read_bytes()
    assert hashlib.sha256(code).hexdigest() == (vendor / "niivue.umd.js.sha256").read_text().split()[0]
    # It stands in a script element, which these would end.
    assert not re.search(rb"</script|<!--", code, re.IGNORECASE)
    assert "BSD 2-Clause" in (vendor / "niivue.LICENSE").read_text()


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no config\.yaml"):
        read_run(RunFolder(tmp_path))
    (tmp_path / "config.yaml").write_text("[1")
    with pytest.raises(DataError, match=r"config\.yaml: cannot be read"):
        read_run(RunFolder(tmp_path))
    (tmp_path / "config.yaml").write_text("a: 1")
    with pytest.raises(DataError, match=r"config\.yaml: not the settings of a run"):
        read_run(RunFolder(tmp_path))
    (tmp_path / "config.yaml").write_text("method: action")
    write_json(tmp_path / "plan.json", {})
    with pytest.raises(DataError, match=r"plan\.json: not what fewscan writes there"):
        read_run(RunFolder(tmp_path))
