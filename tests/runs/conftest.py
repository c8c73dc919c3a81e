"""A run with enough validation cases to estimate from."""

from __future__ import annotations

from pathlib import Path

import pytest

import fewscan
from fewscan.io.files import write_json
from support.scans import TINY, make_dataset
from support.terminals import Notes

# Until the network sees the discs: nothing can be compared in empty masks.
SETTINGS = (*TINY, "training.updates=66")
HELD_OUT = [f"case_{i:02d}" for i in range(3, 13)]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_dataset(tmp_path_factory.mktemp("data") / "set", labelled=13, unlabelled=2)
    write_json(root / "splits.json", {"train": [f"case_{i:02d}" for i in range(3)], "val": HELD_OUT})
    return root


@pytest.fixture(scope="session")
def heard() -> Notes:
    return Notes()


@pytest.fixture(scope="session")
def run(dataset: Path, heard: Notes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    return fewscan.train(dataset, folder, labelled=1, recipe="quick", settings=SETTINGS, reporter=heard).folder
