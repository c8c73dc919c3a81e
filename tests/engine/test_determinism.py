"""deterministic=true: the same bytes twice, and nothing of it is left behind."""

import os
from typing import Any

import pytest
import torch
from torch import Tensor

from fewscan.engine.determinism import determinism
from fewscan.errors import FewscanError
from support.steps import TRAINED, build
from support.trainings import config_of, told
from support.trainings import train as train_small

CPU = torch.device("cpu")
# An instance in the place of a module: types know nothing of its attributes.
MEMORY: Any = torch.utils.deterministic


def train(name: str, wanted: bool = True) -> dict[str, Tensor]:
    with torch.random.fork_rng(), determinism(wanted, CPU):
        method = build(name)
        torch.manual_seed(0)
        train_small(method, config_of(every=2), told())
    return method.state_dict()


@pytest.mark.parametrize("name", TRAINED)
def test_every_method_comes_to_the_same_weights_twice(name: str) -> None:
    first, second = train(name), train(name)
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def facts() -> tuple[object, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        MEMORY.fill_uninitialized_memory,
        torch.backends.cudnn.benchmark,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@pytest.mark.parametrize("workspace", [None, ":16:8"])
@pytest.mark.parametrize("benchmark", [False, True])
def test_it_is_on_while_training_and_all_is_as_before_afterwards(
    monkeypatch: pytest.MonkeyPatch, workspace: str | None, benchmark: bool
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", benchmark)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if workspace is not None:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", workspace)
    before = facts()
    with determinism(True, torch.device("cuda")):
        assert facts() == (True, False, False, False, ":4096:8")
    assert facts() == before
    with determinism(True, CPU):
        assert facts()[-1] == workspace
    with pytest.raises(ValueError, match="stop"), determinism(True, CPU):
        raise ValueError("stop")
    assert facts() == before
    with determinism(False, CPU):
        assert facts() == before


def test_a_step_without_a_deterministic_algorithm_is_named() -> None:
    message = r"deterministic=true: put_ .* Train with deterministic=false"
    with pytest.raises(FewscanError, match=message), determinism(True, CPU):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False)
    with pytest.raises(RuntimeError, match="shape"), determinism(True, CPU):
        raise RuntimeError("a shape is wrong")
