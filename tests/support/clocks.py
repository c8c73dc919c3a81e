"""Time that passes when it is told to."""

from __future__ import annotations


class Clock:
    """A clock that stands still until it is moved.

    Args:
        step: Seconds that pass whenever somebody looks.
    """

    def __init__(self, step: float = 0.0) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now
