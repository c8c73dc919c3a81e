"""What a segmentation network is: the contract that methods, heads, statistics and prediction rely on.

A network is one file with a `SegmentationNetwork` and its settings, and one line in the registry, or comes from outside
as `--set network.kind=package.module:Class`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import BeforeValidator, Field, SerializeAsAny
from torch import Tensor, nn

from fewscan.errors import ConfigError
from fewscan.networks.blocks import Upsampling
from fewscan.registry import NETWORKS
from fewscan.settings import PartSettings, Settings

# What files that name no kind were written for: there was one network.
FIRST_KIND = "unet"


class NetworkSettings(Settings):
    """Base of every network's own settings.

    Examples:
        >>> from fewscan.networks.unet import UNetSettings
        >>> settings = UNetSettings()
        >>> settings.kind, settings.stride, settings.spans(ndim=2)
        ('unet', 16, (16, 16))
        >>> settings.fitted((12, 256, 256), (8.0, 1.5, 1.5)).strides
        ((1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2))
    """

    kind: str = Field(description="Name of the network in the registry, or `package.module:Class` of one from outside.")

    @property
    @abstractmethod
    def stride(self) -> int:
        """Pixels of the image along an axis that one pixel of the coarsest map spans, the most of all axes."""

    def spans(self, ndim: int) -> tuple[int, ...]:
        """Pixels of the image along each axis that one pixel of the coarsest map spans; sides of images are multiples.

        Args:
            ndim: Axes of space, 2 or 3.
        """
        return (self.stride,) * ndim

    def fitted(self, size: tuple[int, ...], spacing: tuple[float, ...] | None) -> NetworkSettings:
        """Give the settings with what they leave to the images decided: those of a network for images of one kind.

        Settings that were fitted once, or leave nothing open, come back as they are.

        Args:
            size: Sides of the images in pixels or voxels, 2 or 3 of them.
            spacing: Sides of a pixel or voxel in mm along the same axes; None: they are equal.
        """
        del size, spacing
        return self

    def divisors(self, size: tuple[int, ...], spacing: tuple[float, ...] | None) -> tuple[int, ...]:
        """Give the numbers that sides of images must be multiples of, once the settings are fitted to about this size.

        With sides rounded up to them, the settings are fitted alike.

        Args:
            size: Sides of the images in pixels or voxels, before they are rounded.
            spacing: Sides of a pixel or voxel in mm along the same axes; None: they are equal.
        """
        return self.fitted(size, spacing).spans(len(size))


class SegmentationNetwork(nn.Module, ABC):
    """An encoder of images and a decoder to logits of every pixel, in 2D and 3D.

    `encode` turns images into *levels*, the maps that the decoder needs, finest first; the last of them is the
    *bottleneck*. `decode` turns levels into logits and the *pyramid*, the maps on its way: the bottleneck first, then
    coarser before finer, up to the map that the classifier is given. Methods perturb levels between the two, read
    pixels out of pyramids, and put further decoders on the same levels.

    What an implementation owes its callers, beside the shapes of its methods:

    - It is built by `(in_channels, n_classes, ndim, settings, precision)`, also on the meta device, where tensors have
      no values.
    - Images may have any sides that are multiples of `settings.spans(ndim)`; maps may have any sides from which logits
      get the images' own.
    - `precision` is read whenever the network is run, so that it may be changed between two runs. Convolutions work in
      it; levels and pyramid are left in it, logits are given in the weights' own.
    - In evaluation mode an image's logits depend on that image alone, and every pass gives the same ones. In training
      mode what is random is drawn by PyTorch's generator of the device: PyTorch's dropouts, of activations or channels.
    - Statistics over batches are those of PyTorch's batch normalisations, which teachers and export know.
    - Nothing of the inputs is written to.
    - There may be no weights: such a network is made of buffers, and no method can train it.
    - Weights and buffers are finite and float32, but for whole numbers without axes, such as counts of batches; all of
      them are in the state dict. Copies by `copy.deepcopy` are independent.

    Args:
        in_channels: Channels of the images, at least 1.
        n_classes: Channels of the logits, background included, at least 2.
        ndim: Axes of space, 2 or 3.
        settings: Settings of the network's own class.
        precision: Type in which convolutions work, such as torch.bfloat16; None: the images' own.

    Attributes:
        Settings: Class of the settings, derived from `NetworkSettings`.
        sees_whole: Whether an image has to be all of a scan, of any sides: a window of it means nothing to the network.
        in_channels: Channels of the images.
        n_classes: Channels of the logits, background included.
        ndim: Axes of space, 2 or 3.
        settings: Settings that the network was built from.
        precision: Type in which convolutions work; None: the images' own.
        pyramid_channels: Channels of each map of the pyramid, the bottleneck's first, at least 2 maps.

    Examples:
        >>> import torch
        >>> from fewscan.networks.segmenter import SegmentationNetwork
        >>> from fewscan.networks.unet import UNet, UNetSettings
        >>> settings = UNetSettings(channels=(4, 8, 16), dropout=(0, 0, 0))
        >>> network: SegmentationNetwork = UNet(in_channels=1, n_classes=3, ndim=2, settings=settings)
        >>> levels = network.encode(torch.zeros(2, 1, 16, 16))
        >>> logits, pyramid = network.decode(levels)  # methods may perturb the levels between the two
        >>> tuple(logits.shape), len(levels), network.pyramid_channels
        ((2, 3, 16, 16), 3, (16, 8, 4))
    """

    Settings: ClassVar[type[NetworkSettings]]
    sees_whole: ClassVar[bool] = False

    precision: torch.dtype | None
    pyramid_channels: tuple[int, ...]

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        ndim: int,
        settings: NetworkSettings,
        precision: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.n_classes, self.ndim = in_channels, n_classes, ndim
        self.settings = settings
        self.precision = precision

    @abstractmethod
    def encode(self, images: Float[Tensor, "b c *space"]) -> list[Float[Tensor, "b _ *_level"]]:
        """Images → levels (b, c_l, *space_l), finest first, in the precision of the arithmetic."""

    @abstractmethod
    def decode(
        self, levels: Sequence[Float[Tensor, "b _ *_level"]]
    ) -> tuple[Float[Tensor, "b k *_space"], list[Float[Tensor, "b _ *_level"]]]:
        """Levels as `encode` gives them, perturbed or not → logits (b, k, *space) and pyramid, coarsest first.

        Returns:
            Logits of the weights' own precision, and maps (b, `pyramid_channels[i]`, *space_i) of the arithmetic's:
            `levels[-1]` itself first, last the one that the classifier is given.
        """

    @abstractmethod
    def make_decoder(self, upsampling: Upsampling = "linear") -> nn.Module:
        """Another decoder for this encoder, with fresh weights; it is not part of the network.

        Args:
            upsampling: Name of the way in which maps become finer. Decoders that differ in it alone make unlike
                mistakes, which is what methods want several for; a network that knows one way may take no notice.

        Returns:
            A module: levels as `encode` gives them → logits (b, k, *space) of the weights' own precision.
        """

    def take_remarks(self) -> list[str]:
        """What a user should know of the images since the last call, such as what could not be done; then forgotten.

        Returns:
            Phrases without a full stop; none of most networks.
        """
        return []

    def bottleneck(self, images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b _ *_space"]:
        """Images → the coarsest level, in the precision of the arithmetic; the decoder is not run."""
        return self.encode(images)[-1]

    def logits_and_pyramid(
        self, images: Float[Tensor, "b c *space"]
    ) -> tuple[Float[Tensor, "b k *space"], list[Float[Tensor, "b _ *_level"]]]:
        """Images → logits (b, k, *space) and pyramid, coarsest first, as of `decode`.

        The pyramid is left in the precision of the arithmetic: copies of all its maps, forwards and backwards, show.
        """
        return self.decode(self.encode(images))

    def forward(self, images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b k *space"]:
        """Images → logits of the weights' own precision."""
        return self.decode(self.encode(images))[0]


def settings_class(kind: str) -> type[NetworkSettings]:
    """The class of the settings of a network.

    Args:
        kind: Name of a network that is known in this process.

    Raises:
        ConfigError: No network of this kind is known in this process, or its class names no class of settings.

    Examples:
        >>> from fewscan.networks.segmenter import settings_class
        >>> settings_class("vnet").__name__
        'VNetSettings'
    """
    found = getattr(NETWORKS.find(kind), "Settings", None)
    if not (isinstance(found, type) and issubclass(found, NetworkSettings)):
        raise ConfigError(f"The network {kind!r} has no Settings. Let it name a class derived from NetworkSettings.")
    return found


# Settings of networks; without a kind those of the U-Net.
NETWORK_SETTINGS = PartSettings("network", FIRST_KIND, settings_class)
# A field of a model: settings of any network that is known in this process, told apart by their kind.
AnyNetworkSettings = Annotated[SerializeAsAny[NetworkSettings], BeforeValidator(NETWORK_SETTINGS.read)]


def build_network(
    in_channels: int,
    n_classes: int,
    ndim: int,
    settings: NetworkSettings,
    precision: torch.dtype | None = None,
) -> SegmentationNetwork:
    """Build the network that settings are of, with fresh weights.

    Args:
        in_channels: Channels of the images, at least 1.
        n_classes: Channels of the logits, background included, at least 2.
        ndim: Axes of space, 2 or 3.
        settings: Settings of the network; their kind names its class.
        precision: Type in which convolutions work, such as torch.bfloat16; None: the images' own.

    Raises:
        ConfigError: No network of this kind is known in this process.

    Examples:
        >>> import torch
        >>> from fewscan.networks.segmenter import build_network
        >>> from fewscan.networks.unet import UNetSettings
        >>> settings = UNetSettings(channels=(4, 8, 16), dropout=(0, 0, 0))
        >>> network = build_network(in_channels=1, n_classes=3, ndim=2, settings=settings)
        >>> tuple(network(torch.zeros(2, 1, 16, 16)).shape)
        (2, 3, 16, 16)
    """
    network: SegmentationNetwork = NETWORKS.find(settings.kind)(in_channels, n_classes, ndim, settings, precision)
    return network
