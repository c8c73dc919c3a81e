"""How many inputs each fuzz test makes up: few by default, FEWSCAN_FUZZ of them with `make fuzz`."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("FEWSCAN_FUZZ", "60"))
settings.register_profile(
    "fuzz",
    max_examples=EXAMPLES,
    deadline=None,
    # Without a number of examples the same ones every time: a test that fails must fail again.
    derandomize="FEWSCAN_FUZZ" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True, scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all inputs: making a new one takes longer than reading what lies in it."""
    return tmp_path_factory.mktemp("fuzz")
