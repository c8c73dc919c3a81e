"""The contracts find what they are there to find: each broken part fails the test of its fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewscan.losses.segmentation import cross_entropy
from fewscan.methods.base import Batch, Method, StepInfo
from fewscan.methods.mean_teacher import MeanTeacher
from fewscan.methods.supervised import Supervised
from fewscan.networks.blocks import Decoder
from fewscan.networks.unet import UNet, UNetSettings
from fewscan.testing.methods import SIZES, MethodContract
from fewscan.testing.networks import NetworkContract

SMALL = UNetSettings(channels=(4, 6), dropout=(0.0, 0.0))


class RoughLogits(UNet):
    def decode(self, levels: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        logits, pyramid = super().decode(levels)
        return logits if self.precision is None else logits.to(self.precision), pyramid


class OwnStatistics(UNet):
    def encode(self, images: Tensor) -> list[Tensor]:
        return super().encode(images - images.mean())


class ForgottenBuffer(UNet):
    scale: Tensor

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.register_buffer("scale", torch.full((), 2.0), persistent=False)

    def encode(self, images: Tensor) -> list[Tensor]:
        return super().encode(images * self.scale)


class WritingEncoder(UNet):
    def encode(self, images: Tensor) -> list[Tensor]:
        return super().encode(images.mul_(2))


class SharedDecoder(UNet):
    def make_decoder(self, upsampling: Any = "linear") -> Decoder:
        decoder = super().make_decoder(upsampling)
        decoder.classifier = self.classifier
        return decoder


class IdleWeight(UNet):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.idle = nn.Parameter(torch.zeros(3))


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (RoughLogits, "test_lower_precision_is_near_logits_are_exact_and_maps_are_left_in_it"),
        (OwnStatistics, "test_an_image_is_predicted_alike_whatever_it_is_beside"),
        (ForgottenBuffer, "test_the_state_dict_is_all_that_a_network_is"),
        (WritingEncoder, "test_inputs_and_levels_are_not_written_to"),
        (SharedDecoder, "test_further_decoders_read_the_same_levels_and_are_apart"),
        (IdleWeight, "test_every_weight_takes_part"),
    ],
)
def test_a_broken_network_fails(broken: type[UNet], test: str) -> None:
    contract = type("Contract", (NetworkContract,), {"network": broken, "settings": SMALL})()
    sound = type("Contract", (NetworkContract,), {"network": UNet, "settings": SMALL})()
    getattr(sound, test)(2)
    # A buffer that is not in the state dict stays without values, which PyTorch refuses itself.
    with pytest.raises((AssertionError, RuntimeError)):
        getattr(contract, test)(2)


class TrainedTeacher(MeanTeacher):
    def train(self, mode: bool = True) -> TrainedTeacher:
        self.teacher.requires_grad_(True)
        return super().train(mode)


class ForgottenCount(Supervised):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.updates = 0

    def forward(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        self.updates += 1
        return {name: self.updates * term for name, term in super().forward(batch, info).items()}


class TaughtByIgnored(Supervised):
    def forward(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        images, target = self.augment.labelled(batch.images_labelled, batch.labels, info.generator)
        return {"sup": cross_entropy(self.student(images), target.labels.clamp_max(2), target.weights)}


class DeafToWeights(Supervised):
    def forward(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        images, target = self.augment.labelled(batch.images_labelled, batch.labels, info.generator)
        return {"sup": cross_entropy(self.student(images), target.labels)}


class WritingStep(Supervised):
    def forward(self, batch: Batch, info: StepInfo) -> dict[str, Tensor]:
        batch.images_labelled.add_(1)
        return super().forward(batch, info)


def contract_of(method: type[Method]) -> MethodContract:
    return type("Contract", (MethodContract,), {"method": method})()


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (TrainedTeacher, "test_only_what_is_trained_takes_gradient"),
        (ForgottenCount, "test_same_seed_same_step_and_resume_is_exact"),
        (WritingStep, "test_terms_are_finite_scalars_and_the_batch_is_not_modified"),
    ],
)
def test_a_broken_method_fails(broken: Any, test: str) -> None:
    contract = contract_of(broken)
    stage = contract.build(SIZES[0]).stages()[0].name
    with pytest.raises(AssertionError):
        getattr(contract, test)(SIZES[0], stage)


def test_a_method_that_learns_from_ignored_pixels_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    contract_of(Supervised).test_what_is_ignored_teaches_nothing(SIZES[0], "supervised", monkeypatch)
    with pytest.raises(AssertionError):
        contract_of(TaughtByIgnored).test_what_is_ignored_teaches_nothing(SIZES[0], "supervised", monkeypatch)


def test_a_method_that_does_not_hear_of_weights_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError):
        contract_of(DeafToWeights).test_what_weighs_nothing_teaches_nothing(SIZES[0], "supervised", monkeypatch)
