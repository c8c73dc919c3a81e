"""Views of patches for test-time augmentation: small rotations and flips, of patches of any size, in 2D and in 3D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

ROTATION_DEGREES = 10.0


@dataclass(frozen=True)
class View:
    """A patch turned in one plane, rigidly in voxels, and flipped; it belongs to no size of patches.

    Attributes:
        degrees: Angle of the rotation.
        plane: The two axes of the patch that turn into each other, from 0, the lower one first.
        signs: Factor −1 for an axis that is flipped, else 1, for every axis of the patch, the last one first.

    >>> View(0.0, (0, 1), (-1.0, 1.0)).matrix((4, 8))
    tensor([[-1., -0.,  0.],
            [-0.,  1.,  0.]])
    """

    degrees: float
    plane: tuple[int, int]
    signs: tuple[float, ...]

    def matrix(self, size: Sequence[int]) -> Float[Tensor, "n m"]:
        """Write the view as `affine_grid` wants it: rows of the last axis first, in units of half a patch's sides.

        Args:
            size: Sides of the patch in voxels, n of them.

        Returns:
            Map (n, n + 1) from places of the view to places of the patch.
        """
        ndim = len(size)
        angle = torch.deg2rad(torch.tensor(self.degrees))
        first, second = (ndim - 1 - axis for axis in reversed(self.plane))
        linear = torch.eye(ndim)
        linear[first, first] = linear[second, second] = angle.cos()
        linear[first, second], linear[second, first] = -angle.sin(), angle.sin()
        sides = torch.tensor(size[::-1], dtype=torch.float32)
        linear = linear * torch.tensor(self.signs) * (sides / sides[:, None])
        return torch.cat((linear, torch.zeros(ndim, 1)), dim=1)


def augmentation_views(flips: bool, ndim: int, planes: Sequence[tuple[int, int]]) -> list[View]:
    """The views of test-time augmentation: small rotations, and flips for a network that was trained with them.

    In 2D each rotation comes with each set of flips, 12 views. In 3D that would be up to 56, so that there rotations
    are not flipped: 8 views at most for the flips, and 2 for each plane.

    Args:
        flips: Whether training flipped images along every axis.
        ndim: Axes of space, 2 or 3.
        planes: Pairs of axes that patches may be turned in, as of `Plan.turning_planes`.

    Returns:
        Views, at least one; the first one is turned and not flipped, where there is a plane to turn in.

    >>> [len(augmentation_views(flips, 2, [(0, 1)])) for flips in (False, True)]
    [3, 12]
    >>> [len(augmentation_views(flips, 3, [(1, 2)])) for flips in (False, True)]
    [3, 10]
    """
    whole = (1.0,) * ndim
    signs = list(product((1.0, -1.0), repeat=ndim)) if flips else [whole]
    if ndim == 2:
        turns = [(degrees, plane) for plane in planes for degrees in (-ROTATION_DEGREES, 0.0, ROTATION_DEGREES)]
        return [View(*turn, flipped) for turn, flipped in product(turns, signs)]
    turned = [View(degrees, plane, whole) for plane in planes for degrees in (-ROTATION_DEGREES, ROTATION_DEGREES)]
    return [*turned, *(View(0.0, (0, 1), flipped) for flipped in signs)]


def turn(images: Float[Tensor, "b c *space"], view: View) -> Float[Tensor, "b c *space"]:
    """Show patches from a view, linearly; beyond the border the border's value.

    Args:
        images: Patches (b, c, *space).
        view: View of as many axes.
    """
    return _warp(images, view.matrix(tuple(images.shape[2:])), "border")


def turn_back(maps: Float[Tensor, "b k *space"], view: View) -> Float[Tensor, "b k *space"]:
    """Bring what was made of a view back to the patches' own voxels; 0 where the view did not show one.

    Args:
        maps: Maps of the view.
        view: View that `turn` was given.
    """
    matrix = view.matrix(tuple(maps.shape[2:]))
    linear = torch.linalg.inv(matrix[:, :-1])
    return _warp(maps, torch.cat((linear, -linear @ matrix[:, -1:]), dim=1), "zeros")


def _warp(maps: Tensor, matrix: Tensor, padding: str) -> Tensor:
    theta = matrix.to(maps).expand(len(maps), *matrix.shape)
    grid = F.affine_grid(theta, list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, padding_mode=padding, align_corners=False)
