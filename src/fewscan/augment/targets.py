"""What a network is taught from labels: a class for every pixel, and how much the pixel counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Target(NamedTuple):
    """What labelled images teach; losses take it as `supervised_loss(logits, *target)`.

    Attributes:
        labels: Classes (b, *space) of the network's outputs, `IGNORED` where nothing is taught.
        weights: Weights (b, *space) of the pixels, 0 or more; None: all count alike.

    Examples:
        >>> import torch
        >>> from fewscan.augment.targets import Target
        >>> from fewscan.losses.segmentation import supervised_loss
        >>> target = Target(torch.zeros(1, 8, 8, dtype=torch.long))
        >>> bool(supervised_loss(torch.zeros(1, 2, 8, 8), *target) > 0)
        True
    """

    labels: Tensor
    weights: Tensor | None = None


# Labels (b, *space) as masks have them, augmented, on the device → what is taught.
Encode = Callable[[Tensor], Target]
# Numbers of objects in a training image are below this; those of two fit side by side into the numbers of a mask.
MOST_OBJECTS = 1 << 15
# Classes (b, *space) as `Encode` gives them → labels that number the objects they show; None: they show none.
FindObjects = Callable[[Tensor], Tensor | None]


def no_objects(classes: Tensor) -> None:
    """Find no objects, as where labels are classes.

    Args:
        classes: Classes (b, *space).

    Examples:
        >>> import torch
        >>> from fewscan.augment.targets import no_objects
        >>> no_objects(torch.ones(1, 8, 8, dtype=torch.long)) is None
        True
    """
    del classes
