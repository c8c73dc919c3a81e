"""What every callback owes the training that it is told of, as tests."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch.overrides import TorchFunctionMode

from fewscan.config import CheckpointSettings, LoggingSettings
from fewscan.data.plans.base import Normalisation
from fewscan.data.plans.slices.plan import SlicePlan
from fewscan.data.store import Store
from fewscan.engine.alarms import Alarms
from fewscan.engine.callbacks import Callback, Callbacks, UpdateInfo, check_callbacks
from fewscan.engine.checkpoint import Checkpoints
from fewscan.engine.loop import fit
from fewscan.engine.phases import LoopSettings, Phase
from fewscan.engine.records import NetworkReading, Record
from fewscan.engine.running_means import RunningMeans
from fewscan.engine.validation import Validation
from fewscan.methods.base import Method
from fewscan.methods.mean_teacher import MeanTeacher
from fewscan.methods.teacher import SemiTeacherSettings
from fewscan.optimiser import OptimiserSettings
from fewscan.testing.methods import N_CLASSES, SIZES, make_spec
from fewscan.testing.stores import store_of

PLAN = SlicePlan(
    dataset="contract",
    channel_names=("noise",),
    class_names=tuple(f"class_{number}" for number in range(N_CLASSES)),
    slice_axis=0,
    size=(SIZES[0][0], SIZES[0][1]),
    spacing_mm=(1.0, 1.0),
    normalisation=(Normalisation(scheme="minmax"),),
)
# Neither divides the other, nor the six updates of a phase.
SETTINGS = LoopSettings(OptimiserSettings(), LoggingSettings(every=4, validate_every=5), seed=0)
# Within the first phase, at its end, and within the second one.
STOPS = (2, 6, 9)
# What asks for a value, by which the host waits for the device.
READING = {"__array__", "__bool__", "__complex__", "__float__", "__index__", "__int__"}
READING |= {"allclose", "cpu", "equal", "is_nonzero", "item", "nonzero", "numpy", "tolist"}


class Trained(NamedTuple):
    """What a training has come to.

    Attributes:
        method: Method at the end.
        records: Records of the log.
        random: State of torch's global generator at the end.
    """

    method: Method
    records: list[Record]
    random: torch.Tensor


class CallbackContract(ABC):
    """The contract of `Callback`: subclass it as `Test...`, and write `make`.

    It is told of a training of two phases of six updates each, with a line of the log every four and a validation every
    five updates.

        class TestMine(CallbackContract):
            def make(self, store, folder):
                return Mine(folder / "file.csv")

    Attributes:
        may_wait: Number of updates, beside those after which a line of the log or a validation is due, after which it
            may wait for the device.
    """

    may_wait: ClassVar[int] = 0

    @abstractmethod
    def make(self, store: Store, folder: Path) -> Callback:
        """A new callback.

        Args:
            store: Store of the training.
            folder: Folder for its files; not empty where a training goes on.
        """

    def outcome(self, callback: Callback, folder: Path) -> object:
        """What the callback has come to, to be compared with `==`: nothing of the clock; by default its state."""
        del folder
        return callback.state_dict()

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return store_of(PLAN, tmp_path / "store")

    def test_it_is_a_callback_with_a_name_of_its_own(self, store: Store, tmp_path: Path) -> None:
        callback = self.make(store, tmp_path)
        check_callbacks([callback], [Callback.name])
        assert callback.name
        assert callback.name == self.make(store, tmp_path).name

    def test_training_is_the_same_with_it_and_without(self, store: Store, tmp_path: Path) -> None:
        with_it = self._train(store, [self.make(store, tmp_path)])
        without = self._train(store, [], instead_of=self.make(store, tmp_path))
        state = without.method.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in with_it.method.state_dict().items())
        assert [module.training for module in with_it.method.modules()] == [
            module.training for module in without.method.modules()
        ]
        assert torch.equal(with_it.random, without.random)
        # Whoever validates begins the means of the losses anew; which losses there are the weights have shown.
        told = [_without(record, "images_per_second", "loss", "terms") for record in with_it.records]
        for record in without.records:
            assert _without(record, "images_per_second", "loss", "terms") in told

    def test_what_it_is_told_it_leaves_as_it_was(self, store: Store, tmp_path: Path) -> None:
        before = _Witness()
        self._train(store, [before, self.make(store, tmp_path), _Judge(before)])
        assert before.n_seen == 12

    def test_it_waits_for_the_device_where_lines_and_validations_are_due_alone(
        self, store: Store, tmp_path: Path
    ) -> None:
        watched = _Watched([self.make(store, tmp_path)])
        self._train(store, [watched], instead_of=watched.callbacks[0])
        assert len(watched.waited) <= self.may_wait, f"waits for the device at updates {watched.waited}"

    @pytest.mark.parametrize("at", STOPS)
    def test_killed_and_gone_on_with_it_comes_to_what_an_unbroken_one_comes_to(
        self, store: Store, tmp_path: Path, at: int
    ) -> None:
        folders = tmp_path / "whole", tmp_path / "broken"
        for folder in folders:
            folder.mkdir()
        whole, broken, resumed = (self.make(store, folder) for folder in (*folders, folders[1]))
        unbroken = self._train(store, [whole])
        # It hears of an update more than the checkpoint holds.
        saving = Checkpoints(tmp_path / "checkpoints", CheckpointSettings(every=at, minutes=0))
        with pytest.raises(_KilledError):
            self._train(store, [broken, _Killer(at + 1)], checkpoints=saving)
        gone_on = self._train(store, [resumed], checkpoints=saving, resumed=True)
        assert timeless(gone_on.records) == timeless(unbroken.records)
        assert self.outcome(resumed, folders[1]) == self.outcome(whole, folders[0])

    def _train(
        self,
        store: Store,
        callbacks: Sequence[Callback],
        *,
        instead_of: Callback | None = None,
        checkpoints: Checkpoints | None = None,
        resumed: bool = False,
    ) -> Trained:
        """Train through two phases, told beside the callbacks to fewscan's own."""
        torch.manual_seed(0)
        method = MeanTeacher(make_spec(), SemiTeacherSettings())
        taken = {callback.name for callback in (*callbacks, *([instead_of] if instead_of is not None else []))}
        own = [each for each in (Alarms(), RunningMeans(), Validation(_measure)) if each.name not in taken]
        phases = [Phase(name, store, method.stages()) for name in ("first", "second")]
        resume = checkpoints.newest(lambda _: None) if checkpoints is not None and resumed else None
        with torch.random.fork_rng():
            records = fit(method, phases, SETTINGS, [*own, *callbacks], checkpoints=checkpoints, resume=resume)
            return Trained(method, records, torch.get_rng_state())


def timeless(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Records without their speed, to compare."""
    return [_without(record, "images_per_second") for record in records]


def _without(record: Record, *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


def _measure(method: Method) -> dict[str, NetworkReading]:
    return {name: {"dice": 0.5, "classes": {"class_1": 0.5}} for name in method.networks()}


class _KilledError(Exception):
    """Stands for the death of the process."""


class _Killer(Callback):
    """Ends a training as a kill does, where nothing more is saved."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_update(self, info: UpdateInfo) -> None:
        """Raise at the update."""
        if info.done == self.at:
            raise _KilledError


class _Witness(Callback):
    """Keeps what was told, as it was before others heard of it."""

    def __init__(self) -> None:
        self.n_seen = 0

    def on_update(self, info: UpdateInfo) -> None:
        """Keep the tensors."""
        self.tensors = [tensor.clone() for tensor in _tensors_of(info)]
        self.n_seen += 1

    def on_record(self, record: Record) -> None:
        """Keep the record."""
        self.record = copy.deepcopy(record)


class _Judge(Callback):
    """Compares what is told now with what was told first."""

    def __init__(self, before: _Witness) -> None:
        self.before = before

    def on_update(self, info: UpdateInfo) -> None:
        """Compare the tensors."""
        now = _tensors_of(info)
        assert len(now) == len(self.before.tensors)
        assert all(torch.equal(a, b) for a, b in zip(now, self.before.tensors, strict=True))

    def on_record(self, record: Record) -> None:
        """Compare the record."""
        assert record == self.before.record


def _tensors_of(info: UpdateInfo) -> list[torch.Tensor]:
    return [*info.batch.tensors(), *info.terms.values(), info.loss, *info.diagnostics.values()]


class _Readings(TorchFunctionMode):
    """Counts what asks a tensor for its values."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count a call and make it."""
        del types
        is_copy = func.__name__ == "to" and "cpu" in args[1:]
        self.count += func.__name__ in READING or is_copy
        return func(*args, **(kwargs or {}))


class _Watched(Callbacks):
    """Looks at which updates a callback waits for the device, though nothing is due."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        super().__init__(callbacks)
        self.waited: list[int] = []

    def attach(self, tell: Any) -> None:
        """Records go where they would."""
        for callback in self.callbacks:
            callback.attach(tell)

    def on_update(self, info: UpdateInfo) -> None:
        """Pass it on and count."""
        with _Readings() as readings:
            super().on_update(info)
        if readings.count and not (info.is_log_due or info.is_validation_due):
            self.waited.append(info.done)
