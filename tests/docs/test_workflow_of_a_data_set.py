"""The workflow for repositories of data sets: its steps run as they stand there, and fail where they are meant to."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.scans import make_held_out

FILE = Path(__file__).parents[2] / "deploy" / "data-set.github.yaml"
# What the runner installs is installed here.
INSTALL = "Install fewscan"
CHECK, TRAIN, SCORE = "Check every scan and label", "Train for a short while", "Score it on the held-out patients"


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(FILE.read_text("utf-8"))
    return found


def steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    (job,) = workflow["jobs"].values()
    found: list[dict[str, Any]] = job["steps"]
    return found


def run(workflow: dict[Any, Any], name: str, folder: Path, environment: dict[str, str], **other: str) -> int:
    """The exit code of a step, run as GitHub's runners do."""
    (script,) = (step["run"] for step in steps(workflow) if step.get("name") == name)
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    settings = {**environment, **workflow["env"], **other}
    return subprocess.run(command, cwd=folder, env=settings, check=False, capture_output=True).returncode


def test_it_is_a_workflow(workflow: dict[Any, Any]) -> None:
    # YAML 1.1 takes the key `on` for true.
    assert set(workflow) == {"name", True, "env", "jobs"}
    assert set(workflow[True]) == {"push", "pull_request"}
    assert all(isinstance(value, str) for value in workflow["env"].values())
    assert all(("uses" in step) != ("run" in step) for step in steps(workflow))
    assert [step["name"] for step in steps(workflow) if "run" in step] == [INSTALL, CHECK, TRAIN, SCORE]


def test_its_steps_run_on_a_data_set_and_keep_the_page(
    workflow: dict[Any, Any], tmp_path: Path, environment: dict[str, str]
) -> None:
    make_held_out(tmp_path / workflow["env"]["DATASET"])
    assert run(workflow, CHECK, tmp_path, environment) == 0
    assert run(workflow, TRAIN, tmp_path, environment, UPDATES="3") == 0
    assert run(workflow, SCORE, tmp_path, environment, LEAST_DICE="0") == 0
    assert run(workflow, SCORE, tmp_path, environment, LEAST_DICE="1.01") == 1
    (kept,) = (step for step in steps(workflow) if "upload-artifact" in step.get("uses", ""))
    assert all((tmp_path / path).is_file() for path in kept["with"]["path"].split())


def test_it_fails_where_a_scan_is_damaged(
    workflow: dict[Any, Any], tmp_path: Path, environment: dict[str, str]
) -> None:
    root = make_held_out(tmp_path / workflow["env"]["DATASET"])
    (root / "labelsTr/case_01.nii.gz").write_bytes(b"cut short")
    assert run(workflow, CHECK, tmp_path, environment) == 1
