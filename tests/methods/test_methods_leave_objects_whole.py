"""Every method that shows images in images leaves objects whole, by its own mask as by that of `augmentation.mix`."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from fewscan.augment.intensity import IntensitySettings
from fewscan.augment.policy import AugmentationSettings
from fewscan.augment.spatial import SpatialSettings
from fewscan.augment.targets import FindObjects, no_objects
from fewscan.methods.base import Batch
from fewscan.networks.unet import UNet
from fewscan.registry import METHODS
from fewscan.testing.methods import N_CLASSES, SIZES, make_spec, step_info
from support.steps import settings_for

MIXING = ("action", "action_pp", "fixmatch", "unimatch", "ad_mt", "bcp")
STILL = SpatialSettings(rotation_degrees=0, flip=0, scale=0, shift=0, deformation=0)
PLAIN = AugmentationSettings(spatial=STILL, intensity=IntensitySettings(probability=0), strong_deformation=0)


def one_object(classes: Tensor) -> Tensor:
    """Each image shows nothing but one object, which no box has more than half of."""
    return torch.ones_like(classes)


def shows_two(name: str, find_objects: FindObjects, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the networks were shown an image of two brightnesses, where each of the batch has one."""
    spec = dataclasses.replace(make_spec(), augmentation=PLAIN, find_objects=find_objects)
    kind = METHODS.find(name)
    torch.manual_seed(0)
    # So that it is soon the turn of the second teacher, with which alone AD-MT pastes.
    own = {"longest_turn": 2} if name == "ad_mt" else {}
    method = kind(spec, settings_for(kind, spec.training, **own)).train()
    seen: list[Tensor] = []
    encode = UNet.encode

    def watched(self: UNet, images: Tensor) -> list[Tensor]:
        seen.append(images)
        return encode(self, images)

    monkeypatch.setattr(UNet, "encode", watched)
    size = SIZES[0]
    even = torch.arange(1.0, 5)[:, None, None, None].expand(4, 1, *size)
    labels = torch.randint(N_CLASSES, (2, *size), generator=torch.Generator().manual_seed(0))
    batch = Batch(even[:2], labels, even[2:], torch.rand(2))
    for stage in method.stages():
        method.start_stage(stage)
        method(batch if stage.labelled else batch._replace(images_labelled=even[:0], labels=labels[:0]), step_info())
        if name == "ad_mt":
            method(batch, step_info(next(u for u in range(10) if method.is_turn_of_second(step_info(u)))))
    return any(bool(((image - image.mean()).abs() > 0.1).any()) for images in seen for image in images)


@pytest.mark.parametrize("name", MIXING)
def test_nothing_is_cut_where_an_image_is_one_object(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not shows_two(name, one_object, monkeypatch)


@pytest.mark.parametrize("name", MIXING)
def test_boxes_are_pasted_where_there_are_no_objects(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shows_two(name, no_objects, monkeypatch)
