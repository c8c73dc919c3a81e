"""Values that may be None by their type, where a test has made sure that they are not."""

from __future__ import annotations

from typing import TypeVar

Value = TypeVar("Value")


def known(value: Value | None) -> Value:
    """The value, which is not None."""
    assert value is not None
    return value
