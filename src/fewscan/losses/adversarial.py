"""Smoothness by virtual adversarial training: predictions do not change where an image is perturbed at its weakest."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from fewscan.losses.segmentation import dice_loss_of_sums

Predict = Callable[[Tensor], Tensor]


def probability_dice(
    probs: Float[Tensor, "b k *space"], targets: Float[Tensor, "b k *space"], smooth: float = 1e-5
) -> Float[Tensor, ""]:
    """1 − mean over classes of (2 Σ p·q + s) / (Σ p² + Σ q² + s), sums over the batch of all ranks.

    The soft Dice of two predictions, 0 where they are equal. The targets take no gradient.

    Examples:
        >>> import torch
        >>> from fewscan.losses.adversarial import probability_dice
        >>> probs = torch.tensor([[[0.8, 0.1], [0.2, 0.9]]])
        >>> f"{probability_dice(probs, probs):.4f}, {probability_dice(probs, probs.flip(1)):.4f}"
        '0.0000, 0.6667'
    """
    targets = targets.detach()
    axes = (0, *range(2, probs.ndim))
    overlap, total = (probs * targets).sum(dim=axes), (probs.square() + targets.square()).sum(dim=axes)
    return dice_loss_of_sums(overlap, total, smooth)


def with_norm(images: Float[Tensor, "b c *space"], norm: float) -> Float[Tensor, "b c *space"]:
    """Scale each image to a Euclidean norm, over all of its pixels and channels; an image of zeros stays one.

    Examples:
        >>> import torch
        >>> from fewscan.losses.adversarial import with_norm
        >>> with_norm(torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]]), 10.0).flatten()
        tensor([6., 8., 0., 0.])
    """
    flat = images.flatten(1)
    # By the largest value first: the squares of a gradient below 1e-23 would vanish in float32.
    flat = flat / flat.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(images.dtype).tiny)
    return (norm * flat / flat.norm(dim=1, keepdim=True).clamp_min(1.0)).reshape(images.shape)


def adversarial_perturbation(
    predict: Predict,
    images: Float[Tensor, "b c *space"],
    targets: Float[Tensor, "b k *space"],
    probe: float,
    magnitude: float,
    generator: torch.Generator,
) -> Float[Tensor, "b c *space"]:
    """The perturbation of a given norm that changes predictions most, by one step of the power iteration.

        d ~ U(−½, ½) of norm 1,   g = ∇_d D(predict(x + ξ d), q),   r = ε g / ‖g‖   (Miyato et al., TPAMI 2019, eq. 11)

    with the soft Dice of probabilities for D (SS-Net). Weights of the network get no gradient from it.

    Args:
        predict: Function from images to class probabilities (b, k, *space), differentiable in the images.
        images: Images x; not written to.
        targets: Class probabilities q of the images as they are, from which the perturbation leads away.
        probe: Norm ξ > 0 of the random perturbation at which the gradient is taken, in units of intensity.
        magnitude: Norm ε ≥ 0 of what is given back, for each image over all of its pixels, in units of intensity.
        generator: Source of the first direction, on the images' device.

    Returns:
        Perturbation r, without gradient; zeros for an image whose prediction does not depend on it.

    Examples:
        >>> import torch
        >>> from fewscan.losses.adversarial import adversarial_perturbation
        >>> def predict(x):  # a bright pixel is of class 1, but for the second, whose class nothing decides
        ...     return (torch.tensor([[-1.0, 0.0], [1.0, 0.0]]) * x).softmax(dim=1)
        >>> images = torch.tensor([[[0.5, 0.5]]])
        >>> r = adversarial_perturbation(predict, images, predict(images), 1.0, 2.0, torch.Generator().manual_seed(0))
        >>> r.abs()
        tensor([[[2., 0.]]])
    """
    noise = torch.rand(images.shape, generator=generator, device=images.device, dtype=images.dtype) - 0.5
    direction = with_norm(noise, 1.0).requires_grad_()
    distance = probability_dice(predict(images + probe * direction), targets)
    (gradient,) = torch.autograd.grad(distance, direction)
    return with_norm(gradient, magnitude)
