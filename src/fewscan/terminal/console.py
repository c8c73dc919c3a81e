"""What commands say and show: lines, and bars with the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fewscan.durations import say_duration, say_pace

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress

# Columns of a terminal below which numbers are worth more than bars and curves.
NARROW = 60
# Where nobody watches a bar, as in the log of a cluster, a line says so often how far it is.
SECONDS_PER_LINE = 30.0


def plain_console(stderr: bool = False, quiet: bool = False) -> Console:
    """A console that shows names as they are: parts of them may look like markup or like names of pictures."""
    from rich.console import Console

    return Console(stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False)


class Reporter:
    """Talks to the user on standard error: live bars on a terminal, elsewhere a plain line now and then.

    Args:
        quiet: Whether nothing is said.

    Examples:
        >>> import fewscan
        >>> fewscan.check("DATASET", reporter=fewscan.Reporter(quiet=True))
        []
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._console: Console | None = None

    @property
    def console(self) -> Console:
        """The console of standard error, made when it is first needed: rich takes time to import."""
        if self._console is None:
            self._console = plain_console(stderr=True, quiet=self.quiet)
        return self._console

    @property
    def is_live(self) -> bool:
        """Whether somebody watches: a terminal, and not quiet."""
        return self.console.is_terminal and not self.quiet

    def say(self, what: RenderableType) -> None:
        """Show a line, a table or another thing; a line as it is, whatever names are in it."""
        self.console.print(what, soft_wrap=isinstance(what, str), markup=False, emoji=False)

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[], None]]:
        """Show a bar; the function that is given moves it on by one.

        Where there is no terminal, a line every half minute says how far it is, how fast it goes and what is left.

        Args:
            text: Words that say what is going on.
            total: Number of steps until all is done.
        """
        if not self.console.is_terminal:
            lines = _Lines(text, total, self.say)
            yield lines.step
            lines.end()
            return
        with self.progress() as progress:
            task = progress.add_task(text, total=total)
            yield lambda: progress.advance(task)

    def progress(self) -> Progress:
        """A bar for tasks, with the time left; it shows itself on a terminal alone."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        from fewscan.terminal.time_left import TimeLeftColumn

        bar = [BarColumn(bar_width=24)] if self.console.width >= NARROW else []
        return Progress(
            TextColumn("{task.description}", markup=False),
            *bar,
            MofNCompleteColumn(),
            TimeLeftColumn(),
            console=self.console,
            disable=not self.is_live,
        )


class _Lines:
    """What a bar says where nobody watches one.

    Args:
        text: Words that say what is going on.
        total: Number of steps until all is done.
        say: Function that a line is given to.
    """

    def __init__(self, text: str, total: int, say: Callable[[str], object]) -> None:
        self._text, self._total, self._say = text, total, say
        self._done = 0
        self._begun = self._said = time.monotonic()

    def step(self) -> None:
        """Another one is done."""
        self._done += 1
        now = time.monotonic()
        if now - self._said >= SECONDS_PER_LINE and self._done < self._total:
            self._said = now
            took = now - self._begun
            left = say_duration((self._total - self._done) * took / self._done)
            self._say(f"{self._text}: {self._done} of {self._total}, {say_pace(self._done, took)}, about {left} left")

    def end(self) -> None:
        """Say that all is done, and of what took long how long."""
        took = time.monotonic() - self._begun
        how_long = f" in {say_duration(took)}" if took >= SECONDS_PER_LINE else ""
        self._say(f"{self._text}: {self._total} done{how_long}")
