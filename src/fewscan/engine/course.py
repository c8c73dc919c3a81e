"""How long the stages of a training are: as the recipe has them, or shorter where the time is limited."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

from fewscan.distributed.collectives import largest_over_ranks
from fewscan.engine.phases import Phase

Lengths = tuple[tuple[int, ...], ...]
Place = tuple[int, int]
# Place and next update → number of updates of the whole training, of which stages have the recipe's shares.
Choose = Callable[[Place, int], int]

# Of what is left, the share after which lengths are chosen anew: first after a tenth, then ever more often, so that
# what the last choices may still be wrong by is a few updates. A training of 1000 updates has some 50 choices.
SHARE = 0.1


class Course:
    """Lengths of all stages, chosen anew now and then where somebody chooses.

    Of several ranks each has one; the largest of what they choose counts, so that the others may choose 0.

    Args:
        recipe: Numbers of updates by phase and stage as the recipe has them, which are never exceeded.

    Attributes:
        lengths: Numbers of updates by phase and stage as they are now.
        choices: Every choice that has changed the lengths: number of updates so far, and in all.
        percent: Percent of the training that is done, 0 to 100, rounded down; it never falls.
    """

    def __init__(self, recipe: Lengths) -> None:
        self.recipe = recipe
        self.lengths = recipe
        self.choices: list[list[int]] = []
        self.percent = 0
        self._choose: Choose | None = None
        self._next = 0

    @property
    def is_limited(self) -> bool:
        """Whether somebody chooses."""
        return self._choose is not None

    @property
    def total(self) -> int:
        """Number of updates of the whole training."""
        return _sum(self.lengths)

    @property
    def most(self) -> int:
        """Number of updates that the recipe has."""
        return _sum(self.recipe)

    def limit(self, choose: Choose) -> None:
        """Let lengths be chosen from here on.

        Args:
            choose: Function from the place and the next update there to the number of updates of the whole training,
                from 0 to `most`.
        """
        self._choose = choose

    def of(self, phases: Sequence[Phase]) -> tuple[Phase, ...]:
        """Phases with these lengths.

        Args:
            phases: Phases with the lengths of the recipe.
        """
        return with_lengths(phases, self.lengths)

    def at(self, total: int, place: Place, update: int) -> Lengths:
        """Lengths of a training of about so many updates that has come to a place.

        Args:
            total: Number of updates of the whole training.
            place: Numbers of the phase and of its stage that training stands in, from 0.
            update: Number of the next update in that stage.
        """
        return stretched(self.recipe, self.lengths, total, place, update)

    def decide(self, place: Place, update: int, done: int) -> bool:
        """Choose lengths anew where that is due; all ranks together.

        Args:
            place: Numbers of the phase and of its stage that training stands in, from 0.
            update: Number of the next update in that stage, which is done in any case.
            done: Number of updates so far.

        Returns:
            Whether the lengths have changed.
        """
        if self._choose is None or done < self._next:
            return False
        (total,) = largest_over_ranks(self._choose(place, update))
        before, self.lengths = self.lengths, self.at(total, place, update)
        self._next = done + max(1, round(SHARE * (self.total - done)))
        if self.lengths == before:
            return False
        self.choices.append([done, self.total])
        return True

    def advance(self, done: int) -> int:
        """Count an update.

        Args:
            done: Number of updates so far, this one included.

        Returns:
            Percent of the training that was done before it.
        """
        before = self.percent
        self.percent = max(before, 100 * done // self.total)
        return before

    def to_json(self) -> dict[str, Any]:
        """What the recipe has and what was chosen, as plain values."""
        return {"recipe_updates": self.most, "updates": self.total, "choices": self.choices}

    def state_dict(self) -> dict[str, Any]:
        """What was chosen, and when it is next due."""
        return {
            "lengths": [list(stages) for stages in self.lengths],
            "choices": self.choices,
            "percent": self.percent,
            "next": self._next,
        }

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Go on with what was chosen."""
        self.lengths = tuple(tuple(stages) for stages in state_dict["lengths"])
        self.choices = [list(choice) for choice in state_dict["choices"]]
        self.percent = state_dict["percent"]
        self._next = state_dict["next"]


def lengths_of(phases: Sequence[Phase]) -> Lengths:
    """Numbers of updates by phase and stage."""
    return tuple(tuple(stage.updates for stage in phase.stages) for phase in phases)


def with_lengths(phases: Sequence[Phase], lengths: Lengths) -> tuple[Phase, ...]:
    """Phases whose stages are so long.

    Args:
        phases: Phases with any lengths.
        lengths: Numbers of updates by phase and stage.
    """
    return tuple(
        phase._replace(stages=tuple(replace(stage, updates=n) for stage, n in zip(phase.stages, updates, strict=True)))
        for phase, updates in zip(phases, lengths, strict=True)
    )


def stretched(recipe: Lengths, lengths: Lengths, total: int, place: Place, update: int) -> Lengths:
    """Give what is ahead of a training the length that it has in one of so many updates in all.

    Shares of the stages are the recipe's; what is behind stays as it was, and every stage keeps an update at least.

    Args:
        recipe: Numbers of updates by phase and stage as the recipe has them.
        lengths: The same as they are now.
        total: Number of updates of the whole training.
        place: Numbers of the phase and of its stage that training stands in, from 0.
        update: Number of the next update in that stage, which is done in any case.

    >>> stretched(((20, 0, 80),), ((20, 0, 80),), total=50, place=(0, 0), update=0)
    ((10, 0, 40),)
    >>> stretched(((20, 0, 80),), ((10, 0, 40),), total=25, place=(0, 0), update=8)
    ((9, 0, 20),)
    """
    most = _sum(recipe)
    in_order = (updates for stages in recipe for updates in stages)
    ends = [round(total * end / max(most, 1)) for end in accumulate(in_order, initial=0)]
    wanted = iter([end - begin for begin, end in pairwise(ends)])
    return tuple(
        tuple(
            _length(next(wanted), longest, now, (p, s), place, update)
            for s, (longest, now) in enumerate(zip(of_phase, now_of_phase, strict=True))
        )
        for p, (of_phase, now_of_phase) in enumerate(zip(recipe, lengths, strict=True))
    )


def _length(wanted: int, longest: int, now: int, own: Place, place: Place, update: int) -> int:
    if own < place:
        return now
    fewest = update + 1 if own == place else 1
    return min(longest, max(wanted, fewest))


def _sum(lengths: Lengths) -> int:
    return sum(map(sum, lengths))
