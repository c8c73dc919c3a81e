"""Planes of scans: which, the right way up, and side by side."""

import numpy as np
import pytest

from fewscan.reporting.planes import Place, Plane, arrange, choose_planes, choose_slices, middle, mosaic

# Of a canonical array: x to the patient's left, y to the back, z to the head.
SHAPE = (3, 4, 5)


def direction(axis: int) -> np.ndarray:
    """A volume whose values say how far a voxel lies along an axis."""
    return np.broadcast_to(np.expand_dims(np.arange(SHAPE[axis]), [a for a in range(3) if a != axis]), SHAPE)


def test_pictures_are_as_radiologists_look_at_them() -> None:
    z, y, x = (direction(axis) for axis in range(3))
    axial, coronal, sagittal = (Plane(axis, 1) for axis in range(3))
    # Downwards to the back, and from the head to the feet; to the right the patient's left, or the back.
    assert axial.picture(y)[:, 0].tolist() == [0, 1, 2, 3]
    assert axial.picture(x)[0].tolist() == [0, 1, 2, 3, 4]
    assert coronal.picture(z)[:, 0].tolist() == [2, 1, 0]
    assert coronal.picture(x)[0].tolist() == [0, 1, 2, 3, 4]
    assert sagittal.picture(z)[:, 0].tolist() == [2, 1, 0]
    assert sagittal.picture(y)[0].tolist() == [0, 1, 2, 3]
    assert [str(plane) for plane in (axial, coronal, sagittal)] == ["axial 1", "coronal 1", "sagittal 1"]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_plane_shows_its_number_and_the_part_that_is_wanted(axis: int) -> None:
    plane, volume = Plane(axis, 2), direction(axis)
    assert (plane.picture(volume) == 2).all()
    part = (slice(0, 2), slice(1, 4), slice(2, 4))
    whole = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    boxed = whole[tuple(slice(None) if a == axis else part[a] for a in range(3))]
    assert np.array_equal(plane.picture(whole, part), plane.picture(boxed))


def test_slices_are_chosen_through_the_foreground() -> None:
    foreground = np.zeros((20, 2, 2), bool)
    foreground[4:15] = True
    assert choose_slices(foreground) == [4, 6, 9, 12, 14]
    assert choose_slices(foreground[4:6]) == [0, 1]
    assert choose_slices(np.zeros((3, 2, 2), bool)) == [0, 1, 2]
    assert choose_planes(foreground.transpose(1, 0, 2), (1,)) == [Plane(1, n) for n in (4, 6, 9, 12, 14)]


def test_planes_across_several_axes_go_through_the_middle_and_show_foreground() -> None:
    two = np.zeros((9, 9, 30), bool)
    # Two parts: the middle of their box shows nothing.
    two[1, 2, 3:6] = two[7, 6, 20:28] = True
    planes = choose_planes(two, (0, 1, 2))
    assert [plane.axis for plane in planes] == [0, 1, 2]
    assert all(plane.cut(two).any() for plane in planes)
    assert middle(np.ones((5, 1, 1), bool), 0) == 2
    assert middle(np.zeros((6, 4, 8), bool), 2) == 4


def test_planes_lie_side_by_side_with_what_they_share_in_line() -> None:
    axial, coronal, sagittal = (Plane(axis, 0) for axis in range(3))
    places = arrange([axial, coronal, sagittal], (10.0, 20.0, 30.0), gap=1.0)
    assert places == [Place(0, 11, 30, 20), Place(0, 0, 30, 10), Place(31, 0, 20, 10)]
    assert arrange([axial], (10.0, 20.0, 30.0), gap=1.0) == [Place(0, 0, 30, 20)]
    assert arrange([sagittal], (10.0, 20.0, 30.0), gap=1.0) == [Place(0, 0, 20, 10)]


def test_a_mosaic_has_square_pixels_and_every_voxel_in_its_place() -> None:
    volume = np.arange(1, 2 * 3 * 4 + 1).reshape(2, 3, 4)
    planes = [Plane(0, 1), Plane(1, 1), Plane(2, 2)]
    pictures = [plane.picture(volume) for plane in planes]
    whole = mosaic(pictures, planes, (3.0, 1.0, 1.0))
    # Axial planes are 3×4 mm, coronal ones 6×4 mm, sagittal ones 6×3 mm; a black line is between them.
    assert whole.shape == (6 + 1 + 3, 4 + 1 + 3)
    assert np.array_equal(whole[:6, :4], pictures[1].repeat(3, axis=0))
    assert np.array_equal(whole[:6, 5:], pictures[2].repeat(3, axis=0))
    assert np.array_equal(whole[7:, :4], pictures[0])
    assert not whole[6].any()
    assert not whole[7:, 4:].any()


def test_a_mosaic_of_one_plane_is_that_plane_also_in_colour() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(mosaic([picture], [Plane(1, 0)], (1.0, 9.0, 1.0)), picture)
