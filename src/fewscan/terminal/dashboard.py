"""Training, shown while it goes on: a live board on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fewscan.durations import say_duration
from fewscan.terminal.console import NARROW, Reporter

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

LINES_WITHOUT_TERMINAL = 50
BARS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 24
REFRESHES_PER_SECOND = 4


class TrainingView:
    """Shows loss terms, validation Dice, speed and the time left.

    Args:
        reporter: Place to show the training.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.progress = reporter.progress()
        self.live: Live | None = None
        self.task: Any = None
        self.total = 0
        self.seconds_left: float | None = None
        self.next_line = 0
        self.last: Mapping[str, Any] = {}
        self.losses: list[float] = []
        self.curves: dict[str, list[float]] = {}

    def __enter__(self) -> TrainingView:
        if self.reporter.is_live:
            from rich.live import Live

            self.live = Live(
                get_renderable=self.board,
                console=self.reporter.console,
                refresh_per_second=REFRESHES_PER_SECOND,
            )
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live is not None:
            self.live.stop()

    def show_update(self, done: int, total: int, stage: str, seconds_left: float | None = None) -> None:
        """Move the bar.

        Args:
            done: Number of updates so far.
            total: Number of updates of the whole training.
            stage: Name of the stage.
            seconds_left: Seconds until all is done; None: nobody knows.
        """
        self.total, self.seconds_left = total, seconds_left
        if self.task is None:
            # What a resumed run has done already says nothing of its speed now.
            self.task = self.progress.add_task(stage, total=total, completed=done - 1)
        self.progress.update(self.task, completed=done, total=total, description=stage, seconds_left=seconds_left)

    def remember(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Begin with the curves of a training that has records already."""
        for record in records:
            self._remember(record)

    def show_record(self, record: Mapping[str, Any]) -> None:
        """Show the terms, the validation, or an alarm; other records are not shown."""
        self._remember(record)
        if "alarm" in record:
            self.reporter.say(f"update {record['update']}: {record['message']}")
        elif "validation" in record:
            told = "; ".join(
                f"{what}: {', '.join(f'{network} {value:.3f}' for network, value in values.items())}"
                for what, values in _validated(record).items()
            )
            self.reporter.say(f"update {record['update']}: validation at the network's resolution: {told}")
        elif "terms" in record and not self.reporter.console.is_terminal and record["update"] >= self.next_line:
            self.next_line = record["update"] + self.total // LINES_WITHOUT_TERMINAL
            terms = " ".join(f"{name} {value:.3f}" for name, value in record["terms"].items())
            speed = f"{record['images_per_second']:.0f} images/s"
            self.reporter.say(
                f"{record['stage']} {record['update']}/{self.total}: {terms} · {speed}{self._time_left()}"
            )

    def board(self) -> RenderableType:
        """What the terminal shows now; lines that do not fit go on in the next one."""
        from rich.console import Group
        from rich.text import Text

        lines = [Text(line) for line in (self._terms_line(), *self._dice_lines()) if line]
        return Group(*lines, self.progress)

    def _remember(self, record: Mapping[str, Any]) -> None:
        if "validation" in record:
            for what, values in _validated(record).items():
                for network, value in values.items():
                    self.curves.setdefault(f"{what}, {network}", []).append(value)
        elif "terms" in record:
            self.last = record
            self.losses.append(record["loss"])

    def _terms_line(self) -> str:
        if not self.last:
            return ""
        parts = (f"{name} {value:.3f}" for name, value in self.last["terms"].items())
        speed = f"{self.last['images_per_second']:.0f} images/s"
        return " · ".join((f"loss {self.last['loss']:.3f}{self._curve(self.losses)}", *parts, speed))

    def _dice_lines(self) -> list[str]:
        return [
            f"validation {name}: {values[-1]:.3f}, best {max(values):.3f}{self._curve(values)}"
            for name, values in self.curves.items()
        ]

    def _curve(self, values: Sequence[float]) -> str:
        options = self.reporter.console.options
        if options.ascii_only or options.max_width < NARROW or len(values) < 2:
            return ""
        return f" {sparkline(values, CURVE_WIDTH)}"

    def _time_left(self) -> str:
        return f" · {say_duration(self.seconds_left)} left" if self.seconds_left is not None else ""


def _validated(record: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """What was measured of each network, by what it is."""
    readings = record["validation"]
    found = {"Dice": {network: own["dice"] for network, own in readings.items()}}
    for network, own in readings.items():
        for score, value in own.get("scores", {}).items():
            found.setdefault(score, {})[network] = value
    return found


def sparkline(values: Sequence[float], width: int) -> str:
    """A curve of at most `width` characters, from the lowest value to the highest; what is not finite is a gap."""
    shares = min(width, len(values))
    edges = [round(i * len(values) / shares) for i in range(shares + 1)]
    means = [_finite_mean(values[a:b]) for a, b in pairwise(edges)]
    known = [mean for mean in means if mean is not None]
    if not known:
        return " " * shares
    low, span = min(known), max(known) - min(known)
    heights = (None if mean is None else (mean - low) / span if span > 0 else 0.5 for mean in means)
    return "".join(" " if height is None else BARS[round(height * (len(BARS) - 1))] for height in heights)


def _finite_mean(values: Sequence[float | None]) -> float | None:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None
