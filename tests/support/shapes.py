"""Shapes in signatures: the check of shapes alone, and arguments made from annotations, right and wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isclass
from typing import Any, get_args, get_origin

import numpy as np
import torch
from beartype import beartype
from jaxtyping import AbstractArray

Array = torch.Tensor | np.ndarray
# Sizes of the axes with names; all others have 3, and *axes are two of 4.
SIZES = {"b": 2, "c": 1}


def check_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check what a function is given and gives back where its annotations name shapes, and nowhere else.

    Where tests hand in what only quacks like a store or a plan, beartype would refuse it for its type.
    """
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if shapes_in(hint)}
    return beartype(function)


def shapes_in(hint: Any) -> list[type[AbstractArray]]:
    """The annotations of arrays inside an annotation, but for those of functions: they are not called to be checked."""
    if get_origin(hint) is Callable:
        return []
    if isclass(hint) and issubclass(hint, AbstractArray):
        return [hint]
    return [shape for part in get_args(hint) for shape in shapes_in(part)]


def fitting(shape: type[AbstractArray]) -> Array:
    """An array of zeros that an annotation allows."""
    return _zeros(shape, [side for axis in shape.dim_str.split() for side in _sides(axis)])


def misfitting(shape: type[AbstractArray]) -> Array:
    """An array that an annotation forbids: with one axis too few; of scalars, one more; of any shape, another type."""
    axes = shape.dim_str.split()
    least = sum(not _is_variadic(axis) for axis in axes)
    if least or not axes:
        return _zeros(shape, [3] * (least - 1 if least else 1))
    if {"bool", "float32"} <= set(_types(shape)):
        raise ValueError(f"{shape} allows every array")
    other = fitting(shape) > 0
    return other * 1.0 if "bool" in _types(shape) else other


def _is_variadic(axis: str) -> bool:
    return axis == "..." or axis.startswith("*")


def _sides(axis: str) -> list[int]:
    if _is_variadic(axis):
        return [4, 4]
    return [int(axis) if axis.isdigit() else SIZES.get(axis, 3)]


def _zeros(shape: type[AbstractArray], sides: list[int]) -> Array:
    names = _types(shape)
    name = next(name for name in ("float32", "int64", *names) if name in names)
    if issubclass(shape.array_type, torch.Tensor):
        return torch.zeros(sides, dtype=getattr(torch, name))
    return np.zeros(sides, dtype=name)


def _types(shape: type[AbstractArray]) -> list[str]:
    """The names of the types of numbers that an annotation allows."""
    anything = ("float32", "bool")
    return [name.removesuffix("_") for name in (shape.dtypes if isinstance(shape.dtypes, (tuple, list)) else anything)]
