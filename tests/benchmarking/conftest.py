"""A data set to make benchmarks of."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewscan.io.files import write_json
from support.scans import make_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = make_dataset(tmp_path / "set", labelled=5, unlabelled=1)
    names = [f"case_{i:02d}" for i in range(5)]
    write_json(root / "splits.json", {"train": names[:3], "val": names[3:4], "test": names[4:]})
    return root
