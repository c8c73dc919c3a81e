"""The same training steps for one process with a whole batch, and for ranks that share it, to be compared.

`torchrun --nproc-per-node=2 tests/support/two_ranks.py FOLDER` writes what each rank has come to.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from fewscan.augment.mix import PseudoLabelled
from fewscan.augment.policy import AugmentationSettings
from fewscan.augment.targets import Target
from fewscan.config import CheckpointSettings
from fewscan.data.patches import Patches
from fewscan.distributed import collectives as ranks
from fewscan.distributed.batchnorm import synchronise
from fewscan.engine.checkpoint import Checkpoints, Generators
from fewscan.engine.course import Course, lengths_of
from fewscan.engine.loop import average_gradients, broadcast_initial_state, fit, weighted_sum
from fewscan.engine.phases import LoopSettings, Phase
from fewscan.engine.statistics import clean_statistics
from fewscan.errors import Interrupted
from fewscan.methods.base import Batch, ModelSpec, Stage, TrainingSettings
from fewscan.networks.unet import UNetSettings
from fewscan.optimiser import OptimiserSettings, make_optimiser
from fewscan.registry import METHODS
from fewscan.testing.methods import SIZES, step_info
from support.sites import FIRST, OverSites, phases_of
from support.steps import Store, settings_for
from support.trainings import Stopper, config_of, told, train

TRAINING = TrainingSettings(updates=9, labelled=4, unlabelled=4)
N_CLASSES = 3
UPDATES = 3
CONFIG = config_of(every=1)
SURE = {"confident_from": 0.36}
SMALL = {"embedding": 16, "bank_size": 6, "representation": 8}
ACTION = {"use_anco": False, **SMALL, **SURE}
PLUS = {"queue": 600, **SMALL, "assign_every": 1, **SURE}

# Everything but what is drawn: those methods are left out whose steps draw more than can be turned off.
CASES: dict[str, tuple[str, str, Mapping[str, Any]]] = {
    "supervised": ("supervised", "supervised", {}),
    "mean_teacher": ("mean_teacher", "semi", {}),
    "mean_teacher, averaged": ("mean_teacher", "semi", {"teacher_statistics": "averaged"}),
    "ua_mt": ("ua_mt", "semi", {"passes": 1, "noise": 0.0, "threshold_start": 0.999}),
    "entropy": ("entropy", "semi", {}),
    "cps": ("cps", "semi", {}),
    "urpc": ("urpc", "semi", {"levels": 2}),
    "mc_net": ("mc_net", "semi", {}),
    "dtc": ("dtc", "semi", {}),
    "fixmatch": ("fixmatch", "semi", SURE),
    # In the first turn, which is a long one: the second draws boxes.
    "ad_mt": ("ad_mt", "semi", {"longest_turn": 1000, **SURE}),
    "unimatch": ("unimatch", "semi", {"channel_dropout": 0.0, **SURE}),
    **{f"gcl, {stage}": ("gcl", stage, {"pretraining": {"unlabelled": 4}}) for stage in ("global", "local")},
    **{f"action, {stage}": ("action", stage, ACTION) for stage in ("global", "local", "anatomical")},
    "action, own anchors": ("action", "local", {"random_anchors": False, **ACTION}),
    "action, image_weighted": ("action", "anatomical", {"unsup_form": "image_weighted", **ACTION}),
    **{f"action_pp, {stage}": ("action_pp", stage, PLUS) for stage in ("global", "local", "anatomical")},
}


class Still:
    """Views that nothing is drawn for."""

    def labelled(self, images: Tensor, labels: Tensor, *_: object) -> tuple[Tensor, Target]:
        return images, Target(labels)

    weak_labelled = labelled

    def weak(self, images: Tensor, *_: object) -> Tensor:
        return images

    def strong(self, images: Tensor, *_: object) -> Tensor:
        return images + 0.3 * images.sin()

    intensity = strong

    def strong_with_labels(self, weak: PseudoLabelled, *_: object) -> PseudoLabelled:
        return weak._replace(images=self.strong(weak.images))


def every_true(masks: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """In place of `draw_true`, for masks that are true in equally many places: all of them."""
    return masks.nonzero()[:, 1].reshape(len(masks), -1)


def build(name: str, dropout: float = 0.0, **settings: Any) -> Any:
    torch.manual_seed(0)
    network = UNetSettings(channels=(4, 6, 8), dropout=(dropout,) * 3)
    kind = METHODS.find(name)
    spec = ModelSpec(1, N_CLASSES, SIZES[0], network, AugmentationSettings(), TRAINING)
    return kind(spec, settings_for(kind, TRAINING, **settings))


def share_of_batch(stage: Stage) -> Batch:
    """This rank's images; every image has its classes in other places, and equally many pixels of each."""
    generator = torch.Generator().manual_seed(3)
    n = stage.labelled
    order = torch.rand(n, SIZES[0][0] * SIZES[0][1], generator=generator).argsort(dim=1)
    labels = (order % N_CLASSES).reshape(n, *SIZES[0])
    images = torch.randn(n, 1, *SIZES[0], generator=generator).double() + labels[:, None]
    unlabelled = torch.randn(stage.unlabelled, 1, *SIZES[0], generator=generator).double() * 2
    own, own_unlabelled = (ranks.own_share(np.arange(count)) for count in (n, stage.unlabelled))
    return Batch(images[own], labels[own], unlabelled[own_unlabelled])


def run_case(name: str) -> dict[str, Any]:
    """Terms and gradients of the first update, the state after it and after some more."""
    method_name, stage_name, settings = CASES[name]
    method = build(method_name, **settings).double()
    method.augment = Still()
    stage = next(stage for stage in method.stages() if stage.name == stage_name)
    method.start_stage(stage)
    if ranks.count() > 1:
        broadcast_initial_state(method, Generators(torch.Generator(), 0, 0))
    method.train()
    optimiser = make_optimiser(method, OptimiserSettings(learning_rate=0.05))
    batch, found = share_of_batch(stage), {}
    # Two processes draw pixels of their own: what one process comes to is comparable where all pixels are drawn.
    with mock.patch("fewscan.methods.action_pp.draw_true", every_true):
        for update in range(UPDATES):
            terms = method(batch, step_info(update))
            loss = weighted_sum(terms, method.weights(step_info(9)))
            optimiser.zero_grad()
            loss.backward()
            terms, loss = average_gradients(method, terms, loss)
            if update == 0:
                gradients = {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}
                values = {name: value.detach() for name, value in {**terms, "loss": loss}.items()}
                found = {"terms": values, "gradients": gradients}
                found["first"] = copy.deepcopy(dict(method.named_buffers()))
            optimiser.step()
            method.after_update(step_info(update))
    return {**found, "last": method.state_dict()}


def run_norm(precision: torch.dtype) -> dict[str, Any]:
    """Output, gradients and running statistics of a batch normalisation of a large mean, in training and after it."""
    generator = torch.Generator().manual_seed(0)
    x = (100 + torch.randn(4, 3, 5, 6, generator=generator)).to(precision)
    slope = torch.randn(4, 3, 5, 6, generator=generator).to(precision)
    own = ranks.own_share(np.arange(4))
    norm = nn.BatchNorm2d(3)
    net = nn.Sequential(norm)
    torch.nn.init.uniform_(norm.weight, generator=generator)
    if ranks.count() > 1:
        synchronise(net)
    x = x[own].requires_grad_()
    y = net(x)
    (y * slope[own]).sum().backward()
    gradients = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    weights = ranks.sum_over_ranks(*gradients)
    return {"y": y.detach(), "x": x.grad, "weights": torch.stack(weights), **net.state_dict(), "eval": net.eval()(x)}


class SpiedStore(Store):
    """Remembers which slices were asked for, each a case of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[int]] = []

    def images(self, patches: Patches) -> Tensor:
        self.asked.append(patches.case.tolist())
        return super().images(patches)


def run_fit(name: str) -> dict[str, Any]:
    """A short training with all that is drawn; what it came to."""
    method, store = build(name, dropout=0.3, **SMALL), SpiedStore()
    if ranks.rank() > 0:
        # Ranks start from the weights of rank 0, whatever their own.
        nn.init.zeros_(method.student.classifier.weight)
    records = train(method, CONFIG, told(), store=store)
    return {"state": method.state_dict(), "asked": store.asked, "losses": [record["loss"] for record in records]}


def run_broken(name: str, folder: Path, at: int) -> dict[str, Any]:
    """The same training, stopped after an update by a signal that the last rank alone has got, then gone on with."""
    checkpoints = Checkpoints(folder / f"{name} {at}", CheckpointSettings(every=0, minutes=0))
    stopper = Stopper(at if ranks.rank() == ranks.count() - 1 else None)
    try:
        train(build(name, dropout=0.3, **SMALL), CONFIG, told(None, None, stopper), checkpoints=checkpoints)
    except Interrupted as stop:
        ranks.largest_over_ranks(0)
        saved = checkpoints.newest(print)
        assert saved is not None
        method = build(name, dropout=0.3, **SMALL)
        records = train(method, CONFIG, told(), checkpoints=checkpoints, resume=saved)
        losses = [record["loss"] for record in records]
        return {"state": method.state_dict(), "losses": losses, "said": stop.message, "ranks": saved.ranks}
    raise AssertionError("nothing was stopped")


def run_phases(folder: Path, at: int | None = None) -> dict[str, Any]:
    """A training of two phases, the second of which adds what is drawn; stopped if wanted, and gone on with."""
    checkpoints = Checkpoints(folder / "phases", CheckpointSettings(every=0, minutes=0))
    settings = LoopSettings.of(CONFIG)
    if at is not None:
        method = OverSites()
        try:
            fit(method, phases_of(method), settings, told(None, None, Stopper(at)), checkpoints=checkpoints)
        except Interrupted:
            ranks.largest_over_ranks(0)
        else:
            raise AssertionError("nothing was stopped")
    method = OverSites()
    resume = checkpoints.newest(print) if at is not None else None
    records = fit(method, phases_of(method), settings, told(), resume=resume)
    return {"state": method.state_dict(), "losses": [record["loss"] for record in records]}


def run_limited() -> dict[str, Any]:
    """A training whose length the first rank chooses on the way."""
    method = build("mean_teacher")
    phases = (Phase("training", Store(), method.stages()),)
    course = Course(lengths_of(phases))
    totals = iter([6, 8])
    course.limit(lambda *_: next(totals, 7) if ranks.rank() == 0 else 0)
    records = fit(method, phases, LoopSettings.of(CONFIG), told(), course=course)
    rates = [record["lr"] for record in records]
    return {"state": method.state_dict(), "rates": rates, "course": course.state_dict()}


def run_clean() -> dict[str, Any]:
    """Clean statistics as the first rank has them, the others do not wait for it; all buffers afterwards."""
    method = build("action", **SMALL).double()
    store = Store()
    store._images = store._images.double()
    if ranks.count() > 1:
        broadcast_initial_state(method, Generators(torch.Generator(), 0, 0))
    found = {}
    if ranks.rank() == 0:
        with clean_statistics(method.networks().values(), store):
            found = copy.deepcopy(dict(method.named_buffers()))
    return {"clean": found, "after": dict(method.named_buffers())}


def main(folder: Path) -> None:
    with ranks.joined(torch.device("cpu")):
        found: dict[str, Any] = {name: run_case(name) for name in CASES}
        found |= {f"fit {name}": run_fit(name) for name in ("action", "action_pp")}
        found |= {f"broken {at}": run_broken("action", folder, at) for at in (2, 8)}
        found |= {f"norm {precision}": run_norm(precision) for precision in (torch.float32, torch.bfloat16)}
        found["phases"] = run_phases(folder)
        found["broken phases"] = run_phases(folder, FIRST + 2)
        found["limited"] = run_limited()
        found["clean"] = run_clean()
        found["draws"] = torch.rand(3)
        found["text"] = ranks.text_from_first("ψ" if ranks.rank() == 0 else "")
        found["largest"] = ranks.largest_over_ranks(ranks.rank(), -ranks.rank())
        torch.save(found, folder / f"{ranks.rank()}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
