"""The predictor: trained networks and the views they are shown, from images to probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fewscan.data.patches import Patches, Pool
from fewscan.data.store import Store
from fewscan.inference.batches import patch_batches
from fewscan.inference.views import View, turn, turn_back
from fewscan.networks.layout import channels_last
from fewscan.networks.modes import evaluating
from fewscan.networks.segmenter import SegmentationNetwork


@contextmanager
def predicting(*modules: nn.Module) -> Iterator[None]:
    """Inside, modules are in evaluation mode and nothing takes a gradient; afterwards all is as it was.

    Args:
        modules: Networks, heads or whole methods.
    """
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(evaluating(module))
        stack.enter_context(torch.no_grad())
        yield


class StoreBlock(NamedTuple):
    """Patches of a store, and what is made of them.

    Attributes:
        patches: Places of the patches.
        images: Images (b, c, *size) of the patches, on the store's device.
        probs: Class probabilities (b, k, *size).
    """

    patches: Patches
    images: Tensor
    probs: Tensor


@dataclass(frozen=True)
class Predictor:
    """Runs trained networks for whatever prediction is for: masks, validation, pictures, signals, descriptions.

    Whatever mode the networks are in, they are run in evaluation mode and left as they were; nothing takes a gradient.

    Attributes:
        networks: Networks of the same classes, whose probabilities are averaged; at least one, all on one device.
        views: Views that are averaged over; empty: the images as they are.

    >>> import torch
    >>> from fewscan.networks.unet import UNet, UNetSettings
    >>> network = UNet(1, 3, 2, UNetSettings(channels=(4, 8), dropout=(0, 0)))
    >>> Predictor((network,)).probabilities(torch.zeros(2, 1, 16, 16)).shape
    torch.Size([2, 3, 16, 16])
    >>> network.training
    True
    """

    networks: tuple[SegmentationNetwork, ...]
    views: Sequence[View] = ()

    def probabilities(self, images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b k *space"]:
        """Predict class probabilities: the mean over networks, and over views that are turned back.

        Args:
            images: Patches on the networks' device; left as they are.
        """
        images = channels_last(images)
        if not self.views:
            with predicting(*self.networks):
                return mean([network(images).softmax(dim=1) for network in self.networks])
        total = seen = torch.zeros(())
        for view in self.views:
            back = self.turned_probabilities(images, view)
            total = total + back
            # A voxel that the turned view did not show does not count for that view.
            seen = seen + back.sum(dim=1, keepdim=True)
        return total / seen.clamp_min(1e-6)

    def turned_probabilities(self, images: Float[Tensor, "b c *space"], view: View) -> Float[Tensor, "b k *space"]:
        """Predict class probabilities of one view, turned back; all are 0 where the view did not show a voxel.

        Args:
            images: Patches on the networks' device; left as they are.
            view: View to show them from, whatever views are averaged over.
        """
        turned = turn(channels_last(images), view)
        with predicting(*self.networks):
            return turn_back(mean([network(turned).softmax(dim=1) for network in self.networks]), view)

    def probabilities_and_bottleneck(self, images: Float[Tensor, "b c *space"]) -> tuple[Tensor, Tensor]:
        """Predict class probabilities of the images as they are, with the networks' coarsest maps.

        Args:
            images: Patches on the networks' device, which have to be segmentation networks; left as they are.

        Returns:
            Probabilities (b, k, *space), the mean over networks, and maps (b, e, *coarse), those of all networks one
            after the other.
        """
        with predicting(*self.networks):
            found = [network.logits_and_pyramid(channels_last(images)) for network in self.networks]
            return mean([logits.softmax(dim=1) for logits, _ in found]), torch.cat([maps[0] for _, maps in found], 1)

    def over_store(self, store: Store, patches: Pool) -> Iterator[StoreBlock]:
        """Predict patches of a store, a batch at a time, in their order.

        Args:
            store: Store on the networks' device.
            patches: Patches of the store.
        """
        for part in patch_batches(patches, store.patch):
            images = store.images(part)
            yield StoreBlock(part, images, self.probabilities(images))


def mean(parts: Sequence[Tensor]) -> Tensor:
    """The mean of tensors of one shape; of a single one itself, without a copy."""
    return parts[0] if len(parts) == 1 else torch.stack(list(parts)).mean(dim=0)
