"""What every method owes the training loop, as tests, and small batches to try a step with."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from fewscan.augment.policy import AugmentationSettings
from fewscan.augment.targets import Target
from fewscan.classes import IGNORED
from fewscan.engine.loop import weighted_sum
from fewscan.methods.base import Batch, Method, MethodSettings, ModelSpec, Stage, StepInfo, TrainingSettings
from fewscan.networks.segmenter import NetworkSettings, SegmentationNetwork
from fewscan.networks.unet import UNetSettings
from fewscan.optimiser import OptimiserSettings, make_optimiser

if TYPE_CHECKING:
    import pytest

N_CLASSES = 3
SIZES: tuple[tuple[int, ...], ...] = ((16, 24), (16, 32, 24))
SMALL_NETWORK = UNetSettings(channels=(4, 6, 8), dropout=(0, 0, 0.2))
View = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Target]]
TRAINING = TrainingSettings(updates=6, labelled=2, unlabelled=2)


def make_spec(
    size: tuple[int, ...] = SIZES[0],
    network: NetworkSettings = SMALL_NETWORK,
    training: TrainingSettings = TRAINING,
) -> ModelSpec:
    """Specification of a small method: one channel, three classes, six updates, volumes that are whole scans.

    Args:
        size: Sides of the images in pixels, two or three numbers.
        network: Settings of the segmentation network.
        training: Length and batch of the training.
    """
    return ModelSpec(1, N_CLASSES, size, network, AugmentationSettings(), training, whole=len(size) == 3)


def draw_batch(stage: Stage, size: tuple[int, ...], seed: int = 0) -> Batch:
    """Random labels, images that show them under noise, and noise without labels from anywhere in a scan.

    Args:
        stage: Stage whose numbers of labelled and unlabelled images the batch has.
        size: Sides of the images in pixels, two or three numbers.
        seed: Seed of the batch, at least 0.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(N_CLASSES, (stage.labelled, *size), generator=generator)
    images = torch.randn(stage.labelled, 1, *size, generator=generator) + labels[:, None]
    unlabelled = torch.randn(stage.unlabelled, 1, *size, generator=generator)
    return Batch(images, labels, unlabelled, torch.rand(stage.unlabelled, generator=generator))


def step_info(update: int = 0, seed: int = 1) -> StepInfo:
    """An update of a stage of ten, with a generator of its own.

    Args:
        update: Number of the update in the stage, from 0.
        seed: Seed of the generator, at least 0.
    """
    return StepInfo(torch.Generator().manual_seed(seed), update, 10)


class MethodContract:
    """The contract of `Method`, for every stage, in 2D and in 3D.

        class TestMine(MethodContract):
            method = Mine

    Attributes:
        method: Class of the method.
        settings: Settings other than the defaults, by name.
        network: Settings of the network that the method trains.
        sizes: Sides of the images; every test of a stage runs on each that the method works on.
        label_terms: Names of the loss terms that labels teach.
        by_labels_alone: Settings with which nothing but labels teaches in those terms, by name.
        frozen_encoder: Names of the stages that leave the student's encoder as it is.
    """

    method: ClassVar[type[Method]]
    settings: ClassVar[Mapping[str, Any]] = {}
    network: ClassVar[NetworkSettings] = SMALL_NETWORK
    sizes: ClassVar[Sequence[tuple[int, ...]]] = SIZES
    label_terms: ClassVar[tuple[str, ...]] = ("sup",)
    by_labels_alone: ClassVar[Mapping[str, Any]] = {}
    frozen_encoder: ClassVar[tuple[str, ...]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Every test of a stage for every stage and size; of labels, for the stages that are given labels.

        Of a method that trains nothing there are no stages, and those tests are skipped.
        """
        if "stage" in metafunc.fixturenames:
            steps = [(size, stage.name) for size in self.works_on() for stage in self.build(size).stages()]
            metafunc.parametrize(("size", "stage"), steps)
        elif "labelled_stage" in metafunc.fixturenames:
            stages = ((size, stage) for size in self.works_on() for stage in self.build(size).stages())
            metafunc.parametrize(
                ("size", "labelled_stage"), [(size, stage.name) for size, stage in stages if stage.labelled]
            )
        elif "trained_size" in metafunc.fixturenames:
            metafunc.parametrize("trained_size", self.works_on() if self.method.trains else [])
        elif "size" in metafunc.fixturenames:
            metafunc.parametrize("size", self.works_on())

    def works_on(self) -> list[tuple[int, ...]]:
        """The sizes of as many axes as the method works on."""
        return [size for size in self.sizes if len(size) in self.method.n_dims]

    def build(self, size: tuple[int, ...], seed: int = 0, **settings: Any) -> Method:
        """The method in training mode, its weights those of a seed."""
        torch.manual_seed(seed)
        chosen = self.method.Settings(**{**self.settings, **settings})
        return self.method(make_spec(size, self.network), chosen).train()

    def start(self, size: tuple[int, ...], stage: str, **settings: Any) -> tuple[Method, Batch]:
        """The method at the start of a stage, and a batch of it."""
        method = self.build(size, **settings)
        chosen = next(each for each in method.stages() if each.name == stage)
        method.start_stage(chosen)
        return method, draw_batch(chosen, size)

    def last_stage(self, size: tuple[int, ...], **settings: Any) -> tuple[Method, Batch]:
        """The method at the start of its last stage, and a batch of it."""
        return self.start(size, self.build(size).stages()[-1].name, **settings)

    def test_settings_are_frozen_explained_and_have_defaults(self) -> None:
        settings = self.method.Settings
        assert issubclass(settings, MethodSettings)
        assert (settings.model_config.get("frozen"), settings.model_config.get("extra")) == (True, "forbid")
        assert all(field.description for field in settings.model_fields.values())
        assert settings.model_validate(settings().model_dump(mode="json", by_alias=True)) == settings()

    def test_the_networks_are_segmentation_networks_of_the_state_dict(self, size: tuple[int, ...]) -> None:
        method = self.build(size)
        networks = method.networks()
        parts = list(method.modules())
        assert networks
        for network in networks.values():
            assert isinstance(network, SegmentationNetwork)
            assert any(network is part for part in parts)
            assert (network.ndim, network.n_classes) == (len(size), N_CLASSES)

    def test_stages_are_as_long_as_the_settings_say(self, size: tuple[int, ...]) -> None:
        stages = self.build(size).stages()
        assert len({stage.name for stage in stages}) == len(stages)
        assert sum(stage.updates for stage in stages) == (TRAINING.updates if self.method.trains else 0)

    def test_terms_are_finite_scalars_and_the_batch_is_not_modified(self, size: tuple[int, ...], stage: str) -> None:
        method, batch = self.start(size, stage)
        before = copy.deepcopy(batch)
        terms = method(batch, step_info())
        assert terms
        assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())
        assert all(torch.equal(a, b) for a, b in zip(batch.tensors(), before.tensors(), strict=True))

    def test_every_weight_is_of_a_term(self, size: tuple[int, ...]) -> None:
        terms: set[str] = set()
        weights: set[str] = set()
        for stage in self.build(size).stages():
            method, batch = self.start(size, stage.name)
            terms |= set(method(batch, step_info()))
            weights |= set(method.weights(step_info()))
        assert weights <= terms

    def test_only_what_is_trained_takes_gradient(self, size: tuple[int, ...], stage: str) -> None:
        method, batch = self.start(size, stage)
        weighted_sum(method(batch, step_info()), method.weights(step_info(9))).backward()
        is_trained = stage not in self.frozen_encoder
        assert all((weight.grad is not None) == is_trained for weight in _encoder_weights(method.student, size))
        for name, parameter in method.named_parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all(), name
            if "teacher" in name:
                assert not parameter.requires_grad, name
                assert parameter.grad is None, name

    def test_what_a_step_records_takes_no_gradient_and_is_given_once(self, size: tuple[int, ...], stage: str) -> None:
        method, batch = self.start(size, stage)
        method(batch, step_info())
        assert not any(value.requires_grad for value in method.pop_diagnostics().values())
        assert method.pop_diagnostics() == {}

    def test_same_seed_same_step_and_resume_is_exact(self, size: tuple[int, ...], stage: str) -> None:
        method, batch = self.start(size, stage)
        _advance(method, batch, range(3))
        saved = copy.deepcopy(method.state_dict())
        _advance(method, batch, range(3, 5))
        resumed, _ = self.start(size, stage)
        resumed.load_state_dict(saved)
        _advance(resumed, batch, range(3, 5))
        found = resumed.state_dict()
        for name, value in method.state_dict().items():
            assert torch.equal(value, found[name]), name

    def test_one_class_in_the_batch_is_legal(self, trained_size: tuple[int, ...]) -> None:
        method, batch = self.last_stage(trained_size)
        batch.labels.zero_()
        terms = method(batch, step_info())
        weighted_sum(terms, method.weights(step_info())).backward()
        assert all(torch.isfinite(term) for term in terms.values())

    def test_lower_precision_gives_finite_terms_of_the_images_precision(
        self, size: tuple[int, ...], stage: str
    ) -> None:
        method, batch = self.start(size, stage)
        spec = dataclasses.replace(method.spec, precision=torch.bfloat16)
        rough = self.method(spec, method.settings).train()
        rough.start_stage(next(each for each in rough.stages() if each.name == stage))
        terms = rough(batch, step_info())
        assert all(term.dtype == torch.float32 and torch.isfinite(term) for term in terms.values())

    def test_what_is_ignored_teaches_nothing(
        self, size: tuple[int, ...], labelled_stage: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No gradient of a term that labels teach reaches a logit there."""
        method, batch = self.start(size, labelled_stage, **self.by_labels_alone)
        labels = batch.labels.clone()
        labels[:, size[0] // 2 :] = IGNORED
        self._assert_only_the_first_half_teaches(method, batch._replace(labels=labels), _leave, monkeypatch)

    def _assert_only_the_first_half_teaches(
        self, method: Method, batch: Batch, view: View, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No gradient of a term that labels teach reaches logits of the second half of the rows."""
        for name in ("labelled", "weak_labelled"):
            monkeypatch.setattr(method.augment, name, view)
        logits, half = _keep_logits(method.student, monkeypatch), batch.labels.shape[1] // 2
        terms = method(batch, step_info())
        assert torch.isfinite(torch.stack(list(terms.values()))).all()
        taught = torch.stack([terms[name] for name in self._label_terms(terms)]).sum()
        found = torch.autograd.grad(taught, [o for o in logits if o.requires_grad], allow_unused=True)
        gradients = [gradient for gradient in found if gradient is not None]
        assert any(gradient[:, :, :half].any() for gradient in gradients)
        assert not any(gradient[:, :, half:].any() for gradient in gradients)

    def test_what_weighs_nothing_teaches_nothing(
        self, size: tuple[int, ...], labelled_stage: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where a task gives a pixel no weight, no gradient of a term that labels teach reaches its logits."""
        method, batch = self.start(size, labelled_stage, **self.by_labels_alone)
        half = size[0] // 2

        def view(images: Tensor, labels: Tensor, _generator: torch.Generator) -> tuple[Tensor, Target]:
            weights = torch.full(labels.shape, 2.0)
            weights[:, half:] = 0
            return images, Target(labels, weights)

        self._assert_only_the_first_half_teaches(method, batch, view, monkeypatch)

    def test_a_batch_without_any_label_teaches_nothing_by_labels(self, trained_size: tuple[int, ...]) -> None:
        method, batch = self.last_stage(trained_size, **self.by_labels_alone)
        batch.labels.fill_(IGNORED)
        terms = method(batch, step_info())
        weighted_sum(terms, method.weights(step_info())).backward()
        assert all(torch.isfinite(term) for term in terms.values())
        assert all(terms[name].item() == 0 for name in self._label_terms(terms))

    def _label_terms(self, terms: Mapping[str, Tensor]) -> list[str]:
        named = [name for name in self.label_terms if name in terms]
        assert named, f"none of {self.label_terms} is a term: say which ones labels teach"
        return named


def _leave(images: Tensor, labels: Tensor, _generator: torch.Generator) -> tuple[Tensor, Target]:
    """Take the place of a view and move nothing, so that pixels of labels are pixels of logits."""
    return images, Target(labels)


def _advance(method: Method, batch: Batch, updates: range) -> None:
    # Momentum starts anew on both sides; weights, teachers, banks and statistics must not.
    optimiser = make_optimiser(method, OptimiserSettings(learning_rate=0.05))
    for update in updates:
        torch.manual_seed(update)  # of dropout
        loss = weighted_sum(method(batch, step_info(update, update)), method.weights(step_info(update)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        method.after_update(step_info(update))


def _encoder_weights(network: SegmentationNetwork, size: tuple[int, ...]) -> Iterator[torch.nn.Parameter]:
    """The weights that the coarsest map depends on."""
    maps = network.bottleneck(torch.randn(2, network.in_channels, *size))
    weights = list(network.parameters())
    used = torch.autograd.grad(maps.float().square().sum(), weights, allow_unused=True)
    return (weight for weight, gradient in zip(weights, used, strict=True) if gradient is not None)


def _keep_logits(network: SegmentationNetwork, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The logits that a network gives from here on, in their order."""
    kept: list[Tensor] = []
    decode = network.decode

    def decode_and_keep(levels: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        logits, pyramid = decode(levels)
        kept.append(logits)
        return logits, pyramid

    monkeypatch.setattr(network, "decode", decode_and_keep)
    return kept
