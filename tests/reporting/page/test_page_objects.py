"""What a page knows of the objects of a picture."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path

import numpy as np

from fewscan.io.tables import write_table
from fewscan.reporting.page.objects import picture_objects, read_object_scores


def test_sizes_are_of_the_whole_picture_and_numbers_of_what_is_kept() -> None:
    numbers = np.zeros((6, 8), np.uint16)
    numbers[0:2, 0:3] = 300
    numbers[4:6, 2:8] = 7
    found = picture_objects(numbers, {7: 0.9}, (slice(1, 6), slice(0, 8, 2)))
    assert found.areas == {7: 12, 300: 6}
    assert found.shape == (5, 4)
    unpacked = np.frombuffer(gzip.decompress(base64.b64decode(found.numbers)), "<u2").reshape(found.shape)
    assert np.array_equal(unpacked, numbers[1:6, ::2])
    assert found.facts == {
        "height": 5, "width": 4, "numbers": [7, 300], "areas": [12, 6], "scores": [0.9, None],
    }  # fmt: skip


def test_a_picture_without_objects_has_none() -> None:
    found = picture_objects(np.zeros((3, 4), np.uint8), {}, (slice(0, 3), slice(0, 4)))
    assert found.facts["numbers"] == []


def test_scores_are_read_by_picture_where_there_are_any(tmp_path: Path) -> None:
    assert read_object_scores(tmp_path / "objects.csv") == {}
    rows = [("a", 1, 20, 0.75), ("a", 2, 30, ""), ("b", 1, 10, 1.0)]
    write_table(tmp_path / "objects.csv", ("picture", "object", "area_px", "score"), rows)
    assert read_object_scores(tmp_path / "objects.csv") == {"a": {1: 0.75}, "b": {1: 1.0}}
