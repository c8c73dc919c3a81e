import pytest
import torch

from fewscan.augment.intensity import IntensitySettings, jitter

NOTHING = IntensitySettings(brightness=0, contrast=0, gamma=0, blur_pixels=0, noise=0)


@pytest.mark.parametrize("off", [NOTHING, IntensitySettings(probability=0)])
def test_off_changes_nothing(off: IntensitySettings, generator: torch.Generator) -> None:
    images = torch.randn(3, 2, 7, 6, generator=generator)
    assert torch.allclose(jitter(images, off, generator), images, atol=1e-5)


@pytest.mark.parametrize("size", [(9, 7), (1, 1), (5, 6, 4)])
@pytest.mark.parametrize("change", ["brightness", "contrast", "gamma", "blur_pixels", "noise"])
def test_every_change_changes_and_never_in_place(
    change: str, size: tuple[int, ...], generator: torch.Generator
) -> None:
    settings = NOTHING.model_copy(update={"probability": 1.0, change: 0.5})
    images = torch.randn(2, 1, *size, generator=generator)
    before = images.clone()
    changed = jitter(images, settings, generator)
    assert torch.equal(images, before)
    assert torch.isfinite(changed).all()
    assert changed.shape == images.shape
    if len(images.unique()) > 2:
        assert not torch.allclose(changed, images)


def test_gamma_keeps_range_and_order(generator: torch.Generator) -> None:
    images = torch.randn(4, 1, 6, 6, generator=generator)
    changed = jitter(images, NOTHING.model_copy(update={"probability": 1.0, "gamma": 0.8}), generator)
    assert torch.allclose(changed.amin((1, 2, 3)), images.amin((1, 2, 3)), atol=1e-5)
    assert torch.allclose(changed.amax((1, 2, 3)), images.amax((1, 2, 3)), atol=1e-5)
    assert torch.equal(changed.flatten(1).argsort(), images.flatten(1).argsort())


def test_blur_keeps_the_mean_of_a_flat_image_and_smooths_another(generator: torch.Generator) -> None:
    blur = NOTHING.model_copy(update={"probability": 1.0, "blur_pixels": 2.0})
    flat = torch.full((2, 1, 8, 8), 3.0)
    assert torch.allclose(jitter(flat, blur, generator), flat, atol=1e-5)
    rough = torch.randn(4, 1, 16, 16, generator=generator)
    assert float(jitter(rough, blur, generator).std()) < float(rough.std())


def test_a_share_of_images_is_changed(generator: torch.Generator) -> None:
    settings = NOTHING.model_copy(update={"probability": 0.3, "noise": 0.5})
    images = torch.randn(500, 1, 4, 4, generator=generator)
    changed = (jitter(images, settings, generator) != images).flatten(1).any(1)
    assert 0.2 < float(changed.float().mean()) < 0.4
