"""What commands say and show: lines, and bars with the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress

LINES_WITHOUT_TERMINAL = 50


class Reporter:
    """Talks to the user on standard error; silent where `quiet`.

    On a terminal there are live bars, elsewhere a plain line now and then.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._console: Console | None = None

    @property
    def console(self) -> Console:
        """Made when first needed: rich takes time to import."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(stderr=True, quiet=self.quiet, highlight=False)
        return self._console

    def say(self, what: RenderableType) -> None:
        """One line, table or other thing."""
        self.console.print(what, soft_wrap=isinstance(what, str))

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar that the returned function moves on by one."""
        with self._progress() as progress:
            task = progress.add_task(text, total=total, detail="")
            yield lambda: progress.advance(task)
        if not self.console.is_terminal:
            self.say(f"{text}: {total} done")

    def _progress(self) -> Progress:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        return Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=self.console,
            disable=self.quiet or not self.console.is_terminal,
        )


class TrainingView:
    """Shows training: a live bar with loss terms, speed and time left, or a plain line now and then."""

    def __init__(self, reporter: Reporter, redraw: Callable[[], None]) -> None:
        self.reporter = reporter
        self.redraw = redraw
        self.progress = reporter._progress()
        self.task: Any = None
        self.total = 0
        self.next_line = 0

    def __enter__(self) -> TrainingView:
        self.progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def on_update(self, done: int, total: int, stage: str) -> None:
        """Move the bar."""
        self.total = total
        if self.task is None:
            self.task = self.progress.add_task(stage, total=total, detail="")
        self.progress.update(self.task, completed=done, description=stage)

    def on_record(self, record: dict[str, Any]) -> None:
        """Show the terms, the validation, or an alarm."""
        if "alarm" in record:
            from rich.markup import escape

            # The message may name cases, and a name may look like markup.
            self.reporter.say(escape(f"update {record['update']}: {record['message']}"))
            return
        if "validation" in record:
            self.redraw()
            dice = ", ".join(f"{name} {v['dice']:.3f}" for name, v in record["validation"].items())
            self.reporter.say(f"update {record['update']}: validation Dice on the canvas: {dice}")
            return
        terms = " ".join(f"{name} {value:.3f}" for name, value in record["terms"].items())
        detail = f"{terms} · {record['slices_per_second']:.0f} slices/s"
        if self.task is not None:
            self.progress.update(self.task, detail=detail)
        if not self.reporter.console.is_terminal and record["update"] >= self.next_line:
            self.next_line = record["update"] + self.total // LINES_WITHOUT_TERMINAL
            self.reporter.say(f"{record['stage']} {record['update']}/{self.total}: {detail}{self._time_left()}")

    def _time_left(self) -> str:
        remaining = self.progress.tasks[0].time_remaining if self.task is not None else None
        return f" · {timedelta(seconds=round(remaining))} left" if remaining is not None else ""
