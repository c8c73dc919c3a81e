"""Which slices come next: endless passes in random order, saved and restored."""

from __future__ import annotations

from typing import Any

import numpy as np


class ShuffledSampler:
    """Every number once per pass, in a new order each pass; a batch may span two passes.

    Args:
        numbers: what to draw from, at least one.
        seed: of the sampler's own generator.
    """

    def __init__(self, numbers: np.ndarray, seed: int) -> None:
        if len(numbers) == 0:
            raise ValueError("there is nothing to draw from")
        self.numbers = numbers
        self.generator = np.random.default_rng(seed)
        self.order = self.generator.permutation(len(numbers))
        self.position = 0

    def draw(self, count: int) -> np.ndarray:
        """The next `count` numbers."""
        drawn: list[np.ndarray] = []
        while count > 0:
            if self.position == len(self.order):
                self.order = self.generator.permutation(len(self.numbers))
                self.position = 0
            taken = self.order[self.position : self.position + count]
            self.position += len(taken)
            count -= len(taken)
            drawn.append(taken)
        return self.numbers[np.concatenate(drawn)] if drawn else self.numbers[:0]

    def state_dict(self) -> dict[str, Any]:
        """Order, position and generator, as plain numbers."""
        return {
            "order": self.order.tolist(),
            "position": self.position,
            "generator": self.generator.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.order = np.asarray(state["order"])
        self.position = int(state["position"])
        self.generator.bit_generator.state = state["generator"]
