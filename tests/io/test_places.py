from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from fewscan.io.geometry import Geometry, Scan
from fewscan.io.places import differences, find_order
from support.known import known
from support.scans import geometry, oblique


def stored(array: np.ndarray, grid: Geometry, order: tuple[int, ...], signs: tuple[int, ...]) -> Scan:
    """The same voxels with the axes (z, y, x) in another order, some of them from the other end."""
    affine = np.array(grid.affine_ras)
    # Columns are x, y, z.
    columns, origin = affine[:3, :3], affine[:3, 3]
    new = np.empty((3, 3))
    for axis, (old, sign) in enumerate(zip(order, signs, strict=True)):
        new[:, 2 - axis] = sign * columns[:, 2 - old]
        if sign < 0:
            origin = origin + columns[:, 2 - old] * (array.shape[old] - 1)
    array = array.transpose(order)[tuple(slice(None, None, sign) for sign in signs)]
    lps = np.diag([-1.0, -1.0, 1.0])
    spacing = np.linalg.norm(new, axis=0)
    direction = lps @ new / spacing
    return Scan(
        array,
        Geometry(array.shape, tuple(spacing[::-1]), tuple(lps @ origin), tuple(direction.ravel())),
    )


@pytest.mark.parametrize("grid", [geometry((3, 4, 5)), oblique((3, 4, 5)), oblique((4, 1, 6)), oblique((5, 5, 5))])
def test_any_order_of_the_same_voxels_is_brought_over(grid: Geometry) -> None:
    array = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        other = stored(array, grid, order, signs)
        order_back = find_order(other.geometry, grid)
        np.testing.assert_array_equal(known(order_back).bring(other.array), array)


def test_another_place_is_not_brought_over() -> None:
    grid = oblique((4, 5, 6))
    x, y, z = grid.origin
    for other in (
        replace(grid, origin=(x + 0.3, y, z)),
        replace(grid, spacing_mm=(7.5, 0.8, 1.5)),
        replace(grid, direction=geometry().direction),
    ):
        assert find_order(other, grid) is None
    assert find_order(replace(grid, shape=(3, 5, 6)), grid) is None


def whats(ours: Geometry, theirs: Geometry) -> list[str]:
    return [difference.what for difference in differences(ours, theirs)]


def test_what_differs_is_named() -> None:
    grid = geometry()
    turned = (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    assert whats(grid, grid) == []
    assert whats(replace(grid, shape=(4, 20, 20)), grid) == ["shape"]
    assert whats(replace(grid, spacing_mm=(5.0, 1.5, 1.25)), grid) == ["spacing"]
    assert whats(replace(grid, origin=(0.0, 0.0, 9.0)), grid) == ["origin"]
    assert whats(replace(grid, direction=turned), grid) == ["direction"]
    assert whats(replace(grid, origin=(0.0, 0.0, 9.0), direction=turned), grid) == ["origin", "direction"]


def test_small_differences_that_add_up_are_a_difference() -> None:
    grid = geometry((4, 200, 200), spacing=(1.0, 1.0, 1.0))
    spacing, origin = (1.0, 1.0, 1.0004), (1.08, -2.0, 3.0)
    assert whats(replace(grid, spacing_mm=spacing), grid) == whats(replace(grid, origin=origin), grid) == []
    assert whats(replace(grid, spacing_mm=spacing, origin=origin), grid) == ["place"]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_tolerance_goes_with_the_voxels(scale: float) -> None:
    def scaled(spacing: tuple[float, float, float], origin: tuple[float, float, float]) -> Geometry:
        (a, b, c), (x, y, z) = ([scale * number for number in numbers] for numbers in (spacing, origin))
        return geometry((8, 9, 10), (a, b, c), (x, y, z))

    grid = scaled((4.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    assert whats(scaled((4.0, 1.0, 1.001), (0.0, 0.0, 0.0)), grid) == []
    assert whats(scaled((4.0, 1.0, 1.05), (0.0, 0.0, 0.0)), grid) == ["spacing"]
    assert whats(scaled((4.0, 1.0, 1.0), (0.05, 0.0, 0.3)), grid) == []
    assert whats(scaled((4.0, 1.0, 1.0), (0.2, 0.0, 0.0)), grid) == ["origin"]


def test_one_slice_has_no_spacing_to_compare() -> None:
    assert whats(geometry((1, 8, 8), (5.0, 1.0, 1.0)), geometry((1, 8, 8), (1.0, 1.0, 1.0))) == []
