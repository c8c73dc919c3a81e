"""A run's folder as the page reads it; damaged files are refused by name."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from fewscan.errors import DataError
from fewscan.io.files import write_json
from fewscan.reporting.page.sources import Embedding, ScoresRead, _read_as, _read_moment, read_run
from fewscan.run_folder import RunFolder


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
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


EMBEDDING = {
    "space": "pixels",
    "class_names": ["background", "a"],
    "classes": [0, 1, 1],
    "points": [[0.0, 1.0], [1.0, 1.0], [0.5, 0.5]],
    "prototypes": [[0.0, 0.0], None],
    "explained": [0.5, 0.2],
    "relation": [[1.0, None], [None, None]],
}


def test_an_embedding_whose_lists_fit_is_read(tmp_path: Path) -> None:
    (tmp_path / "embedding.json").write_text(json.dumps(EMBEDDING))
    assert _read_as(Embedding, tmp_path / "embedding.json").classes == (0, 1, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": [0, 1, 10**9]},
        {"classes": [0, -1, 1]},
        {"classes": [0, 1]},
        {"prototypes": [[0.0, 0.0]]},
        {"relation": [[1.0, None], [None]]},
        {"points": "far"},
    ],
)
def test_an_embedding_whose_lists_do_not_fit_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "embedding.json").write_text(json.dumps(copy.deepcopy(EMBEDDING) | change))
    with pytest.raises(DataError, match=r"embedding\.json: not what fewscan writes there\. Restore it"):
        _read_as(Embedding, tmp_path / "embedding.json")


@pytest.mark.parametrize("content", [[], {"cases": {"a": 3}}, {"mean": {"dice": "x"}, "classes": {}, "cases": {}}])
def test_a_summary_of_another_form_is_refused(tmp_path: Path, content: object) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"summary\.json: not what fewscan writes there"):
        _read_as(ScoresRead, tmp_path / "summary.json")


@pytest.mark.parametrize("content", [b"PK\x03\x04bad", b"", b"\x93NUMPY", b"text"])
def test_a_picture_of_training_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "1.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"1\.npz: not a picture of training"):
        _read_moment(tmp_path / "1.npz")
