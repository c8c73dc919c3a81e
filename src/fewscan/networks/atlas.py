"""The network of the method `atlas`: labelled scans, which are registered to every image and vote on its voxels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from fewscan.classes import IGNORED
from fewscan.networks.blocks import Upsampling, resize_linear
from fewscan.networks.fusion import fuse
from fewscan.networks.registration import Outcome, correlation, register, warp
from fewscan.networks.segmenter import NetworkSettings, SegmentationNetwork
from fewscan.settings import Count, CountOrZero, NonNegative

NDIM = 3
# Voxels along an axis, at most, that one voxel of the coarse map spans which describes an image.
COARSE = 8
# What a class that no atlas votes for is taken to have, so that its logarithm is finite.
SMALLEST_SHARE = 1e-4


class AtlasNetworkSettings(NetworkSettings):
    """How many atlases there are, how they are registered and how their votes are weighed; `--method atlas` sets it.

    Examples:
        >>> from fewscan.networks.atlas import AtlasNetworkSettings
        >>> settings = AtlasNetworkSettings(atlases=4, shape=(48, 56, 20))
        >>> settings.kind, settings.spans(ndim=3), settings.stride
        ('atlas', (8, 8, 4), 8)
    """

    kind: str = Field(default="atlas", description=NetworkSettings.model_fields["kind"].description)
    atlases: CountOrZero = Field(
        default=0, description="Number of labelled scans that the network holds; the method atlas counts them."
    )
    shape: tuple[Count, Count, Count] = Field(
        default=(COARSE, COARSE, COARSE),
        description="Sides of the labelled scans on the canvas in voxels, three numbers; the method atlas takes those "
        "of the plan.",
    )
    most: Count = Field(
        default=16,
        description="Number of atlases that are registered to a scan, at most: those most like it as they lie.",
    )
    smoothing: NonNegative = Field(
        default=0.75,
        description="Standard deviation in voxels of the Gaussian that smooths a deformation after every step.",
    )
    window: NonNegative = Field(
        default=1.0, description="Standard deviation in voxels of the window in which atlas and scan are compared."
    )
    search: Annotated[int, Field(ge=0, le=3)] = Field(
        default=1,
        description="Largest shift in voxels, 0 to 3, by which an atlas's neighbouring voxels vote too; each more "
        "takes several times as long.",
    )
    power: NonNegative = Field(
        default=2.0,
        description="Power of the weights, which fall as the local squared difference grows; 0: all votes count alike.",
    )

    @property
    def stride(self) -> int:
        """Voxels of the image along an axis that one voxel of the coarse map spans, the most of all axes."""
        return max(self.spans(NDIM))

    def spans(self, ndim: int) -> tuple[int, ...]:
        """Voxels of the image along each axis that one voxel of the coarse map spans: what divides the atlases' sides.

        Args:
            ndim: Axes of space: 3.
        """
        return tuple(math.gcd(side, COARSE) for side in self.shape[:ndim])


class AtlasNetwork(SegmentationNetwork):
    """Labelled scans with their labels, as buffers: there is nothing to train, and **their voxels are in the model**.

    Every image is registered with the atlases on the CPU: affine, then by demons. Their labels come to its grid and are
    fused. Levels are the logarithms of the class shares, as a coarse map and what is missing to the fine one.

    Args:
        in_channels: Channels of the images, at least 1.
        n_classes: Channels of the logits, background included, at least 2.
        ndim: Axes of space: 3.
        settings: Number and shape of the atlases, registration and fusion; None: no atlas.
        precision: Type in which levels are given, such as torch.bfloat16; None: the images' own.

    Attributes:
        images: Atlases (a, c, *shape), normalised as images are.
        labels: Their classes (a, *shape), whole numbers as float32; `IGNORED` where there is no label.
        mixture: Weights (c,) of the channels in the one image that is registered.

    Raises:
        ValueError: The images would have two axes.

    Examples:
        >>> import torch
        >>> from fewscan.networks.atlas import AtlasNetwork, AtlasNetworkSettings
        >>> box = torch.zeros(1, 1, 8, 16, 16)
        >>> box[..., 2:6, 4:12, 4:12] = 1
        >>> settings = AtlasNetworkSettings(atlases=1, shape=(8, 16, 16))
        >>> network = AtlasNetwork(in_channels=1, n_classes=2, settings=settings)
        >>> network.hold(box, box[:, 0].long())
        >>> found = network(box.roll(2, dims=3)).argmax(dim=1)  # the same box two rows further down
        >>> torch.equal(found, box[:, 0].roll(2, dims=2).long())
        True
    """

    Settings = AtlasNetworkSettings
    sees_whole: ClassVar[bool] = True

    settings: AtlasNetworkSettings
    images: Tensor
    labels: Tensor
    mixture: Tensor

    def __init__(
        self,
        in_channels: int,
        n_classes: int,
        ndim: int = NDIM,
        settings: AtlasNetworkSettings | None = None,
        precision: torch.dtype | None = None,
    ) -> None:
        if ndim != NDIM:
            raise ValueError(f"atlases are volumes: images have three axes, not {ndim}")
        settings = settings or AtlasNetworkSettings()
        super().__init__(in_channels, n_classes, ndim, settings, precision)
        self.pyramid_channels = (n_classes, n_classes)
        self.register_buffer("images", torch.zeros((settings.atlases, in_channels, *settings.shape)))
        self.register_buffer("labels", torch.zeros((settings.atlases, *settings.shape)))
        self.register_buffer("mixture", torch.ones(in_channels))
        self._outcomes: Counter[Outcome] = Counter()
        self._lost = 0

    @torch.no_grad()
    def hold(self, images: Float[Tensor, "a c *shape"], labels: Int[Tensor, "a *shape"]) -> None:
        """Take labelled scans as the atlases, in the place of those that were there.

        Args:
            images: As many, and of the shape, as the settings say.
            labels: Their classes, `IGNORED` where there is no label.
        """
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.mixture.copy_(mixture_of(self.images))

    def encode(self, images: Float[Tensor, "b c *space"]) -> list[Tensor]:
        """Images → what is missing of the coarse map to the logarithms of the class shares, and that map."""
        logs = self.shares(images).clamp_min(SMALLEST_SHARE).log()
        coarse = F.avg_pool3d(logs, self.settings.spans(NDIM))
        precision = self.precision or images.dtype
        return [(logs - resize_linear(coarse, tuple(images.shape[2:]))).to(precision), coarse.to(precision)]

    def decode(self, levels: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Levels → logits (b, k, *space), the logarithms of the class shares, and pyramid, coarse and fine."""
        logits = _put_together(levels)
        return logits, [levels[1], logits.to(levels[0].dtype)]

    def make_decoder(self, upsampling: Upsampling = "linear") -> nn.Module:
        """What puts the levels together; it has no weights and knows one way."""
        del upsampling
        return _Sum()

    def shares(
        self, images: Float[Tensor, "b c *space"], powers: Sequence[float] | None = None, left_out: Iterable[int] = ()
    ) -> Tensor:
        """Class shares of images by registered and fused atlases.

        Args:
            images: Images on the network's device.
            powers: Powers of the weights to fuse with; None: that of the settings, without an axis for it.
            left_out: Numbers of atlases that take no part.

        Returns:
            (b, k, *space), or (b, p, k, *space) where powers are given.

        Raises:
            ValueError: There is no atlas.
        """
        hidden = set(left_out)
        atlases = [number for number in range(len(self.images)) if number not in hidden]
        if not atlases:
            raise ValueError("the network holds no atlas: the method atlas gives it the labelled scans")
        chosen = (self.settings.power,) if powers is None else powers
        fused = torch.stack([self._fused(image, atlases, chosen) for image in images.float()])
        return fused[:, 0] if powers is None else fused

    def take_remarks(self) -> list[str]:
        """How many registrations were left without their deformable part, or altogether, since the last call."""
        outcomes, self._outcomes = self._outcomes, Counter()
        lost, self._lost = self._lost, 0
        total = sum(outcomes.values())
        remarks = []
        if outcomes["affine"]:
            remarks.append(
                f"the affine part alone was used in {outcomes['affine']} of {total} registrations of atlases"
            )
        if outcomes["none"]:
            remarks.append(
                f"{outcomes['none']} of {total} registrations of atlases failed: labels were taken as they lie"
            )
        if lost:
            remarks.append(
                f"no atlas could be registered in {lost} of the images: look at their masks, they are a guess"
            )
        return remarks

    def _fused(self, image: Tensor, atlases: Sequence[int], powers: Sequence[float]) -> Float[Tensor, "p k *space"]:
        """Register those of the atlases that are most like an image, and fuse them."""
        fixed = self._mixed(image[None])[0]
        moving = dict(zip(atlases, self._mixed(self.images[list(atlases)]), strict=True))
        chosen = most_alike(fixed, moving, self.settings.most)
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            found = list(pool.map(lambda number: register(fixed, moving[number], self.settings.smoothing), chosen))
        self._outcomes.update(registration.outcome for registration in found)
        self._lost += all(registration.outcome == "none" for registration in found)
        warped = [self._warped(number, each.displacement) for number, each in zip(chosen, found, strict=True)]
        images, votes = (torch.stack(parts).to(image.device) for parts in zip(*warped, strict=True))
        settings = self.settings
        return fuse(image, images, votes, powers, window=settings.window, search=settings.search)

    def _mixed(self, images: Tensor) -> np.ndarray:
        """The one channel (b, *space) that is registered, in the host's memory."""
        mixed: np.ndarray = torch.einsum("bczyx,c->bzyx", images.float(), self.mixture).cpu().numpy()
        return mixed

    def _warped(self, number: int, displacement: np.ndarray) -> tuple[Tensor, Tensor]:
        """An atlas on an image's grid: channels (c, *space), and votes (k, *space) of its labels."""
        channels = [warp(channel, displacement) for channel in self.images[number].cpu().numpy()]
        labels = self.labels[number].cpu().numpy()
        # Beyond the atlas's own canvas there is background, as there is around every scan.
        _, inside = channels[0]
        shares = [inside * warp((labels == k).astype(np.float32), displacement)[0] for k in self._voted]
        *votes, unknown = shares
        background = np.maximum(1 - sum(votes, unknown), 0)
        images = np.stack([values for values, _ in channels])
        return torch.from_numpy(images), torch.from_numpy(np.stack([background, *votes]))

    @property
    def _voted(self) -> tuple[int, ...]:
        """What is warped of the labels: the foreground's classes, and what has no label."""
        return (*range(1, self.n_classes), IGNORED)


class _Sum(nn.Module):
    """The levels of an atlas network, put together."""

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels → logits (b, k, *space) in float32."""
        return _put_together(levels)


def _put_together(levels: Sequence[Tensor]) -> Tensor:
    fine, coarse = (maps.float() for maps in levels)
    return fine + resize_linear(coarse, tuple(fine.shape[2:]))


def mixture_of(images: Float[Tensor, "a c *space"]) -> Float[Tensor, " c"]:
    """Weights of the channels that show most in one image: their first principal component over all voxels.

    Args:
        images: Atlases of one or more channels.

    Returns:
        A vector of length 1, whose largest weight is positive; of a single channel (1).

    Examples:
        >>> import torch
        >>> from fewscan.networks.atlas import mixture_of
        >>> steps = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
        >>> mixture_of(torch.cat((steps, torch.zeros_like(steps)), dim=1)).tolist()  # the second channel shows nothing
        [1.0, 0.0]
    """
    channels = images.transpose(0, 1).flatten(1).double()
    channels = channels - channels.mean(dim=1, keepdim=True)
    axis = torch.linalg.eigh(channels @ channels.T).eigenvectors[:, -1]
    return (axis * axis[axis.abs().argmax()].sign()).to(images.dtype)


def most_alike(fixed: np.ndarray, moving: dict[int, np.ndarray], most: int) -> list[int]:
    """Choose the images that correlate most with one, as they lie and coarsely, in the order of their numbers.

    Args:
        fixed: Image (z, y, x) to compare with.
        moving: Images by number, of any shapes; those of other shapes come last.
        most: Number of images to choose, at most.

    Examples:
        >>> import numpy as np
        >>> from fewscan.networks.atlas import most_alike
        >>> image = np.arange(64.0).reshape(4, 4, 4)
        >>> most_alike(image, {0: -image, 1: image, 5: image + 1}, most=2)
        [1, 5]
    """
    if len(moving) <= most:
        return list(moving)
    coarse = fixed[::2, ::2, ::2]
    scores = {
        number: correlation(coarse, image[::2, ::2, ::2]) if image.shape == fixed.shape else -1.0
        for number, image in moving.items()
    }
    return sorted(sorted(moving, key=lambda number: -scores[number])[:most])
