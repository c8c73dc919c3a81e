from pathlib import Path

import numpy as np
import pytest

from fewscan.classes import IGNORED, Classes, Region, parse_classes
from fewscan.errors import DataError


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"background": 0, "liver": 1, "tumour": 2}, ("background", "liver", "tumour")),
        ({"tumour": 2, "background": 0, "liver": 1}, ("background", "liver", "tumour")),
        ({"background": "0", "liver": "1"}, ("background", "liver")),
        ({"background": [0], "liver": [1]}, ("background", "liver")),
        ({"0": "background", "1": "liver", "2": "tumour"}, ("background", "liver", "tumour")),
        ({"1": "liver", "2": "tumour"}, ("background", "liver", "tumour")),
        ({"liver": 1}, ("background", "liver")),
        ({"0": 0, "1": 1}, ("0", "1")),
        ({"air": 0, "2": 1, "1": 2}, ("air", "2", "1")),
    ],
)
def test_every_spelling_of_consecutive_classes_is_read(
    labels: dict[str, int | str | list[int]], names: tuple[str, ...]
) -> None:
    assert parse_classes(labels) == Classes.consecutive(names)


@pytest.mark.parametrize("turned", [False, True])
def test_more_than_ten_classes_keep_the_order_of_their_numbers(turned: bool) -> None:
    pairs = {f"organ {i}": i for i in range(40)}
    labels = {str(i): name for name, i in pairs.items()} if turned else pairs
    assert parse_classes(labels).names == tuple(pairs)


def test_numbers_with_gaps_are_consecutive_inside_and_come_back() -> None:
    classes = parse_classes({"0": "background", "500": "right", "7": "left"})
    assert classes.names == ("background", "left", "right")
    mask = np.array([[0, 7], [500, 7]])
    inside = classes.to_inside(mask, "a.nii")
    assert inside.dtype == np.uint8
    assert inside.tolist() == [[0, 1], [2, 1]]
    assert classes.from_inside(inside).dtype == np.uint16
    assert np.array_equal(classes.from_inside(inside), mask)
    assert [part.numbers for part in classes.scored] == [(7,), (500,)]


def test_ignore_is_no_class() -> None:
    classes = parse_classes({"background": 0, "organ": 1, "ignore": 2})
    assert (classes.names, classes.ignored) == (("background", "organ"), 2)
    assert classes.to_inside(np.array([0, 1, 2]), "a.nii").tolist() == [0, 1, IGNORED]
    assert classes.unknown(np.array([0, 1, 2, 5, -1])) == [-1, 5]
    assert parse_classes({"0": "background", "1": "organ", "9": "Ignore"}).ignored == 9


def test_regions_are_trained_by_their_parts() -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    classes = parse_classes(labels)
    assert classes.names == ("background", "label 1", "label 2", "enhancing")
    assert classes.numbers == (0, 1, 2, 3)
    assert classes.ignored == 4
    assert classes.scored == (Region("whole", (1, 2, 3)), Region("core", (2, 3)), Region("enhancing", (3,)))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (None, 'no "labels"'),
        ({}, 'no "labels"'),
        (["liver"], 'no "labels"'),
        ({"background": 0}, "no class but the background"),
        ({"background": 0, "ignore": 1}, "no class but the background"),
        ({"background": 0, "liver": 1.5}, '1.5 for "liver", which is not a whole number'),
        ({"background": 0, "liver": 1.0}, '1.0 for "liver", which is not a whole number'),
        ({"background": 0, "liver": True}, 'True for "liver", which is not a whole number'),
        ({"background": 0, "liver": "one"}, "'one' for \"liver\", which is not a whole number"),
        ({"background": 0, "liver": "9" * 9000}, "which is not a whole number"),
        ({"background": 0, "liver": -1}, "Use numbers from 0 to 65535"),
        ({"background": 0, "liver": 70000}, "Use numbers from 0 to 65535"),
        ({"background": 0, "liver": 1, "spleen": 1}, '1 for "liver" and for "spleen"'),
        ({"background": 0, "air": 0, "spleen": 1}, "several names for 0: background, air"),
        ({"0": "background", "1": "lesion", "2": "lesion"}, 'the name "lesion" more than once'),
        ({"background": 1}, 'the name "background" for two classes'),
        ({"background": 0, "": 1}, "a class without a name"),
        ({"background": 0, "liver": 1, "ignore": 1}, '1 for "liver" and for "ignore"'),
        ({"background": 0, "liver": 1, "ignore": [2, 3]}, "one number above 0 that no class has"),
        ({"background": 0, "liver": 1, "ignore": 0}, "one number above 0 that no class has"),
        ({"background": 0, "all": [0, 1], "liver": 1}, "0 is the background, take it out"),
        ({"background": 0, "all": [1, 1]}, "A region is a list of different numbers"),
        ({"background": 0, "all": []}, "A region is a list of different numbers"),
        ({"background": 0, "all": [1, 2], "every": [2, 1]}, '\\[1, 2\\] for "all" and for "every"'),
        ({"background": 0} | {f"s{i}": i for i in range(1, 300)}, "has 300 classes, more than 255"),
        ({str(i): f"s{i}" for i in range(256)}, "has 256 classes, more than 255"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_words(labels: object, words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        parse_classes(labels)
    assert str(error.value).startswith("dataset.json: ")


@pytest.mark.parametrize("value", [-1, 3, 70_000])
def test_a_number_that_is_no_class_is_refused(value: int) -> None:
    with pytest.raises(DataError, match=rf"a\.nii: label values \[{value}\] are no classes \(0 to 1\)"):
        Classes.consecutive(("background", "organ")).to_inside(np.array([0, 1, value]), "a.nii")


def test_numbers_are_described() -> None:
    assert Classes.consecutive(("background", "a", "b")).describe() == "0 to 2"
    assert parse_classes({"a": 1, "b": 5, "ignore": 9}).describe() == "0, 1, 5, 9"
    assert parse_classes({f"a{i}": 2 * i for i in range(1, 30)}).describe().endswith("18, ... 58")


def test_what_is_wrong_is_told_of_the_file_that_was_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf'^{tmp_path}/dataset\.json: no "labels"'):
        parse_classes(None, tmp_path / "dataset.json")
