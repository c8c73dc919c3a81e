"""Two ranks against one process with the same batch."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fewscan.devices import choose_own_device
from fewscan.distributed import collectives as ranks
from fewscan.engine.batches import Batches
from fewscan.engine.loop import check_batches
from fewscan.errors import ConfigError
from fewscan.methods.base import TrainingSettings
from support.steps import build as build_small
from support.two_ranks import CASES, SpiedStore, build, run_case, run_clean, run_norm

TESTS = Path(__file__).parents[1]
# The code beside these tests, wherever fewscan is installed from.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (TESTS, TESTS.parent / "src")))}
SCRIPT = TESTS / "support" / "two_ranks.py"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two ranks has come to."""
    folder = tmp_path_factory.mktemp("two")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(SCRIPT),
        str(folder),
    ]
    done = subprocess.run(command, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def one() -> Callable[[str], dict[str, Any]]:
    """What one process comes to, by case; made once."""
    found = {}

    def of(name: str) -> dict[str, Any]:
        if name not in found:
            found[name] = run_case(name)
        return found[name]

    return of


def check_close(found: dict[str, Tensor], wanted: dict[str, Tensor], what: str) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        said = partial("{}, {}: {}".format, what, name)
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-11, msg=said)


@pytest.mark.parametrize("name", CASES)
def test_terms_and_gradients_are_those_of_one_process(
    two: list[dict[str, Any]], one: Callable[[str], dict[str, Any]], name: str
) -> None:
    for rank in two:
        for what in ("terms", "gradients"):
            check_close(rank[name][what], one(name)[what], what)
    assert all(float(term) > 1e-5 for term in one(name)["terms"].values())
    assert max(float(gradient.abs().max()) for gradient in one(name)["gradients"].values()) > 1e-3


@pytest.mark.parametrize("name", CASES)
def test_statistics_banks_queues_and_means_are_those_of_one_process(
    two: list[dict[str, Any]], one: Callable[[str], dict[str, Any]], name: str
) -> None:
    for rank in two:
        check_close(rank[name]["first"], one(name)["first"], "buffers after a step")
        check_close(rank[name]["last"], one(name)["last"], "state after some updates")


@pytest.mark.parametrize("name", [*CASES, "fit action", "fit action_pp"])
def test_ranks_stay_equal_to_the_last_bit(two: list[dict[str, Any]], name: str) -> None:
    first, second = (rank[name]["state" if name.startswith("fit") else "last"] for rank in two)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", ["fit action", "fit action_pp"])
def test_ranks_share_batches_without_overlap_and_log_the_same(two: list[dict[str, Any]], name: str) -> None:
    whole = SpiedStore()
    batches = Batches(whole, seed=0)
    for stage in build(name.removeprefix("fit ")).stages():
        for _ in range(stage.updates):
            batches.draw(stage)
    first, second = (rank[name]["asked"] for rank in two)
    assert [mine + others for mine, others in zip(first, second, strict=True)] == whole.asked
    assert [len(mine) for mine in first] == [len(others) for others in second]
    assert two[0][name]["losses"] == two[1][name]["losses"]


@pytest.mark.parametrize("at", [2, 8])
def test_a_signal_to_one_rank_stops_both_and_they_go_on_exactly(two: list[dict[str, Any]], at: int) -> None:
    for rank in two:
        broken, whole = rank[f"broken {at}"], rank["fit action"]
        assert f"Stopped by SIGTERM after update {at} of 9." in broken["said"]
        assert broken["ranks"] == 2
        assert broken["losses"] == whole["losses"]
        assert all(torch.equal(broken["state"][key], value) for key, value in whole["state"].items())


def test_what_a_phase_adds_is_one_on_both_ranks_and_goes_on_exactly(two: list[dict[str, Any]]) -> None:
    first, second = (rank["phases"] for rank in two)
    assert {"sites.here.weight", "sites.there.weight"} < first["state"].keys()
    for other in (second, *(rank["broken phases"] for rank in two)):
        assert other["losses"] == first["losses"]
        assert other["state"].keys() == first["state"].keys()
        assert all(torch.equal(other["state"][key], value) for key, value in first["state"].items())


def test_in_a_limited_time_the_first_rank_chooses_the_length_for_both(two: list[dict[str, Any]]) -> None:
    first, second = (rank["limited"] for rank in two)
    assert first["course"] == second["course"]
    assert first["course"]["choices"] == [[0, 6], [1, 8], [2, 7]]
    assert len(first["rates"]) == 7
    assert first["rates"] == second["rates"]
    assert all(torch.equal(second["state"][key], value) for key, value in first["state"].items())


@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.03)])
def test_batch_normalisation_is_that_of_the_whole_batch(
    two: list[dict[str, Any]], precision: torch.dtype, tolerance: float
) -> None:
    wanted = run_norm(precision)
    parts = [rank[f"norm {precision}"] for rank in two]
    for name, value in wanted.items():
        shared = name in ("y", "x", "eval")
        found = torch.cat([part[name] for part in parts]) if shared else parts[0][name]
        torch.testing.assert_close(found, value, rtol=tolerance, atol=tolerance)
        assert shared or torch.equal(parts[0][name], parts[1][name])


def test_one_rank_alone_has_the_clean_statistics_of_one_process(two: list[dict[str, Any]]) -> None:
    check_close(two[0]["clean"]["clean"], run_clean()["clean"], "clean statistics")
    for rank in two:
        check_close(rank["clean"]["after"], run_clean()["after"], "buffers afterwards")


def test_what_is_drawn_differs_and_what_is_told_does_not(two: list[dict[str, Any]]) -> None:
    assert not torch.equal(two[0]["draws"], two[1]["draws"])
    assert [rank["text"] for rank in two] == ["ψ", "ψ"]
    assert [rank["largest"] for rank in two] == [(1, 0), (1, 0)]


def test_on_one_process_nothing_is_touched() -> None:
    tensor = torch.ones(2)
    assert ranks.sum_over_ranks(tensor)[0] is tensor
    assert ranks.gather_over_ranks(tensor) is tensor
    assert ranks.largest_over_ranks(3, 4) == (3, 4)
    assert ranks.text_from_first("text") == "text"
    assert ranks.own_share(numbers := np.arange(3)).tolist() == numbers.tolist()
    assert (ranks.own_number(7), ranks.count(), ranks.rank()) == (7, 1, 0)


@pytest.mark.parametrize(
    ("method", "settings", "change", "message"),
    [
        (
            "action",
            {"pretraining": {}},
            {"labelled": 4, "unlabelled": 5},
            r"training\.unlabelled: 2 processes cannot share 5 .* 6 or 4",
        ),
        (
            "action_pp",
            {"pretraining": {"local": {"updates": 3, "labelled": 3, "unlabelled": 4}}},
            {"labelled": 4, "unlabelled": 4},
            r"methods\.action_pp\.pretraining\.local\.labelled: 2 processes cannot share 3 .* 4 or 2",
        ),
        (
            "bcp",
            {},
            {"labelled": 3, "unlabelled": 4},
            r"training\.labelled: 2 processes cannot share 3 .* 4 or 2",
        ),
        ("ict", {}, {"labelled": 4, "unlabelled": 2}, r"training\.unlabelled: 2 is too few.* Set it to 4"),
        ("supervised", {}, {"labelled": 1, "unlabelled": 4}, r"training\.labelled: 1 is too few.* Set it to 2 or more"),
    ],
)
def test_batches_that_ranks_cannot_share_are_refused(
    method: str, settings: dict[str, Any], change: dict[str, int], message: str
) -> None:
    built = build_small(method, training=TrainingSettings(updates=6, **change), **settings)
    with pytest.raises(ConfigError, match=message):
        check_batches(built, method, processes=2)


def test_every_rank_takes_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_own_device("cpu", 1) == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"--device cuda:0: each of several processes takes a device of its own"):
        choose_own_device("cuda:0", 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"--device auto: 2 GPUs here, and each process takes one"):
        choose_own_device("auto", 2)
