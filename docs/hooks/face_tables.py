"""What `import fewscan` shows, in Markdown: the tree of exceptions, what raises which, and where names are defined."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import FunctionType

import fewscan
import fewscan.errors

# An entry of a docstring's `Raises:`, with the lines that go on, which are indented further.
ENTRY = re.compile(r"^(?P<name>\w+): (?P<text>.*(?:\n[ ]+.*)*)", re.MULTILINE)


def public_functions() -> str:
    """The signatures and docstrings of the commands."""
    return "\n\n".join(f"::: {place_of(command)}" for command in commands())


def public_errors() -> str:
    """The docstrings of the exceptions, in the order of their module."""
    classes = [value for value in vars(fewscan.errors).values() if inspect.isclass(value)]
    own = [cls for cls in classes if issubclass(cls, BaseException) and cls.__module__ == "fewscan.errors"]
    return "\n\n".join(f"::: {place_of(cls)}" for cls in own)


def error_tree() -> str:
    """The tree as the module draws it."""
    _, _, rest = inspect.cleandoc(fewscan.errors.__doc__ or "").partition("\nException\n")
    return f"```text\nException\n{rest}\n```"


def raised_by() -> str:
    """A row for every exception that a command says it raises."""
    rows = [
        f"| `{command.__name__}` | `{name}` | {text} |" for command in commands() for name, text in raised_of(command)
    ]
    return "\n".join(["| command | raises | when |", "|---|---|---|", *rows])


def raised_of(command: FunctionType) -> Iterator[tuple[str, str]]:
    """Exceptions and their texts, from the docstring."""
    _, _, rest = inspect.cleandoc(command.__doc__ or "").partition("\nRaises:\n")
    raises, _, _ = rest.partition("\n\n")
    for entry in ENTRY.finditer(inspect.cleandoc(raises)):
        yield entry["name"], " ".join(entry["text"].split())


def commands() -> list[FunctionType]:
    """The functions among the public names."""
    things = [getattr(fewscan, name) for name in fewscan.__all__]
    return [thing for thing in things if isinstance(thing, FunctionType)]


def place_of(thing: FunctionType | type) -> str:
    """The module and name of its definition."""
    return f"{thing.__module__}.{thing.__qualname__}"
