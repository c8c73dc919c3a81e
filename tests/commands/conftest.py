"""A small data set, and a run that was trained on it."""

from __future__ import annotations

from pathlib import Path

import pytest

import fewscan
from support.scans import TINY, make_held_out


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_held_out(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="session")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fewscan.train(dataset, tmp_path_factory.mktemp("runs") / "run", recipe="quick", settings=TINY).folder
