"""The training loop. It reads from top to bottom and knows no method by name."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewscan.distributed.batchnorm import synchronise
from fewscan.distributed.collectives import average_over_ranks, copy_from_first, count, largest_over_ranks, rank
from fewscan.engine.batches import Batches
from fewscan.engine.callbacks import Callback, Callbacks, UpdateInfo
from fewscan.engine.checkpoint import Checkpoint, Checkpoints, Generators, Stateful, take_states
from fewscan.engine.course import Course, Place, lengths_of
from fewscan.engine.interrupt import Interrupt, watch_signals
from fewscan.engine.phases import LoopSettings, Phase
from fewscan.engine.records import Record
from fewscan.errors import ConfigError, Interrupted
from fewscan.methods.base import Batch, Method, Stage, StepInfo
from fewscan.optimiser import OptimiserSettings, clip_gradients, make_optimiser, set_learning_rate

# Part of a checkpoint: the lengths of stages, where they are not the recipe's.
COURSE = "course"


def fit(
    method: Method,
    phases: Sequence[Phase],
    settings: LoopSettings,
    callbacks: Sequence[Callback],
    *,
    checkpoints: Checkpoints | None = None,
    resume: Checkpoint | None = None,
    course: Course | None = None,
) -> list[Record]:
    """Train a method through phases, and through each phase's stages.

    A phase has samplers of its own, a stage an optimiser of its own; weights, heads, banks and generators go on from
    one to the next. Checkpoints and the answer to signals are the loop's own, and no callbacks: they come last after
    an update, and together, so that what is saved is what training stops with.

    Of several ranks each calls it, with the same arguments but for callbacks: see `Callback`.

    Args:
        method: Method to train, on the device of the phases' batches.
        phases: Phases in their order, one or more, all on one device.
        settings: Optimiser, logging and seed.
        callbacks: Callbacks to be told how training goes on, in the order of the calls.
        checkpoints: Checkpoints, where the state is saved when that is due, at the end of every stage and when a signal
            asks to stop; None: nothing is saved.
        resume: Checkpoint of a training of the same phases, to go on from; None: from the start.
        course: Course that `set_out` has made, and that may make stages shorter; None: they are as the phases say.

    Returns:
        The records of the log, those before `resume` included.

    Raises:
        ConfigError: Two callbacks have one name, or `resume` has other callbacks' states or is of another device.
        FewscanError: A callback refuses to go on (a loss term or a weight is not finite, a file cannot be written), or
            another rank has gone.
        Interrupted: SIGINT or SIGTERM asked to stop; the update is done and saved.
        ValueError: `resume` stands in a phase or a stage that is not there.
    """
    told = Callbacks(callbacks, resume.records if resume is not None else ())
    generator = torch.Generator(phases[0].data.device).manual_seed(settings.seed)
    done = resume.done if resume is not None else 0
    course = course if course is not None else set_out(phases, resume)
    with watch_signals() as interrupt:
        training = _Training(method, phases, settings, told, checkpoints, generator, interrupt, course, done)
        training.run(resume)
    return told.records


def set_out(phases: Sequence[Phase], resume: Checkpoint | None) -> Course:
    """Make the course of a training that begins or goes on.

    Args:
        phases: Phases with the lengths of the recipe.
        resume: Checkpoint of the training; None: it begins.
    """
    course = Course(lengths_of(phases))
    if resume is not None and COURSE in resume.parts:
        course.load_state_dict(resume.parts[COURSE])
    elif resume is not None and course.total > 0:
        course.advance(resume.done)
    return course


@dataclass
class _Training:
    """What the loop holds from the first phase to the last.

    Attributes:
        method: Method in training.
        phases: Phases in their order, with the lengths of the recipe.
        settings: Optimiser, logging and seed.
        callbacks: All who are told.
        checkpoints: Checkpoints, where states are saved; None: nothing is saved.
        generator: Generator, on the device, that steps draw from.
        interrupt: Whether a signal asks to stop.
        course: Lengths of the stages.
        done: Number of updates so far.
    """

    method: Method
    phases: Sequence[Phase]
    settings: LoopSettings
    callbacks: Callbacks
    checkpoints: Checkpoints | None
    generator: torch.Generator
    interrupt: Interrupt
    course: Course
    done: int

    def run(self, resume: Checkpoint | None) -> None:
        """Go through the phases, or through what is left of them."""
        if resume is not None and not _is_there(resume, self.course.of(self.phases)):
            raise ValueError(f"the checkpoint stands in stage {resume.stage} of phase {resume.phase}: there is none")
        self.callbacks.on_start(tuple(self.callbacks.records))
        for number, phase in enumerate(self.phases):
            # Told of phases that are done, too: what they have added to the method is there before its state comes.
            self.method.start_phase(number, phase.name, phase.data)
            if resume is None or number > resume.phase:
                self._tell_findings(phase)
            if resume is None or number >= resume.phase:
                self._run_phase(number, phase, resume if resume is not None and number == resume.phase else None)
        if self.course.total == 0:
            self._end_untrained(resume)
        self.callbacks.on_end()

    def _tell_findings(self, phase: Phase) -> None:
        """Write down what the method has found out of the phase's scans, where it has."""
        findings = self.method.findings()
        if findings:
            self.callbacks.tell({"update": self.done, "stage": phase.name, "values": {**findings}})

    def _end_untrained(self, resume: Checkpoint | None) -> None:
        """Save a training without an update, or go on with it: no stage has ended, which is where others are saved."""
        parts: dict[str, Stateful] = {
            "method": self.method,
            "callbacks": self.callbacks,
            "generators": self._generators(),
        }
        if resume is not None:
            resume.restore(parts)
        (asked,) = largest_over_ranks(self.interrupt.signal or 0)
        if self.checkpoints is not None and resume is None:
            last = len(self.phases) - 1
            self.checkpoints.save(Checkpoint(last, 0, 0, 0, self.callbacks.records, take_states(parts)))
        self._stop_if(asked)

    def _run_phase(self, number: int, phase: Phase, resume: Checkpoint | None) -> None:
        """Go through a phase's stages, or those from a checkpoint on."""
        if count() > 1:
            broadcast_initial_state(self.method, self._generators())
        self.method.train()
        self.callbacks.on_phase_start(phase)
        batches = Batches(phase.data, self.settings.sampler_seed(number))
        first = resume.stage if resume is not None else 0
        for place, stage in enumerate(phase.stages[first:], first):
            if stage.updates > 0:
                self._run_stage((number, place), batches, resume if place == first else None)
        self.callbacks.on_phase_end(phase)

    def _run_stage(self, place: Place, batches: Batches, resume: Checkpoint | None) -> None:
        """Do a stage's updates, or those that follow a checkpoint within it."""
        phase, stage = self._at(place)
        self.method.start_stage(stage)
        optimiser = make_optimiser(self.method, self.settings.optimiser)
        self.callbacks.on_stage_start(stage)
        parts: dict[str, Stateful] = {
            "method": self.method,
            "optimiser": optimiser,
            "callbacks": self.callbacks,
            "batches": batches,
            "generators": self._generators(),
        }
        if self.course.is_limited:
            parts[COURSE] = self.course
        if resume is not None:
            resume.restore(parts)
        update = resume.update if resume is not None else 0
        while update < stage.updates:
            if self.course.decide(place, update, self.done):
                phase, stage = self._at(place)
            info = self._update(phase, stage, update, optimiser, batches)
            self.callbacks.on_update(info)
            self._save_or_stop(place, info, parts)
            update += 1
        self.callbacks.on_stage_end(stage)

    def _at(self, place: Place) -> tuple[Phase, Stage]:
        """Phase and stage with the lengths that they have now."""
        number, of_phase = place
        phase = self.course.of(self.phases)[number]
        return phase, phase.stages[of_phase]

    def _update(
        self, phase: Phase, stage: Stage, update: int, optimiser: torch.optim.Optimizer, batches: Batches
    ) -> UpdateInfo:
        """Do one update; nothing is waited for."""
        rate = set_learning_rate(optimiser, self.settings.optimiser, update, stage.updates)
        batch = batches.draw(stage)
        terms, loss = take_step(
            self.method, optimiser, self.settings.optimiser, batch, StepInfo(self.generator, update, stage.updates)
        )
        self.done += 1
        is_last, logging = update == stage.updates - 1, self.settings.logging
        return UpdateInfo(
            method=self.method,
            phase=phase,
            stage=stage,
            update=update,
            done=self.done,
            total=self.course.total,
            percent=self.course.advance(self.done),
            learning_rate=rate,
            batch=batch,
            drawn=batches.drawn,
            terms=terms,
            loss=loss,
            diagnostics=self.method.pop_diagnostics(),
            is_log_due=is_last or _is_due(self.done, logging.every),
            is_validation_due=self.done == self.course.total or _is_due(self.done, logging.validate_every),
        )

    def _save_or_stop(self, place: Place, info: UpdateInfo, parts: Mapping[str, Stateful]) -> None:
        """Save what is due, and stop where a signal has asked for it; all ranks do so after the same update."""
        is_due = self.checkpoints is not None and self.checkpoints.due(self.done)
        asked, due = largest_over_ranks(self.interrupt.signal or 0, is_due)
        is_last = info.update == info.stage.updates - 1
        if self.checkpoints is not None and (is_last or asked or due):
            self.callbacks.on_checkpoint(info)
            records = self.callbacks.records
            self.checkpoints.save(Checkpoint(*place, info.update + 1, self.done, records, take_states(parts)))
        self._stop_if(asked)

    def _stop_if(self, asked: int) -> None:
        if asked:
            name = signal.Signals(asked).name
            raise Interrupted(asked, _farewell(name, self.done, self.course.total, self.checkpoints))

    def _generators(self) -> Generators:
        return Generators(self.generator, self.settings.seed, self.done)


def _is_there(resume: Checkpoint, phases: Sequence[Phase]) -> bool:
    """Whether the phases have the stage that a checkpoint stands in, as long as it was."""
    if sum(phase.updates for phase in phases) == 0:
        return resume.done == 0
    if resume.phase >= len(phases) or resume.stage >= len(phases[resume.phase].stages):
        return False
    return resume.update <= phases[resume.phase].stages[resume.stage].updates


def _is_due(done: int, every: int) -> bool:
    """Whether something is due after so many updates; 0: never."""
    return every > 0 and done % every == 0


def take_step(
    method: Method,
    optimiser: torch.optim.Optimizer,
    settings: OptimiserSettings,
    batch: Batch,
    info: StepInfo,
) -> tuple[dict[str, Tensor], Tensor]:
    """Update all weights once.

    Returns:
        The loss terms and their weighted sum, means over the ranks, without gradient.
    """
    terms = method(batch, info)
    loss = weighted_sum(terms, method.weights(info))
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    terms, loss = average_gradients(method, terms, loss)
    clip_gradients(method.parameters(), settings)
    optimiser.step()
    method.after_update(info)
    return terms, loss


def _farewell(name: str, done: int, total: int, checkpoints: Checkpoints | None) -> str:
    stopped = f"Stopped by {name} after update {done} of {total}."
    if checkpoints is None:
        return stopped
    return f"{stopped} `fewscan train` with the same options and --resume goes on from there."


def broadcast_initial_state(method: Method, generators: Generators) -> None:
    """Let ranks start a phase as one: the weights of rank 0, batch statistics of all, and draws of their own.

    Rank 0 draws on where it is, as one process would.
    """
    synchronise(method)
    copy_from_first([*method.parameters(), *method.buffers()])
    if rank() > 0:
        generators.reseed()


def average_gradients(method: Method, terms: dict[str, Tensor], loss: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Average gradients, terms and loss over the ranks, in one exchange after the backward pass.

    What no rank uses in a stage has no gradient on any of them: steps do not branch on what is in a batch.
    """
    values = [value.detach() for value in (*terms.values(), loss)]
    if count() == 1:
        return dict(zip(terms, values[:-1], strict=True)), values[-1]
    means = [value.clone() for value in values]
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    average_over_ranks([*gradients, *means])
    return dict(zip(terms, means[:-1], strict=True)), means[-1]


def check_batches(method: Method, name: str, *, processes: int = 1) -> None:
    """Refuse what a stage cannot work with: its batches, or a network that nothing can be taught.

    Args:
        method: Method whose stages are looked at.
        name: Name of the method in the settings, for messages.
        processes: Number of processes that share every batch.

    Raises:
        ConfigError: A stage has an empty batch, fewer images than it needs, or a batch that the processes cannot share
            evenly; or there are updates and no weight.
    """
    stages = [stage for stage in method.stages() if stage.updates > 0]
    for stage in stages:
        _check_batch(stage, stage.full_section(name), processes)
    if stages and not any(weight.requires_grad for weight in method.student.parameters()):
        kind = method.student.settings.kind
        raise ConfigError(
            f"network.kind={kind}: this network has no weights, and {name} trains them. Choose another network, or "
            "the method that makes this one."
        )


def _check_batch(stage: Stage, section: str, processes: int) -> None:
    kinds = (
        ("labelled", stage.labelled, stage.fewest_labelled),
        ("unlabelled", stage.unlabelled, stage.fewest_unlabelled),
    )
    for kind, images, fewest in kinds:
        least = processes * fewest
        if images < least:
            of_each = "every process" if processes > 1 else "a batch"
            raise ConfigError(
                f"{section}.{kind}: {images} is too few: stage {stage.name} needs {fewest} in {of_each}. "
                f"Set it to {least} or more."
            )
        fewer = images // processes * processes
        if fewer < images:
            raise ConfigError(
                f"{section}.{kind}: {processes} processes cannot share {images} images evenly. "
                f"Set it to {fewer + processes}{f' or {fewer}' if fewer >= max(least, 1) else ''}."
            )
    if stage.labelled + stage.unlabelled == 0:
        raise ConfigError(f"{section}: labelled and unlabelled are both 0. Raise one of them.")


def weighted_sum(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Σ weight · term."""
    return torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
