"""Callbacks: who is told how a training goes on, and changes nothing of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from fewscan.data.patches import Patches
from fewscan.distributed.collectives import rank
from fewscan.engine.phases import Phase
from fewscan.engine.records import Record
from fewscan.errors import ConfigError
from fewscan.methods.base import Batch, Method, Stage

Tell = Callable[[Record], None]


class UpdateInfo(NamedTuple):
    """One update of training, done. Nothing in it may be changed, or kept for longer than the call.

    Attributes:
        method: Method in training, after the optimiser's step.
        phase: Phase that the update belongs to.
        stage: Stage that the update belongs to.
        update: Number of the update in its stage, from 0.
        done: Number of updates so far over all phases and stages, this one included, from 1.
        total: Number of updates of the whole training; where its time is limited, as it is planned now.
        percent: Percent of the training that was done before this update, 0 to 99, rounded down.
        learning_rate: Rate at which the optimiser took this step.
        batch: Images and labels that this process was given.
        drawn: Patches of all processes' batches, labelled and unlabelled.
        terms: Unweighted loss terms by name, means over the processes; on the device, without gradient.
        loss: Weighted sum of the terms; on the device, without gradient.
        diagnostics: Values that the method reports of its step, by name; on the device, of this process alone.
        is_log_due: Whether a line of the log is due after this update: every `logging.every` updates and where a
            stage ends.
        is_validation_due: Whether a validation is due after this update: every `logging.validate_every` updates and
            where the training ends.

    Examples:
        >>> import fewscan
        >>> fewscan.UpdateInfo._fields[3:6]
        ('update', 'done', 'total')
    """

    method: Method
    phase: Phase
    stage: Stage
    update: int
    done: int
    total: int
    percent: int
    learning_rate: float
    batch: Batch
    drawn: Patches
    terms: Mapping[str, Tensor]
    loss: Tensor
    diagnostics: Mapping[str, Tensor]
    is_log_due: bool
    is_validation_due: bool

    def completes(self, percent: int) -> bool:
        """Whether this is the update with which so much of the training is done.

        Args:
            percent: Percent of the whole training, 1 to 100.
        """
        return self.percent < percent <= 100 * self.done // self.total


class Callback:
    """Someone who is told of a training. Subclass it and override the hooks you want: each does nothing by default.

    **Order.** `on_start`; for every phase `on_phase_start`, for every stage of it `on_stage_start`, after every update
    `on_update`, then `on_stage_end` and `on_phase_end`; last `on_end`. Each hook is called on all callbacks, in the
    order in which they were given, before the next hook. `on_record` follows whenever a callback tells a record.
    `on_checkpoint` comes just before the training's state is saved, which is the last thing after an update, and before
    `on_stage_end`.

    **Going on.** A training that goes on from a checkpoint begins with `on_start`, `on_phase_start` and
    `on_stage_start` of where it stands; then `load_state_dict` is called, and what followed the checkpoint follows.
    `on_end` is called once all updates are done: not when a training is interrupted or fails. What has to be closed in
    any case is closed by whoever made it.

    **Nothing of the training may be changed**: no weight, mode, gradient or generator (torch's global ones are the
    training's too), no batch, no record that another one told. Modes may be changed within a hook and given back, see
    `fewscan.networks.modes`. What a callback raises stops the training; what came after the last checkpoint is done
    again when it goes on.

    **Waiting.** `on_update` is called while the device may still be at work. A callback that reads a tensor there
    (`float(info.loss)`, `.item()`, `.cpu()`) makes every update wait: sum on the device, and read where
    `info.is_log_due`.

    **Processes.** Where several train together, callbacks that a user gives to `fewscan.train` are called in the first
    one alone, and must not exchange anything with the others, which would not answer.

    **State.** What `state_dict` gives is saved in every checkpoint under the callback's name, and given back. A
    callback whose state is in a checkpoint has to be there when the training goes on from it, and one with a state
    cannot join later; those without one may come and go.

    Attributes:
        name: Name of the state in a checkpoint: the class's, unless a class or an instance sets another.

    Examples:
        >>> import fewscan
        >>> class Stages(fewscan.Callback):
        ...     def __init__(self):
        ...         self.updates = {}
        ...     def on_update(self, info):
        ...         self.updates[info.stage.name] = info.update + 1
        >>> stages = Stages()
        >>> run = fewscan.train(
        ...     "DATASET", "WATCHED", labelled=2, recipe="quick", settings=short, callbacks=[stages]
        ... )
        >>> list(stages.updates)
        ['global', 'local', 'anatomical']
    """

    name: str = "Callback"
    _tell: Tell | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.name = cls.__dict__.get("name", cls.__name__)

    def tell(self, record: Record) -> None:
        """Add a record to the log: `on_record` of every callback is called with it, in the order records are told.

        Args:
            record: Record of `update`, the number of updates so far, `stage`, the stage's name, and what there is to
                tell; a user's own measures are its `values`. Nobody may change it afterwards.

        Raises:
            RuntimeError: No training has begun.
        """
        if self._tell is None:
            raise RuntimeError(f"{self.name} is told of no training, so there is no log that it could add a record to.")
        self._tell(record)

    def attach(self, tell: Tell) -> None:
        """Say where records go; called by `fit` before anything else.

        Args:
            tell: Function that adds a record to the log.
        """
        self._tell = tell

    def on_start(self, records: Sequence[Record]) -> None:
        """The training begins, or goes on.

        Args:
            records: Records of the log so far, in their order; empty where training begins.
        """

    def on_phase_start(self, phase: Phase) -> None:
        """A phase begins, or training goes on within it; the method has been told of it."""

    def on_stage_start(self, stage: Stage) -> None:
        """A stage begins, or training goes on within it; the method has been told of it."""

    def on_update(self, info: UpdateInfo) -> None:
        """An update has been done; the device may still be at work on it."""

    def on_record(self, record: Record) -> None:
        """A record was told, perhaps by this callback: losses (`terms`), a `validation`, an `alarm` or `values`."""

    def on_checkpoint(self, info: UpdateInfo) -> None:
        """The training's state is to be saved after this update; this callback's own is taken afterwards."""

    def on_stage_end(self, stage: Stage) -> None:
        """All updates of a stage are done, and the training's state is saved."""

    def on_phase_end(self, phase: Phase) -> None:
        """All stages of a phase are done."""

    def on_end(self) -> None:
        """All updates are done."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values that decide what the callback does next; empty: it has no state."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Go on where the state was taken; tensors that come from a checkpoint lie on the CPU."""


class Callbacks(Callback):
    """Several callbacks as one: calls them in their order, and keeps the records of the log.

    A record that is told while another one is handed round waits for its turn, so that all hear all records in one
    order.

    Args:
        callbacks: Callbacks, each with a name of its own.
        records: Records of the log so far.

    Raises:
        ConfigError: Something is no callback, or two have one name.
    """

    def __init__(self, callbacks: Sequence[Callback], records: Sequence[Record] = ()) -> None:
        check_callbacks(callbacks)
        self.callbacks = tuple(callbacks)
        self.records = list(records)
        self._waiting: deque[Record] = deque()
        self._is_telling = False
        for callback in self.callbacks:
            callback.attach(self.tell)

    def tell(self, record: Record) -> None:
        """Add a record to the log, and tell all callbacks of it."""
        self._waiting.append(record)
        if self._is_telling:
            return
        self._is_telling = True
        try:
            while self._waiting:
                self.on_record(self._waiting.popleft())
        finally:
            self._is_telling = False

    def on_start(self, records: Sequence[Record]) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_start(records)

    def on_phase_start(self, phase: Phase) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_phase_start(phase)

    def on_stage_start(self, stage: Stage) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_stage_start(stage)

    def on_update(self, info: UpdateInfo) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_update(info)

    def on_record(self, record: Record) -> None:
        """Keep it and pass it on."""
        self.records.append(record)
        for callback in self.callbacks:
            callback.on_record(record)

    def on_checkpoint(self, info: UpdateInfo) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_checkpoint(info)

    def on_stage_end(self, stage: Stage) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_stage_end(stage)

    def on_phase_end(self, phase: Phase) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_phase_end(phase)

    def on_end(self) -> None:
        """Pass it on."""
        for callback in self.callbacks:
            callback.on_end()

    def state_dict(self) -> dict[str, Any]:
        """The states of those that have one, by their names."""
        return {callback.name: state for callback in self.callbacks if (state := callback.state_dict())}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Give each callback its state.

        Raises:
            ConfigError: A callback has a state and the checkpoint has none of it, or the other way round.
        """
        missing = self.state_dict().keys() - state_dict.keys()
        # The first process has saved the states of callbacks that the others never had.
        left = state_dict.keys() - {callback.name for callback in self.callbacks} if rank() == 0 else set()
        if missing:
            raise ConfigError(
                f"callbacks: the run's checkpoint has no state of {', '.join(sorted(missing))}. A callback with a "
                "state cannot join an unfinished run: go on without it, or start another run."
            )
        if left:
            raise ConfigError(
                f"callbacks: the run was started with {', '.join(sorted(left))}, whose state is in its checkpoint. "
                "Give the same callbacks to fewscan.train to go on with it, or start another run."
            )
        for callback in self.callbacks:
            if callback.name in state_dict:
                callback.load_state_dict(state_dict[callback.name])


def check_callbacks(callbacks: Sequence[Callback], taken: Sequence[str] = ()) -> None:
    """Refuse what is no callback, and callbacks whose states could not be told apart.

    Args:
        callbacks: Callbacks to be told of a training.
        taken: Names that other callbacks of the training have.

    Raises:
        ConfigError: Something is no callback, or a name is another one's.
    """
    names = set(taken)
    for callback in callbacks:
        if not isinstance(callback, Callback):
            what = f"the class {callback.__name__}" if isinstance(callback, type) else f"a {type(callback).__name__}"
            raise ConfigError(f"callbacks: {what} is no callback. Give instances of subclasses of fewscan.Callback.")
        if callback.name in names:
            raise ConfigError(
                f"callbacks: there are two of the name {callback.name}. Give one of them a `name` of its own."
            )
        names.add(callback.name)
