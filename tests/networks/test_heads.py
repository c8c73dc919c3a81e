import itertools

import pytest
import torch
from torch import nn

from fewscan.networks.heads import (
    ClassAttention,
    GlobalProjector,
    LocalProjector,
    Regions,
    RepresentationHead,
    cut_patches,
)
from support.known import known


@pytest.mark.parametrize(
    ("side", "patch", "stride", "starts"),
    [
        (256, 64, 32, list(range(0, 193, 32))),
        (10, 4, 3, [0, 3, 6]),
        (11, 4, 3, [0, 3, 6, 7]),
        (3, 8, 4, [0]),
    ],
)
def test_patches_reach_every_border(side: int, patch: int, stride: int, starts: list[int]) -> None:
    maps = torch.arange(float(side)).expand(1, 1, 2, side)
    patches = cut_patches(maps, patch, stride)
    assert [int(p[0, 0, 0]) for p in patches[0]] == starts
    assert patches.unique().tolist() == list(range(side))


def test_patches_are_not_mixed_between_images(generator: torch.Generator) -> None:
    maps = torch.randn(3, 2, 8, 6, generator=generator)
    patches = cut_patches(maps, 4, 2)
    assert patches.shape == (3, 6, 2, 4, 4)
    # Locations in row-major order: rows 0, 2, 4 and columns 0, 2.
    assert torch.equal(patches[:, 3], maps[:, :, 2:6, 2:6])
    assert cut_patches(torch.zeros(1, 1, 4, 4, 4), 2, 2).shape == (1, 8, 1, 2, 2, 2)


@pytest.mark.parametrize("size", [(16, 32, 24), (48, 8, 16)])
def test_places_of_volumes_are_half_of_each_side_and_a_quarter_apart(
    size: tuple[int, int, int], generator: torch.Generator
) -> None:
    maps = torch.randn(2, 3, *size, generator=generator)
    found = Regions.of(size).cut(maps)
    assert found.shape == (2, 27, 3, 4, 4, 4)
    starts = [[0, side // 4, side // 2] for side in size]
    for number, corner in enumerate(itertools.product(*starts)):
        window = tuple(slice(start, start + side // 2) for start, side in zip(corner, size, strict=True))
        cube = maps[(slice(None), slice(None), *window)]
        torch.testing.assert_close(found[:, number], nn.AdaptiveAvgPool3d(4)(cube))


@pytest.mark.parametrize("size", [(30, 22, 50), (7, 9, 5)])
def test_every_voxel_is_in_a_place(size: tuple[int, int, int]) -> None:
    maps = torch.zeros(1, 1, *size, requires_grad=True)
    cut = Regions.of(size).cut(maps)
    assert cut.shape[1] == 27
    cut.sum().backward()
    assert (known(maps.grad) > 0).all()


def test_places_of_slices_are_those_of_the_paper() -> None:
    regions = Regions.of((256, 256))
    assert (regions.patch, regions.stride, regions.pooled) == (64, 32, 8)
    assert regions.cut(torch.zeros(1, 2, 256, 256)).shape == (1, 49, 2, 64, 64)


@pytest.mark.parametrize("ndim", [2, 3])
def test_local_embeddings_belong_to_their_patch(ndim: int, generator: torch.Generator) -> None:
    project = LocalProjector(3, ndim, pooled=2)
    patches = torch.randn(2, 4, 3, *[4] * ndim, generator=generator)
    swapped = torch.stack((patches[1], patches[0]))
    out, out_swapped = project(patches), project(swapped)
    assert out.shape == (2, 4, project.embedding)
    assert torch.allclose(out_swapped, torch.stack((out[1], out[0])), atol=1e-5)


def test_embeddings_of_alike_images_are_not_parallel(generator: torch.Generator) -> None:
    # Without the centring the cosine of these is above 0.99 and there is nothing to distil.
    bottleneck = 5 + 0.1 * torch.randn(8, 16, 4, 4, generator=generator)
    z = torch.nn.functional.normalize(GlobalProjector(16, 32)(bottleneck), dim=-1)
    assert float((z @ z.T).fill_diagonal_(0).detach().mean().abs()) < 0.3


@pytest.mark.parametrize("ndim", [2, 3])
def test_representation_head_at_pixels_is_the_dense_head(ndim: int, generator: torch.Generator) -> None:
    head = RepresentationHead(3, 5, ndim).double()
    maps = torch.randn(1, 3, *[3] * ndim, generator=generator, dtype=torch.float64)
    window = maps.flatten(2).movedim(1, -1)
    centre = head.conv_pointwise(head.conv_spatial(maps))[(0, slice(None), *[1] * ndim)]
    assert torch.allclose(head.embed(window)[0], centre)
    assert torch.allclose(head.embed(torch.stack((window, 3 * window)).mean(0)), head.embed(2 * window))


def test_attentions_of_classes_know_nothing_of_each_other(generator: torch.Generator) -> None:
    attend = ClassAttention(n_classes=3, embedding=4)
    features = torch.randn(3, 6, 4, generator=generator)
    found = attend(features)
    assert found.shape == (3, 6)
    assert ((found > 0) & (found < 1)).all()
    other = features.clone()
    other[1] += torch.randn(6, 4, generator=generator)
    changed = (attend(other) != found).any(dim=1)
    assert changed.tolist() == [False, True, False]


def test_an_attention_is_the_two_layers_of_its_class(generator: torch.Generator) -> None:
    attend = ClassAttention(n_classes=3, embedding=4)
    features = torch.randn(3, 6, 4, generator=generator)
    first, norm, _, last = attend.score
    assert isinstance(first, nn.Conv1d)
    assert isinstance(norm, nn.BatchNorm1d)
    assert isinstance(last, nn.Conv1d)
    inner, outer = known(first.bias), known(last.bias)
    for c in range(3):
        hidden = features[c] @ first.weight[4 * c : 4 * c + 4, :, 0].T + inner[4 * c : 4 * c + 4]
        hidden = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + norm.eps).sqrt()
        hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
        expected = (hidden @ last.weight[c, :, 0] + outer[c]).sigmoid()
        assert torch.allclose(attend(features)[c], expected, atol=1e-5)
