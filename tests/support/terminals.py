"""Reporters on terminals of any kind, and what they showed."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType

from fewscan.terminal.console import Reporter


class Notes(Reporter):
    """Shows nothing, and keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, what: RenderableType) -> None:
        self.lines.append(str(what))


class StopsAt(Reporter):
    """Says nothing, and raises where a bar is to be shown whose text begins with some words."""

    def __init__(self, words: str, error: BaseException) -> None:
        super().__init__(quiet=True)
        self.words = words
        self.error = error

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[], None]]:
        if text.startswith(self.words):
            raise self.error
        with super().bar(text, total) as move_on:
            yield move_on


def reporter_on(terminal: bool, quiet: bool = False, width: int = 100) -> Reporter:
    reporter = Reporter(quiet)
    reporter._console = Console(file=io.StringIO(), force_terminal=terminal, width=width, quiet=quiet, highlight=False)
    return reporter


def shown(reporter: Reporter) -> str:
    file = reporter.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()
