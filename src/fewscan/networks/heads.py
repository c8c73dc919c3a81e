"""Projection heads, predictors and the representation head: used in training, thrown away afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from fewscan.networks.blocks import AdaptivePool, BatchNorm, Convolution, arithmetic, resize_linear


class GlobalProjector(nn.Module):
    """P of stage i: globally averaged bottleneck maps → embeddings, a two-layer MLP (ACTION, section 1).

    The last batch normalisation centres the embeddings, as SimSiam's projector does, always with the batch's own
    statistics: those of a moving average lag behind the weights. Without the centring the embeddings of a young
    network are all but parallel (measured: cosine 0.99 between images), every distribution over anchors is uniform,
    and the loss is zero within 40 updates: there is nothing to learn.

    Examples:
        >>> import torch
        >>> from fewscan.networks.heads import GlobalProjector
        >>> embeddings = GlobalProjector(in_channels=16, embedding=32)(torch.randn(4, 16, 8, 8))
        >>> tuple(embeddings.shape), bool(embeddings.mean(dim=0).abs().max() < 1e-5)  # centred over the batch
        ((4, 32), True)
    """

    def __init__(self, in_channels: int, embedding: int = 512) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.Linear(in_channels, embedding),
            nn.BatchNorm1d(embedding, track_running_stats=False),
            nn.ReLU(inplace=True),
            nn.Linear(embedding, embedding),
            nn.BatchNorm1d(embedding, affine=False, track_running_stats=False),
        )

    def forward(self, bottleneck: Float[Tensor, "b c *space"]) -> Float[Tensor, "b e"]:
        """Average over space, then project, in the weights' precision."""
        averages = bottleneck.flatten(2).mean(dim=-1, dtype=next(self.parameters()).dtype)
        return self.project(averages)


class PooledProjector(nn.Module):
    """g_1 of GCL: bottleneck maps → embeddings of images, by two dense layers without biases.

    The published bottleneck is a map of 6×6 places, all of which the first layer sees. Others are pooled to that, in 3D
    to 3×3×3: for 256 channels the layer has 9.4 million weights, in 3D 7.1 million.

    Args:
        in_channels: Channels of the bottleneck.
        embedding: Length of an embedding.
        ndim: Axes of space, 2 or 3.
        hidden: Length of what is between the layers.

    Examples:
        >>> import torch
        >>> from fewscan.networks.heads import PooledProjector
        >>> embeddings = PooledProjector(in_channels=16, embedding=32)(torch.randn(4, 16, 8, 8))
        >>> tuple(embeddings.shape)
        (4, 32)
    """

    def __init__(self, in_channels: int, embedding: int = 128, ndim: int = 2, hidden: int = 1024) -> None:
        super().__init__()
        side = 6 if ndim == 2 else 3
        self.pool = AdaptivePool[ndim](side)
        self.project = nn.Sequential(
            nn.Linear(in_channels * side**ndim, hidden, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, embedding, bias=False),
        )

    def forward(self, bottleneck: Float[Tensor, "b c *space"]) -> Float[Tensor, "b e"]:
        """Pool, flatten and project, in the weights' precision."""
        pooled = self.pool(bottleneck.to(next(self.parameters()).dtype))
        return self.project(pooled.flatten(1))


def pointwise_mlp(channels: int, ndim: int) -> nn.Sequential:
    """g_2 of GCL: maps (b, c, *space) → maps of as many channels, by two 1-wide convolutions without biases.

    Examples:
        >>> import torch
        >>> from fewscan.networks.heads import pointwise_mlp
        >>> tuple(pointwise_mlp(channels=8, ndim=2)(torch.randn(2, 8, 5, 5)).shape)
        (2, 8, 5, 5)
    """
    return nn.Sequential(
        Convolution[ndim](channels, channels, kernel_size=1, bias=False),
        BatchNorm[ndim](channels, track_running_stats=False),
        nn.ReLU(inplace=True),
        Convolution[ndim](channels, channels, kernel_size=1, bias=False),
    )


def predictor(embedding: int, hidden: int) -> nn.Sequential:
    """H, the student's alone: embeddings (..., e) → embeddings (..., e).

    Examples:
        >>> import torch
        >>> from fewscan.networks.heads import predictor
        >>> tuple(predictor(embedding=32, hidden=64)(torch.randn(4, 32)).shape)
        (4, 32)
    """
    return nn.Sequential(nn.Linear(embedding, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, embedding))


def pixel_mlp(in_channels: int, out_channels: int) -> nn.Sequential:
    """Features of pixels (n, c) → embeddings (n, e), a two-layer MLP: SS-Net's projection and prediction heads.

    Normalised by the batch's own statistics: what is drawn has other shares of classes than images have.

    Examples:
        >>> import torch
        >>> from fewscan.networks.heads import pixel_mlp
        >>> tuple(pixel_mlp(in_channels=16, out_channels=32)(torch.randn(8, 16)).shape)
        (8, 32)
    """
    return nn.Sequential(
        nn.Linear(in_channels, out_channels),
        nn.BatchNorm1d(out_channels, track_running_stats=False),
        nn.ReLU(inplace=True),
        nn.Linear(out_channels, out_channels),
    )


class ClassAttention(nn.Module):
    """An attention for every class, each of them a two-layer MLP: how well features stand for it (SS-Net, section 2.2).

    Args:
        n_classes: Number k of classes.
        embedding: Length e of the features.

    Examples:
        >>> import torch
        >>> from fewscan.networks.heads import ClassAttention
        >>> attend, features = ClassAttention(n_classes=2, embedding=4), torch.randn(2, 5, 4)
        >>> attention = attend(features)
        >>> tuple(attention.shape), bool((attention > 0).all() and (attention < 1).all())
        ((2, 5), True)
        >>> features[1] += torch.randn(5, 4)  # a class has an attention of its own
        >>> torch.allclose(attend(features)[0], attention[0]), torch.allclose(attend(features)[1], attention[1])
        (True, False)
    """

    def __init__(self, n_classes: int, embedding: int) -> None:
        super().__init__()
        channels = n_classes * embedding
        # In groups, a convolution is a layer of its own for every class, and batch normalisation sees that class alone.
        self.score = nn.Sequential(
            nn.Conv1d(channels, channels, kernel_size=1, groups=n_classes),
            nn.BatchNorm1d(channels, track_running_stats=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv1d(channels, n_classes, kernel_size=1, groups=n_classes),
        )

    def forward(self, features: Float[Tensor, "k n e"]) -> Float[Tensor, "k n"]:
        """Features of n ≥ 2 pixels of each class → attention, 0 to 1."""
        return self.score(rearrange(features, "k n e -> 1 (k e) n"))[0].sigmoid()


def cut_patches(maps: Float[Tensor, "b c *space"], patch: int, stride: int) -> Float[Tensor, "b p c *_patch"]:
    """Cut overlapping patches that reach every border.

    A last patch is placed at the far border where the stride does not end there.

    Args:
        maps: Maps (b, c, *space).
        patch: Side of a patch in pixels, clipped to the side of the map.
        stride: Step from patch to patch in pixels.

    Returns:
        Patches (b, p, c, *patch), locations in row-major order.

    Examples:
        >>> import torch
        >>> from fewscan.networks.heads import cut_patches
        >>> row = torch.arange(5.0).reshape(1, 1, 1, 5)
        >>> cut_patches(row, patch=2, stride=2)[0, :, 0, 0]  # the last patch reaches the border
        tensor([[0., 1.],
                [2., 3.],
                [3., 4.]])
    """
    starts = [_starts(side, patch, stride) for side in maps.shape[2:]]
    sides = [min(patch, side) for side in maps.shape[2:]]
    corners = product(*starts)
    return torch.stack([_window(maps, corner, sides) for corner in corners], dim=1)


def _starts(side: int, patch: int, stride: int) -> list[int]:
    last = max(side - patch, 0)
    return sorted({*range(0, last + 1, stride), last})


def _window(maps: Tensor, corner: Sequence[int], sides: Sequence[int]) -> Tensor:
    window = [slice(start, start + side) for start, side in zip(corner, sides, strict=True)]
    return maps[(slice(None), slice(None), *window)]


class Regions(NamedTuple):
    """How a map is cut into the places that ACTION's stage ii compares.

    Attributes:
        patch: Side of a place in pixels, or in cells.
        stride: Step from place to place, in the same.
        pooled: Side that each place is pooled to.
        cells: Side of the grid that the whole map is pooled to before it is cut; None: it is cut as it is.

    Examples:
        >>> import torch
        >>> from fewscan.networks.heads import Regions
        >>> regions = Regions.of((256, 256))
        >>> regions.patch, regions.stride
        (64, 32)
        >>> tuple(regions.cut(torch.zeros(2, 3, 256, 256)).shape)
        (2, 49, 3, 64, 64)
    """

    patch: int
    stride: int
    pooled: int
    cells: int | None = None

    @classmethod
    def of(cls, size: tuple[int, ...]) -> Regions:
        """Places of images of a size.

        In 2D the paper's, 64 wide, 32 apart at 256×256, hence a quarter and an eighth of the longer side. In 3D 27 of
        half of each side, a quarter apart; they overlap so much that pooling each by itself would read every voxel
        three times: measured with gradient at 96×80×48, 107 ms instead of 11.
        """
        if len(size) == 2:
            patch = max(1, max(size) // 4)
            return cls(patch, max(1, patch // 2), pooled=8)
        return cls(patch=4, stride=2, pooled=4, cells=8)

    def cut(self, maps: Float[Tensor, "b c *space"]) -> Float[Tensor, "b p c *_place"]:
        """(b, c, *space) → (b, p, c, *place), places in row-major order; together they reach every border."""
        if self.cells is not None:
            maps = AdaptivePool[maps.ndim - 2](self.cells)(maps)
        return cut_patches(maps, self.patch, self.stride)


class LocalProjector(nn.Module):
    """P of stage ii: patches of the output map → one embedding per location (ACTION, eq. 2).

    Each patch is pooled to `pooled` pixels a side, projected by two 1×1 convolutions, flattened.

    Examples:
        >>> import torch
        >>> from fewscan.networks.heads import LocalProjector
        >>> project = LocalProjector(in_channels=4, pooled=2, out_channels=8)
        >>> tuple(project(torch.randn(2, 9, 4, 16, 16)).shape)  # 9 places in each of 2 images, 8 · 2² numbers each
        (2, 9, 32)
    """

    def __init__(
        self, in_channels: int, ndim: int = 2, pooled: int = 8, hidden: int = 32, out_channels: int = 8
    ) -> None:
        super().__init__()
        self.pool = AdaptivePool[ndim](pooled)
        self.project = nn.Sequential(
            Convolution[ndim](in_channels, hidden, kernel_size=1),
            nn.ReLU(inplace=True),
            Convolution[ndim](hidden, out_channels, kernel_size=1),
        )
        self.embedding = out_channels * pooled**ndim
        self.centre = nn.BatchNorm1d(self.embedding, affine=False, track_running_stats=False)

    def forward(self, patches: Float[Tensor, "b p c *patch"]) -> Float[Tensor, "b p e"]:
        """Pool, project and flatten every patch."""
        b = patches.shape[0]
        flat = rearrange(patches, "b p ... -> (b p) ...")
        projected = self.project(self.pool(flat))
        return rearrange(self.centre(projected.flatten(1)), "(b p) e -> b p e", b=b)


class RepresentationHead(nn.Module):
    """3-wide convolution, then 1-wide convolution, without a non-linearity between (ACTION, stage iii).

    It is never run over a whole map. `embed` evaluates it at chosen pixels, from their neighbourhoods; because
    it is linear, `embed` of a mean neighbourhood is the mean of the embeddings (method 3a).

    Args:
        in_channels: Number of channels of the joined pyramid.
        embedding: D, channels out.
        ndim: Number of axes of space, 2 or 3.
        precision: Type in which convolutions work, such as torch.bfloat16; None: the weights' own,
            which embeddings have in any case.

    Examples:
        >>> import torch
        >>> from fewscan.networks.heads import RepresentationHead
        >>> head = RepresentationHead(in_channels=4, embedding=16)
        >>> neighbourhoods = torch.randn(5, 9, 4)  # the 3 × 3 pixels around each of 5, 4 channels
        >>> embeddings = head.embed(neighbourhoods)
        >>> tuple(embeddings.shape)
        (5, 16)
        >>> torch.allclose(head.embed(neighbourhoods.mean(dim=0)), embeddings.mean(dim=0), atol=1e-5)
        True
    """

    def __init__(
        self, in_channels: int, embedding: int = 512, ndim: int = 2, precision: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.precision = precision
        self.conv_spatial = Convolution[ndim](in_channels, embedding, kernel_size=3, padding=1)
        self.conv_pointwise = Convolution[ndim](embedding, embedding, kernel_size=1)

    def embed(self, neighbourhoods: Float[Tensor, "*n t c"]) -> Float[Tensor, "*n e"]:
        """Apply the head at single pixels.

        Args:
            neighbourhoods: Windows (*n, t, c): the t = 3^ndim values around each pixel in row-major order, zero
                outside.

        Returns:
            Embeddings (*n, e), equal to the dense head's values at those pixels.
        """
        kernel = rearrange(self.conv_spatial.weight, "e c ... -> e (...) c")
        with arithmetic(self.precision, neighbourhoods.device):
            hidden = F.linear(neighbourhoods.flatten(-2), kernel.flatten(1), self.conv_spatial.bias)
            embeddings = F.linear(hidden, self.conv_pointwise.weight.flatten(1), self.conv_pointwise.bias)
        return embeddings.to(kernel.dtype)


class PyramidClassifier(nn.Module):
    """One classifier for each of the decoder's coarser maps, its logits brought to full resolution (URPC, section 2.1).

    Args:
        channels: Numbers of channels of the maps, coarsest first.
        n_classes: Number of channels of the logits.
        ndim: Number of axes of space, 2 or 3.
        precision: Type of the arithmetic, such as torch.bfloat16; logits have the weights' own. None: that too.

    Examples:
        >>> import torch
        >>> from fewscan.networks.heads import PyramidClassifier
        >>> pyramid = [torch.zeros(2, 16, 4, 4), torch.zeros(2, 8, 8, 8)]
        >>> [tuple(logits.shape) for logits in PyramidClassifier([16, 8], n_classes=3)(pyramid, (16, 16))]
        [(2, 3, 16, 16), (2, 3, 16, 16)]
    """

    def __init__(
        self, channels: Sequence[int], n_classes: int, ndim: int = 2, precision: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.precision = precision
        self.classifiers = nn.ModuleList(Convolution[ndim](c, n_classes, kernel_size=3, padding=1) for c in channels)

    def forward(
        self, pyramid: Sequence[Float[Tensor, "b _ *_space"]], size: tuple[int, ...]
    ) -> list[Float[Tensor, "b k *_size"]]:
        """Maps (b, c_l, *space_l) → as many logits (b, k, *size)."""
        logits = []
        for classify, maps in zip(self.classifiers, pyramid, strict=True):
            with arithmetic(self.precision, maps.device):
                coarse = classify(maps)
            logits.append(resize_linear(coarse.to(classify.weight.dtype), size))
        return logits
