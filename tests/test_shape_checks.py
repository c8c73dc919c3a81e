"""Shapes in signatures are no decoration: while the tests run, each argument that does not fit its own is refused."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints
from unittest.mock import Mock

import jaxtyping
import pytest

import fewscan
from benchmarks import dense
from support.shapes import Array, fitting, misfitting, shapes_in

UNIONS = (Union, UnionType)
KINDS = "|".join(name for name in dir(jaxtyping) if isinstance(getattr(jaxtyping, name), type))
NAMES_A_SHAPE = re.compile(rf"\b({KINDS})\[")


def modules() -> list[str]:
    """The names of the modules that annotate shapes."""
    root = Path(fewscan.__file__).parents[1]
    files = [path for path in (root / "fewscan").rglob("*.py") if "jaxtyping" in path.read_text("utf-8")]
    return [".".join(path.relative_to(root).with_suffix("").parts) for path in sorted(files)] + [dense.__name__]


def functions(name: str) -> Iterator[Callable[..., Any]]:
    """The functions of a module and the methods of its classes."""
    module = import_module(name)
    for entry in vars(module).values():
        if getattr(entry, "__module__", None) != name:
            continue
        members = vars(entry).values() if inspect.isclass(entry) else [entry]
        for member in members:
            function = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
            if inspect.isfunction(function):
                yield function


def annotated(name: str) -> list[tuple[Callable[..., Any], str]]:
    """The functions of a module, each with one of the arguments, or what it returns, that are annotated with shapes."""
    return [
        (function, argument)
        for function in functions(name)
        for argument, hint in function.__annotations__.items()
        if shapes_in(read(function, argument)) or (NAMES_A_SHAPE.search(str(hint)) and "Callable[" not in str(hint))
    ]


def resolved(function: Callable[..., Any], name: str) -> Any:
    """An annotation as jaxtyping reads it; what it cannot read, it does not check."""
    inner = inspect.unwrap(function)
    hints = get_type_hints(_with_one(name, inner.__annotations__[name]), inner.__globals__, include_extras=True)
    return hints[name]


def read(function: Callable[..., Any], name: str) -> Any:
    """An annotation; `Any` where there is none, as of `self`, and where it is for mypy alone."""
    try:
        return resolved(function, name)
    except (KeyError, NameError):
        return Any


def _with_one(name: str, annotation: Any) -> Callable[..., Any]:
    def alone() -> None: ...

    alone.__annotations__ = {name: annotation}
    return alone


def stand_in(hint: Any) -> Any:
    """A value that an annotation allows."""
    origin, parts = get_origin(hint), get_args(hint)
    if shapes := shapes_in(hint):
        return packed(fitting(shapes[0]), hint)
    if hint in (int, float, bool, str):
        return hint()
    if origin is tuple:
        return tuple(stand_in(part) for part in parts if part is not Ellipsis)
    if origin in UNIONS:
        return stand_in(parts[0])
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        return []
    return Mock(spec=hint) if inspect.isclass(hint) else Mock()


def packed(array: Array, hint: Any) -> Any:
    """An array as an annotation has it: by itself, by a name, or in a sequence."""
    origin = get_origin(hint)
    if origin in (None, *UNIONS):
        return array
    if origin is Mapping:
        return {"name": array}
    return (array,) if origin is tuple else [array]


def arguments(function: Callable[..., Any], wrong: str) -> dict[str, Any]:
    """Arguments of which all but one are as annotated."""
    given = {}
    for name in inspect.signature(function).parameters:
        hint = read(function, name)
        given[name] = packed(misfitting(shapes_in(hint)[0]), hint) if name == wrong else stand_in(hint)
    return given


@pytest.mark.parametrize("name", modules())
def test_every_shape_of_an_argument_is_checked(name: str) -> None:
    for function, argument in annotated(name):
        shapes = shapes_in(resolved(function, argument))
        assert shapes, f"{function.__qualname__}: {function.__annotations__[argument]} is no shape"
        for shape in shapes:
            misfitting(shape)  # Raises where every array fits.
        if argument != "return":
            with pytest.raises(jaxtyping.TypeCheckError, match=f"parameter '{argument}'"):
                function(**arguments(function, argument))
