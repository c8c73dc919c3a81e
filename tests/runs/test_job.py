"""What a training begins with, in the first process and in the others."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest
import torch

from fewscan.config import load_config
from fewscan.errors import ConfigError
from fewscan.run_folder import RunFolder
from fewscan.runs.job import build_method, run_worker, seeded, throwaway_method
from fewscan.runs.launch import Launch, WorkerStart
from support.scans import PLAN
from support.steps import Store

CPU = torch.device("cpu")


def test_a_method_is_built_from_settings_that_leave_nothing_open() -> None:
    config = load_config("quick", ["precision=float32"])
    with pytest.raises(ValueError, match="leave something to be decided"):
        build_method(config, PLAN, CPU)
    assert build_method(config.resolved(PLAN, CPU), PLAN, CPU).spec.precision is None
    rough = load_config("quick", ["precision=bfloat16"]).resolved(PLAN, CPU)
    assert build_method(rough, PLAN, CPU).spec.precision == torch.bfloat16


def test_a_device_that_cannot_compute_as_the_first_process_does_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise RuntimeError("not implemented for 'BFloat16'")

    class Told(Launch):
        def receive_start(self) -> WorkerStart:
            return WorkerStart(config=config, plan=PLAN, checkpoint=None)

    config = load_config("quick", ["precision=bfloat16"]).resolved(PLAN, CPU)
    monkeypatch.setattr(torch.nn.functional, "conv2d", refuse)
    with pytest.raises(ConfigError, match="precision=bfloat16: cpu cannot compute in it"):
        run_worker(Told(CPU), RunFolder(tmp_path / "run"), tmp_path / "cache")


def test_a_method_that_is_only_tried_leaves_every_generator_and_the_weights_to_come_as_they_were() -> None:
    config = load_config("quick", ["precision=float32"]).resolved(PLAN, CPU)
    before = torch.random.get_rng_state()
    with throwaway_method(config, PLAN, Store(), CPU) as (tried, phases):
        torch.rand(5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert phases[0].stages == tried.stages()
    with seeded(config, CPU):
        built = build_method(config, PLAN, CPU)
    assert all(torch.equal(a, b) for a, b in zip(tried.parameters(), built.parameters(), strict=True))
