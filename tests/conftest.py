"""Shared by all tests: shapes in signatures are checked, and real data is found or the test skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from jaxtyping import config, install_import_hook

from support.shapes import check_shapes

# Where only shapes are checked, tests hand in stand-ins for stores, plans and pools.
install_import_hook(
    [
        "fewscan.augment",
        "fewscan.blocks",
        "fewscan.coarse_logits",
        "fewscan.losses",
        "fewscan.networks",
        "benchmarks.dense",
    ],
    "beartype.beartype",
)
install_import_hook(
    [
        *("fewscan.data", "fewscan.engine", "fewscan.evaluation", "fewscan.exporting", "fewscan.inference"),
        *("fewscan.reporting", "fewscan.tasks"),
    ],
    f"{check_shapes.__module__}.{check_shapes.__name__}",
)

DATA = Path(os.environ.get("FEWSCAN_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def real_data() -> Path:
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not there; set FEWSCAN_DATA to the folder with acdc/ and Dataset004_Hippocampus/")
    return DATA


@pytest.fixture(scope="session", autouse=True)
def one_thread_per_worker() -> None:
    """Two workers with two threads each would fight for two cores."""
    torch.set_num_threads(1)


@pytest.fixture
def no_shape_hook() -> Iterator[None]:
    """What a user meets who has not installed the hook: the library's own checks."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
