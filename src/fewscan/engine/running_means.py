"""The running means of the loss terms: a line of the log every so many updates."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from fewscan.engine.callbacks import Callback, UpdateInfo
from fewscan.engine.records import Record
from fewscan.methods.base import Stage


class RunningMeans(Callback):
    """Means of the loss terms since the last line of the log, kept on the device until they are read."""

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        """Forget what was added; the clock starts anew."""
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.started = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Sums, their count and the seconds since the last line."""
        return {"sums": self.sums, "count": self.count, "seconds": time.perf_counter() - self.started}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Go on where the state was taken; sums of one number may lie on the CPU, the next ones join them anywhere."""
        self.sums = dict(state_dict["sums"])
        self.count = int(state_dict["count"])
        self.started = time.perf_counter() - float(state_dict["seconds"])

    def on_stage_start(self, stage: Stage) -> None:
        """Begin anew: a mean is of one stage."""
        del stage
        self._restart()

    def on_update(self, info: UpdateInfo) -> None:
        """Add an update's terms; tell their means where a line of the log is due, which waits for the device."""
        for name, value in {**info.terms, "loss": info.loss}.items():
            self.sums[name] = self.sums.get(name, 0) + value
        self.count += 1
        if info.is_log_due:
            self.tell(self._read(info))

    def on_record(self, record: Record) -> None:
        """Begin anew after a validation, whose time says nothing of the training's speed."""
        if "validation" in record:
            self._restart()

    def _read(self, info: UpdateInfo) -> Record:
        """Means and throughput as a record, and begin anew; waits for the device."""
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        seconds = time.perf_counter() - self.started
        images = info.stage.labelled + info.stage.unlabelled
        record: Record = {
            "update": info.done,
            "stage": info.stage.name,
            "lr": info.learning_rate,
            "loss": means.pop("loss"),
            "terms": {**means},
            "images_per_second": self.count * images / seconds,
        }
        self._restart()
        return record
