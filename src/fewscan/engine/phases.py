"""What a training goes through: phases of data and stages, and the settings that the loop reads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fewscan.config import Config, LoggingSettings
from fewscan.data.store import Store
from fewscan.methods.base import Stage
from fewscan.optimiser import OptimiserSettings


class Phase(NamedTuple):
    """A stretch of training on one store: today's runs are of one phase, a sequence of sites is one phase each.

    Attributes:
        name: Name of the phase, which the method and the callbacks are told.
        data: Store of the labelled and unlabelled patches that batches are drawn from.
        stages: Stages in their order; those of no updates are left out.
    """

    name: str
    data: Store
    stages: tuple[Stage, ...]

    @property
    def updates(self) -> int:
        """Number of updates in all stages."""
        return sum(stage.updates for stage in self.stages)


class LoopSettings(NamedTuple):
    """The part of a run's settings that the loop reads.

    Attributes:
        optimiser: Settings of SGD and of its learning rate.
        logging: Numbers of updates between two lines of the log, and between two validations.
        seed: Seed, 0 or more, of the order of patches and of what steps draw.
    """

    optimiser: OptimiserSettings
    logging: LoggingSettings
    seed: int

    @classmethod
    def of(cls, config: Config) -> LoopSettings:
        """The loop's part of a run's settings."""
        return cls(config.optimiser, config.logging, config.seed)

    def sampler_seed(self, phase: int) -> int:
        """The seed of a phase's samplers: the run's own for the first phase, others for those that follow.

        Args:
            phase: Number of the phase, from 0.
        """
        if phase == 0:
            return self.seed
        return int(np.random.SeedSequence([self.seed, phase]).generate_state(1)[0])
