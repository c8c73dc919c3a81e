"""The contract of callbacks finds what it is there to find: each broken callback fails the test of its fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fewscan.engine.callbacks import Callback, UpdateInfo
from fewscan.engine.records import Record
from fewscan.testing.callbacks import PLAN, CallbackContract
from fewscan.testing.stores import store_of

UNTOUCHED = "test_training_is_the_same_with_it_and_without"
AS_TOLD = "test_what_it_is_told_it_leaves_as_it_was"
PATIENT = "test_it_waits_for_the_device_where_lines_and_validations_are_due_alone"
GOES_ON = "test_killed_and_gone_on_with_it_comes_to_what_an_unbroken_one_comes_to"


class Sound(Callback):
    """Sums the loss where it is, and tells the mean where a line of the log is due."""

    def __init__(self) -> None:
        self.total, self.count = torch.zeros(()), 0

    def on_update(self, info: UpdateInfo) -> None:
        self.total = self.total + info.loss
        self.count += 1
        if info.is_log_due:
            mean = float(self.total / self.count)
            self.tell({"update": info.done, "stage": info.stage.name, "values": {"mean": mean}})

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total, "count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        self.total, self.count = state_dict["total"], state_dict["count"]


class Drawing(Sound):
    def on_update(self, info: UpdateInfo) -> None:
        super().on_update(info)
        torch.rand(1)


class Evaluating(Sound):
    def on_update(self, info: UpdateInfo) -> None:
        super().on_update(info)
        info.method.eval()


class Decaying(Sound):
    @torch.no_grad()
    def on_update(self, info: UpdateInfo) -> None:
        super().on_update(info)
        for parameter in info.method.student.parameters():
            parameter.mul_(0.99)


class Adding(Sound):
    def on_update(self, info: UpdateInfo) -> None:
        self.total = info.loss.add_(self.total)
        self.count += 1


class Rewriting(Sound):
    def on_record(self, record: Record) -> None:
        record["stage"] = "mine"


class Reading(Sound):
    def on_update(self, info: UpdateInfo) -> None:
        super().on_update(info)
        assert float(info.loss) > 0


class LookingAtWeights(Sound):
    def on_update(self, info: UpdateInfo) -> None:
        super().on_update(info)
        assert info.method.get_parameter("student.classifier.weight").norm().item() > 0


class Fetching(Sound):
    def on_update(self, info: UpdateInfo) -> None:
        super().on_update(info)
        self.last = info.loss.to("cpu")


class Forgetful(Sound):
    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total, "count": 0}


class WithoutState(Sound):
    def state_dict(self) -> dict[str, Any]:
        return {}


def contract(kind: type[Callback]) -> CallbackContract:
    class Contract(CallbackContract):
        def make(self, store: Any, folder: Path) -> Callback:
            del store, folder
            return kind()

        def outcome(self, callback: Callback, folder: Path) -> object:
            del folder
            return {name: float(value) for name, value in callback.state_dict().items()}

    return Contract()


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Drawing, UNTOUCHED),
        (Evaluating, UNTOUCHED),
        (Decaying, UNTOUCHED),
        (Adding, AS_TOLD),
        (Rewriting, AS_TOLD),
        (Reading, PATIENT),
        (LookingAtWeights, PATIENT),
        (Fetching, PATIENT),
        (Forgetful, GOES_ON),
        (WithoutState, GOES_ON),
    ],
)
def test_a_broken_callback_fails(broken: type[Callback], test: str, tmp_path: Path) -> None:
    store = store_of(PLAN, tmp_path / "store")
    at = {"at": 2} if test == GOES_ON else {}
    for name in ("sound", "broken"):
        (tmp_path / name).mkdir()
    getattr(contract(Sound), test)(store, tmp_path / "sound", **at)
    with pytest.raises(AssertionError):
        getattr(contract(broken), test)(store, tmp_path / "broken", **at)
