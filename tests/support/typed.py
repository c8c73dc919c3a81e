"""Whether a value from a file is what a type says: pydantic reads the TypedDicts of `typing` from Python 3.12 on."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict


def misfits(value: Any, kind: Any, where: str = "it") -> Iterator[str]:
    """What of a value is not of a type: one text for each place."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_typeddict(kind):
        hints = get_type_hints(kind)
        # Not `__required_keys__`: of annotations that are texts it does not know which are NotRequired.
        marked = get_type_hints(kind, include_extras=True)
        required = {name for name in hints if get_origin(marked[name]) is not NotRequired}
        missing, unknown = required - set(value), set(value) - set(hints)
        yield from (f"{where} lacks {name}" for name in sorted(missing))
        yield from (f"{where} has an unknown {name}" for name in sorted(unknown))
        for name in set(hints) & set(value):
            yield from misfits(value[name], hints[name], f"{where}[{name!r}]")
    elif origin in (Union, UnionType):
        if all(list(misfits(value, choice)) for choice in arguments):
            yield f"{where} is {value!r}, not {kind}"
    elif origin is Literal:
        if value not in arguments:
            yield f"{where} is {value!r}, not one of {arguments}"
    elif origin is dict and isinstance(value, dict):
        for name, inner in value.items():
            yield from misfits(name, arguments[0], f"a key of {where}")
            yield from misfits(inner, arguments[1], f"{where}[{name!r}]")
    elif origin is list and isinstance(value, list):
        for i, inner in enumerate(value):
            yield from misfits(inner, arguments[0], f"{where}[{i}]")
    elif type(value) is not (origin or kind):
        yield f"{where} is {value!r}, not {kind}"
