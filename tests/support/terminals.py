"""Reporters on terminals of any kind, and what they showed."""

import io

from rich.console import Console

from fewscan.terminal.console import Reporter


class Notes(Reporter):
    """Shows nothing, and keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines = []

    def say(self, what) -> None:
        self.lines.append(str(what))


def reporter_on(terminal, quiet=False, width=100):
    reporter = Reporter(quiet)
    reporter._console = Console(file=io.StringIO(), force_terminal=terminal, width=width, quiet=quiet, highlight=False)
    return reporter


def shown(reporter):
    return reporter.console.file.getvalue()
