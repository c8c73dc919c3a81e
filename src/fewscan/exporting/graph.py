"""Networks as one graph that gives probabilities, for programs that know nothing of fewscan."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from fewscan.errors import ConfigError
from fewscan.networks.segmenter import SegmentationNetwork

# Graphs of the same network differ from it by the order of sums.
MOST_APART = 1e-4
# Sides of the images that a graph is traced and tried with, in coarsest pixels: unlike ones, so that none is mistaken
# for another, and not 1, which a trace takes for a constant.
TRACED, TRIED = (2, 3, 4), (3, 2, 5)


class Probabilities(nn.Module):
    """Class probabilities of images: the mean over networks, as `inference.predictor` has it.

    Args:
        networks: Networks of the same channels and classes, at least one.

    Examples:
        >>> import torch
        >>> from fewscan.exporting.graph import Probabilities
        >>> from fewscan.networks.unet import UNet, UNetSettings
        >>> networks = [UNet(1, 3, 2, UNetSettings(channels=(4, 8), dropout=(0, 0))).eval() for _ in range(2)]
        >>> found = Probabilities(networks)(torch.zeros(1, 1, 8, 8))
        >>> tuple(found.shape), bool((found.sum(dim=1) - 1).abs().max() < 1e-6)
        ((1, 3, 8, 8), True)
    """

    def __init__(self, networks: Sequence[SegmentationNetwork]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b k *space"]:
        """(b, c, *space) → (b, k, *space)."""
        total = self.networks[0](images).softmax(dim=1)
        for network in self.networks[1:]:
            total = total + network(images).softmax(dim=1)
        return total / len(self.networks)


def trace(networks: Sequence[SegmentationNetwork]) -> ExportedProgram:
    """Trace the networks for any number of images, and any sides that they can be given.

    Args:
        networks: Networks of the same channels and classes, on the CPU and in evaluation mode.

    Raises:
        ConfigError: A network does what no graph holds.
    """
    first = networks[0]
    if first.sees_whole:
        raise ConfigError(
            f"The network {first.settings.kind!r} registers labelled scans to every image, which no graph holds. "
            "Predict with fewscan: --to package."
        )
    images = images_for(first, TRACED)
    steps = first.settings.spans(first.ndim)
    sides = {2 + axis: _multiples_of(step, "zyx"[axis - first.ndim]) for axis, step in enumerate(steps)}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(Probabilities(networks), (images,), dynamic_shapes=({0: Dim("b"), **sides},))
    # Whatever code of a network from elsewhere raises while it is traced.
    except Exception as error:
        raise ConfigError(
            f"The network {first.settings.kind!r} cannot be traced by torch.export: {error}. --to package takes it."
        ) from error


def images_for(network: SegmentationNetwork, sides: Sequence[int] = TRIED) -> Tensor:
    """Make images of noise, always the same, that a network can be given.

    Args:
        network: Network that says how many channels it wants, and what sides have to be multiples of.
        sides: Sides in those multiples, three of them; in 2D the last two count.
    """
    spans = network.settings.spans(network.ndim)
    shape = [side * span for side, span in zip(sides[-network.ndim :], spans, strict=True)]
    return torch.randn((2, network.in_channels, *shape), generator=torch.Generator().manual_seed(0))


def _multiples_of(step: int, axis: str) -> Dim:
    return Dim(axis, min=1) if step == 1 else step * Dim(f"{axis}_by_{step}", min=1)


def check_alike(networks: Sequence[SegmentationNetwork], images: Tensor, found: Tensor) -> None:
    """Hold what a graph gave against the networks.

    Args:
        networks: Networks that the graph was made of.
        images: Images (b, c, *space) that the graph was given.
        found: Probabilities (b, k, *space) that it gave.

    Raises:
        ConfigError: They differ by more than 1e-4.
    """
    with torch.no_grad():
        apart = float((Probabilities(networks)(images) - found).abs().max())
    if not apart <= MOST_APART:
        raise ConfigError(
            f"The exported network gives probabilities {apart:.2g} from the run's: it is not written. "
            "Report it with the run's model.json."
        )
