"""Which patches come next: drawn at random, saved and restored."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from fewscan.data.patches import Patches, Pool


class Sampler(Protocol):
    """Draws patches of a store, without end, from a generator of its own.

    Two samplers that were made alike draw alike, and one that was given another's state goes on as the other would
    have; `fewscan.testing.stores.SamplerContract` tests it.
    """

    def draw(self, count: int) -> Patches:
        """Draw the next patches.

        Args:
            count: Number of patches, 0 or more.
        """

    def state_dict(self) -> dict[str, Any]:
        """Give what decides the next draws: plain values, whose size does not grow with the store."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Go on where a state was taken.

        Args:
            state_dict: State that `state_dict` of a sampler of the same store gave.
        """


class NoSampler:
    """Stands for the labelled patches of scans of which none is labelled: none is drawn.

    >>> len(NoSampler().draw(0))
    0
    """

    def draw(self, count: int) -> Patches:
        """Draw nothing.

        Raises:
            ValueError: Patches are wanted.
        """
        if count:
            raise ValueError(f"{count} patches are wanted, and there is nothing to draw from")
        return Patches(np.zeros(0, int), np.zeros((0, 3), int))

    def state_dict(self) -> dict[str, Any]:
        """Nothing decides what is drawn."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """There is nothing to go on with."""


class EpochSampler:
    """Every patch once per pass, in a new order each pass; a batch may span two passes.

    Args:
        pool: Patches to draw from, at least one.
        seed: Seed of the sampler's own generator.

    Raises:
        ValueError: The pool is empty.

    >>> slices = Patches(np.zeros(5, int), np.arange(5)[:, None] * [1, 0, 0])
    >>> sampler = EpochSampler(slices, seed=0)
    >>> sorted(sampler.draw(5).start[:, 0].tolist())
    [0, 1, 2, 3, 4]
    """

    def __init__(self, pool: Pool, seed: int) -> None:
        if len(pool) == 0:
            raise ValueError("there is nothing to draw from")
        self.pool = pool
        self.generator = np.random.default_rng(seed)
        self._start_pass()

    def _start_pass(self) -> None:
        # What the order is drawn from says all of it: the order itself has a number for every patch.
        self._drawn_from = self.generator.bit_generator.state
        self.order = self.generator.permutation(len(self.pool))
        self.position = 0

    def draw(self, count: int) -> Patches:
        """Draw the next patches."""
        drawn: list[np.ndarray] = []
        while count > 0:
            if self.position == len(self.order):
                self._start_pass()
            taken = self.order[self.position : self.position + count]
            self.position += len(taken)
            count -= len(taken)
            drawn.append(taken)
        return self.pool[np.concatenate(drawn) if drawn else self.order[:0]]

    def state_dict(self) -> dict[str, Any]:
        """Give the place in the pass, and the generator as it was when the pass began."""
        return {"position": self.position, "generator": self._drawn_from}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Draw the order of the pass again, and go on at the place."""
        self.generator.bit_generator.state = state_dict["generator"]
        self._start_pass()
        self.position = int(state_dict["position"])
