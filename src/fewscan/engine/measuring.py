"""How long things take, measured by doing them: the updates of a method's stages, and whatever else is timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from fewscan.data.patches import Patches
from fewscan.distributed.batchnorm import synchronise
from fewscan.distributed.collectives import count, largest_over_ranks
from fewscan.engine.batches import Batches
from fewscan.engine.loop import take_step
from fewscan.engine.phases import LoopSettings, Phase
from fewscan.methods.base import Method, Preparation, Stage, StepInfo
from fewscan.optimiser import make_optimiser, set_learning_rate

# Repetitions that are timed: as many as take this long together, but no fewer and no more than so many; of updates no
# more than this share of their stage, so that a short training is not half spent on being announced.
ENOUGH_SECONDS = 3.0
FEWEST, MOST = 5, 40
# Of what takes a second or so.
FEW = 3
SHARE = 0.05


class Rehearsed(NamedTuple):
    """What phases were found to take.

    Attributes:
        updates: Seconds of an update, by phase and stage; 0 for those that were not measured.
        preparations: What comes before the first update, by phase; it was not done.
    """

    updates: tuple[tuple[float, ...], ...]
    preparations: tuple[Preparation, ...]


def rehearse(
    method: Method,
    phases: Sequence[Phase],
    settings: LoopSettings,
    left: Sequence[Sequence[int]],
    clock: Callable[[], float] = time.perf_counter,
) -> Rehearsed:
    """Measure the seconds of an update of every stage, on batches of the phases' own stores.

    The method is trained by it and cannot be used for anything else afterwards. Draws come from generators of its own
    and from torch's global one. Of several ranks each calls it, and each has its own seconds.

    Args:
        method: Throwaway method, on the device of the phases' batches.
        phases: Phases in their order.
        settings: Optimiser and seed.
        left: Number of updates that are left, by phase and stage; a stage without any is not measured.
        clock: Function that gives the time in s.
    """
    if count() > 1:
        synchronise(method)
    generator = torch.Generator(phases[0].data.device).manual_seed(settings.seed)
    measured, preparations = [], []
    for number, phase in enumerate(phases):
        preparations.append(method.rehearse_phase(number, phase.name, phase.data))
        method.train()
        batches = Batches(phase.data, settings.sampler_seed(number))
        measured.append(
            tuple(
                _measure_stage(method, stage, settings, batches, generator, clock) if updates > 0 else 0.0
                for stage, updates in zip(phase.stages, left[number], strict=True)
            )
        )
    return Rehearsed(tuple(measured), tuple(preparations))


def _measure_stage(
    method: Method,
    stage: Stage,
    settings: LoopSettings,
    batches: Batches,
    generator: torch.Generator,
    clock: Callable[[], float],
) -> float:
    method.start_stage(stage)
    optimiser = make_optimiser(method, settings.optimiser)
    # In the middle of the stage, where no ramp is at its beginning.
    info = StepInfo(generator, stage.updates // 2, stage.updates)

    def update() -> None:
        set_learning_rate(optimiser, settings.optimiser, info.update, info.updates)
        batch = batches.draw(stage)
        _, loss = take_step(method, optimiser, settings.optimiser, batch, info)
        method.pop_diagnostics()
        # Waits for the device.
        float(loss)

    most = max(1, min(MOST, int(SHARE * stage.updates)))
    return median_seconds(update, least=min(FEWEST, most), most=most, clock=clock)


def median_seconds(
    action: Callable[[], object],
    *,
    least: int = FEWEST,
    most: int = MOST,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Repeat an action and take the median of its seconds; of several ranks all repeat it as often.

    Args:
        action: Function whose calls are timed; it waits for the device itself.
        least: Number of repetitions at least, from 1.
        most: Number of repetitions at most.
        warm_up: Number of repetitions before those that count.
        clock: Function that gives the time in s.
    """
    for _ in range(warm_up):
        action()
    seconds: list[float] = []
    while len(seconds) < most:
        started = clock()
        action()
        seconds.append(clock() - started)
        (has_enough,) = largest_over_ranks(int(sum(seconds) >= ENOUGH_SECONDS))
        if has_enough and len(seconds) >= least:
            break
    return statistics.median(seconds)


def seconds_of_patch(
    action: Callable[[Patches], object], patches: Patches, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Measure the seconds that a patch takes as part of a batch, or alone, where single ones take long.

    Args:
        action: Function of patches whose calls are timed; it waits for the device itself.
        patches: Patches of a batch, at least one.
        clock: Function that gives the time in s.
    """
    started = clock()
    for number in range(len(patches)):
        action(patches[number : number + 1])
        taken = clock() - started
        if taken >= ENOUGH_SECONDS:
            return taken / (number + 1)
    return median_seconds(lambda: action(patches), least=1, most=FEW, clock=clock) / len(patches)
