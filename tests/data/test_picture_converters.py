"""Converters of pictures, on files made here; COCO's segmentations against values by hand and its own encoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewscan.commands.check import check
from fewscan.commands.convert import convert
from fewscan.data.converters.coco import decode
from fewscan.data.index import read_dataset
from fewscan.errors import ConfigError, DataError
from fewscan.io.files import read_json
from fewscan.io.scans import read_mask
from support.pictures import noise, png, saved, write

SIZE = (12, 9)


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, content)


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """Two pictures with masks of nuclei that overlap, and one without."""
    root = tmp_path / "stage1_train"
    for number, case in enumerate(("aa", "bb", "cc")):
        put(root / case / "images" / f"{case}.png", png(noise((*SIZE, 4)) + number, kind=6))
        if case != "cc":
            put(root / case / "masks" / "1.png", png(box(0, 0, 4, 4)))
            put(root / case / "masks" / "2.png", png(box(2, 2, 6, 6)))
    put(root / "aa" / "masks" / "3.png", png(box(8, 0, 12, 9)))
    return root


def test_the_masks_of_kaggles_nuclei_become_label_images(kaggle: Path, tmp_path: Path) -> None:
    root = convert("dsb2018", kaggle, destination=tmp_path / "set")
    index = read_dataset(root)
    assert index.task == "instances"
    assert [(case.name, case.label is not None) for case in index.cases] == [("aa", True), ("bb", True), ("cc", False)]
    numbers = read_mask(root / "labelsTr/aa.png").array[0]
    assert (numbers[0, 0], numbers[3, 3], numbers[4, 4], numbers[8, 8], numbers[7, 7]) == (1, 1, 2, 3, 0)
    assert [int((numbers == n).sum()) for n in (1, 2, 3)] == [16, 12, 36]
    with Image.open(root / "labelsTr/aa.png") as image:
        assert image.mode == "I;16"
    assert (root / "imagesTr/aa_0000.png").read_bytes() == (kaggle / "aa/images/aa.png").read_bytes()
    assert not any(fault.fatal for fault in check(root))


def test_fields_of_view_and_the_split_come_along_with_label_images(tmp_path: Path) -> None:
    source = tmp_path / "DSB"
    for number, case in enumerate(("aa", "bb")):
        put(source / "images" / f"{case}.png", png(noise(SIZE) + number))
        put(source / "instances" / f"{case}.png", png((box(1, 1, 5, 5) > 0) * 300, bits=16))
    (source / "index.csv").write_text("case,field,split\naa,7,train\nbb,7,train\n")
    (source / "splits.json").write_text(json.dumps({"train": ["aa", "bb"], "val": []}))
    root = convert("dsb2018", source, destination=tmp_path / "set")
    assert {case.patient for case in read_dataset(root).cases} == {"field_7"}
    assert read_json(root / "splits.json")["train"] == ["aa", "bb"]
    assert read_mask(root / "labelsTr/aa.png").array.max() == 300
    (source / "index.csv").write_text("case,field\naa,7\nbb,\n")
    with pytest.raises(DataError, match=r"index\.csv: no field for bb"):
        convert("dsb2018", source, destination=tmp_path / "again")
    put(source / "instances" / "bb.png", png(np.zeros((4, 4))))
    with pytest.raises(DataError, match=r"bb\.png: is 4×4 pixels, its picture 12×9"):
        convert("dsb2018", source, destination=tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_white_in_masks_of_kvasir_is_polyp_also_where_they_are_jpegs(tmp_path: Path) -> None:
    source = tmp_path / "Kvasir-SEG"
    for case in ("aa", "bb"):
        put(source / "images" / f"{case}.jpg", saved(Image.fromarray(noise((64, 64, 3))), "JPEG"))
    white = np.zeros((64, 64), np.uint8)
    white[16:40, 8:48] = 255
    put(source / "masks" / "aa.jpg", saved(Image.fromarray(white), "JPEG"))
    put(source / "masks" / "bb.png", png(white))
    root = convert("kvasir", source, destination=tmp_path / "set")
    for case in ("aa", "bb"):
        assert np.array_equal(read_mask(root / "labelsTr" / f"{case}.png").array[0], white // 255)
    assert read_dataset(root).file_ending == ".jpg"
    for empty in (tmp_path, source / "masks"):
        with pytest.raises(DataError, match="Give the folder Kvasir-SEG, with images/ and masks/"):
            convert("kvasir", empty, destination=tmp_path / "again")


# cocoapi's own way back (rleToString of maskApi.c), number by number.
def packed(counts: list[int]) -> str:
    text = ""
    for at, count in enumerate(counts):
        value = count - counts[at - 2] if at > 2 else count
        more = True
        while more:
            letter = value & 0x1F
            value >>= 5
            more = value != (-1 if letter & 0x10 else 0)
            text += chr((letter | (0x20 if more else 0)) + 48)
    return text


def runs(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, by a slow loop."""
    counts, inside = [0], False
    for value in mask.T.ravel() > 0:
        if value != inside:
            counts.append(0)
            inside = not inside
        counts[-1] += 1
    return counts


def test_run_lengths_are_read_as_numbers_and_as_cocoapis_text() -> None:
    generator = np.random.default_rng(0)
    for mask in (
        box(0, 0, 3, 2),
        box(2, 3, 12, 9),
        generator.random(SIZE) > 0.5,
        np.repeat(generator.random((12, 1)) > 0.3, 9, 1),
    ):
        counts = runs(mask)
        for written in (counts, packed(counts)):
            found = decode(Path("a.json"), {"size": list(SIZE), "counts": written}, SIZE)
            assert np.array_equal(found, mask > 0)
    # By hand: columns of 4, the second and third pixel of the first one.
    assert np.argwhere(decode(Path("a.json"), {"size": [4, 2], "counts": "125"}, (4, 2))).tolist() == [[1, 0], [2, 0]]


@pytest.mark.parametrize(
    ("polygons", "pixels"),
    [
        ([[1, 1, 4, 1, 4, 3, 1, 3]], [(y, x) for y in (1, 2) for x in (1, 2, 3)]),
        # A triangle, no centre on its line.
        ([[0, 0.2, 0, 3.2, 3, 3.2]], [(1, 0), (2, 0), (2, 1)]),
        # Two parts, one of them partly beyond the picture.
        ([[0, 0, 2, 0, 2, 1, 0, 1], [8, 10, 20, 10, 20, 20, 8, 20]], [(0, 0), (0, 1), (10, 8), (11, 8)]),
    ],
)
def test_polygons_hold_the_pixels_whose_centres_they_hold(
    polygons: list[list[float]], pixels: list[tuple[int, int]]
) -> None:
    found = decode(Path("a.json"), polygons, SIZE)
    assert [tuple(place) for place in np.argwhere(found).tolist()] == pixels


def test_a_line_that_crosses_itself_leaves_its_middle_out() -> None:
    square_in_a_square = [0, 0, 5, 0, 5, 5, 0, 5, 0, 0, 2, 2, 2, 4, 4, 4, 4, 2, 2, 2]
    found = decode(Path("a.json"), [square_in_a_square], SIZE)
    assert (int(found.sum()), bool(found[3, 3]), bool(found[1, 1])) == (21, False, True)


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [3, 3], "counts": [9]},
        {"size": list(SIZE), "counts": [5, 5]},
        {"size": list(SIZE), "counts": [-1, 109]},
        {"size": list(SIZE), "counts": "é"},
        {"size": list(SIZE), "counts": "P" * 40},
        {"counts": [108]},
        [[1, 2, 3, 4]],
        [[1, 2, 3]],
        [[1, 2, "a", 4, 5, 6]],
        [[0, 0, 1, 1, float("nan"), 2]],
        "1 2 3",
    ],
)
def test_odd_segmentations_are_refused(segmentation: object) -> None:
    with pytest.raises(DataError, match=r"a\.json: a segmentation .* Export it again"):
        decode(Path("a.json"), segmentation, SIZE)


def coco(folder: Path, **changes: object) -> Path:
    """Three pictures: two objects, one within the other, and a crowd; one object; and nothing."""
    content = {
        "images": [{"id": n, "file_name": f"sub/{name}.jpg", "height": 12, "width": 9} for n, name in enumerate("abc")],
        "annotations": [
            {"image_id": 0, "category_id": 1, "segmentation": [[3, 3, 5, 3, 5, 5, 3, 5]]},
            {"image_id": 0, "category_id": 1, "segmentation": [[1, 1, 8, 1, 8, 8, 1, 8]]},
            {"image_id": 0, "iscrowd": 1, "segmentation": {"size": list(SIZE), "counts": runs(box(6, 0, 12, 9))}},
            {
                "image_id": 1,
                "category_id": 1,
                "segmentation": {"size": list(SIZE), "counts": packed(runs(box(2, 2, 4, 9)))},
            },
        ],
        "categories": [{"id": 1, "name": "cell"}],
    } | changes
    for number, name in enumerate("abc"):
        put(folder / "pictures" / "sub" / f"{name}.jpg", saved(Image.fromarray(noise((*SIZE, 3)) + number), "JPEG"))
    (folder / "all.json").write_text(json.dumps(content))
    return folder / "all.json"


def test_objects_of_coco_become_label_images(tmp_path: Path) -> None:
    source = coco(tmp_path)
    root = convert("coco", source, destination=tmp_path / "set", images=tmp_path / "pictures")
    index = read_dataset(root)
    assert (index.task, index.class_names) == ("instances", ("background", "cell"))
    assert [(case.name, case.label is not None) for case in index.cases] == [("a", True), ("b", True), ("c", False)]
    numbers = read_mask(root / "labelsTr/a.png").array[0]
    assert (numbers[3, 3], numbers[1, 1], numbers[7, 7], numbers[11, 0], numbers[0, 0]) == (1, 2, 2, 65535, 0)
    assert index.classes.ignored == 65535
    assert not any(fault.fatal for fault in check(root))
    with pytest.raises(ConfigError, match="the pictures of msd lie in its source"):
        convert("msd", source, destination=tmp_path / "again", images=tmp_path)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"images": []}, 'no "images"'),
        ({"annotations": None}, 'no "annotations"'),
        ({"images": [{"id": 0, "file_name": "../all.json"}]}, "names the picture '../all.json'"),
        ({"images": [{"id": 0, "file_name": "gone.jpg"}]}, "is not there, and all.json names it"),
        ({"images": [{"id": 0, "file_name": "sub/a.jpg", "height": 5, "width": 9}]}, "is 5×9 pixels, its picture 12×9"),
        ({"images": [{"id": 0}]}, "without a name"),
    ],
)
def test_odd_files_of_coco_are_refused(tmp_path: Path, changes: dict[str, object], problem: str) -> None:
    source = coco(tmp_path, **changes)
    with pytest.raises(DataError) as caught:
        convert("coco", source, destination=tmp_path / "set", images=tmp_path / "pictures")
    assert problem in str(caught.value)
    assert not (tmp_path / "set").exists()
