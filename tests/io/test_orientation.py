"""The same scan in any of the 48 orders of storage is one scan inside, and its masks lie where it lies."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.arrayproxy import ArrayProxy

from fewscan.io.orientation import Orientation, nearest_orientation
from fewscan.io.scans import read_geometry, read_scan, write_scan
from support.odd_scans import PLAIN
from support.orders import ORDERS, axes_of, stored_in

SIDES = st.sampled_from([1, 2, 3, 4, 5, 8])
SPACINGS = st.sampled_from([0.004, 0.7, 1.0, 1.40625, 10.0])
RARE = settings(max_examples=40, deadline=None)


@st.composite
def scans(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Values (x, y, z) that are all different, and an affine."""
    shape = draw(st.tuples(SIDES, SIDES, SIDES))
    kind = draw(st.sampled_from(["straight", "oblique", "left-handed", "sheared", "between two", "between three"]))
    affine = np.eye(4)
    affine[:3, :3] = axes_of(kind, draw(st.integers(0, 10**6))) * draw(st.tuples(SPACINGS, SPACINGS, SPACINGS))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    array = np.random.default_rng(0).permutation(int(np.prod(shape))).reshape(shape).astype(np.int16)
    return array, affine


@RARE
@given(scans(), st.sampled_from(ORDERS), st.sampled_from([nibabel.Nifti1Image, nibabel.Nifti2Image]))
def test_the_order_of_storage_changes_nothing_inside(
    tmp_path_factory: pytest.TempPathFactory,
    scan: tuple[np.ndarray, np.ndarray],
    order: tuple[tuple[int, ...], tuple[int, ...]],
    kind: type[nibabel.Nifti1Image],
) -> None:
    folder = tmp_path_factory.mktemp("orders")
    array, affine = scan
    nibabel.save(nibabel.Nifti1Image(array, affine), folder / "one.nii")
    nibabel.save(kind(*stored_in(*order, array, affine)), folder / "other.nii.gz")
    one, other = read_scan(folder / "one.nii"), read_scan(folder / "other.nii.gz")
    assert np.array_equal(one.array, other.array)
    smallest = min(one.geometry.spacing_mm)
    assert np.allclose(one.geometry.affine_ras, other.geometry.affine_ras, rtol=1e-5, atol=1e-3 * smallest + 1e-4)
    assert read_geometry(folder / "other.nii.gz").shape == other.array.shape


@RARE
@given(scans(), st.sampled_from([".nii.gz", ".nii"]))
def test_each_voxel_lies_where_nibabel_puts_it_and_a_mask_where_the_scan_does(
    tmp_path_factory: pytest.TempPathFactory, scan: tuple[np.ndarray, np.ndarray], ending: str
) -> None:
    folder = tmp_path_factory.mktemp("places")
    array, affine = scan
    nibabel.save(nibabel.Nifti1Image(array, affine), folder / "scan.nii")
    found = read_scan(folder / "scan.nii")
    voxel = tuple(side // 2 for side in found.array.shape)
    there = found.geometry.affine_ras @ (*voxel[::-1], 1.0)
    loaded = nibabel.Nifti1Image.from_filename(folder / "scan.nii")
    index = np.rint(np.linalg.solve(loaded.affine, there)[:3]).astype(int)
    assert found.array[voxel] == array[tuple(index)]
    write_scan(folder / f"mask{ending}", found.array, found.geometry)
    mask = nibabel.Nifti1Image.from_filename(folder / f"mask{ending}")
    assert np.array_equal(np.asarray(mask.dataobj), array)
    assert np.array_equal(mask.affine, loaded.affine)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
@pytest.mark.parametrize("order", ORDERS[::7])
def test_orders_of_other_formats_are_one_scan_too(
    tmp_path: Path, ending: str, order: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    array = np.random.default_rng(0).permutation(60).reshape(3, 4, 5).astype(np.int16)
    affine = np.eye(4)
    affine[:3, :3] = axes_of("oblique", 3) * (0.7, 1.2, 5.0)
    turned, where = stored_in(*order, array, affine)
    image = sitk.GetImageFromArray(np.ascontiguousarray(turned.transpose(2, 1, 0)))
    spacing = np.linalg.norm(where[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((np.diag([-1, -1, 1]) @ where[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((np.array([-1, -1, 1]) * where[:3, 3]).tolist())
    sitk.WriteImage(image, str(tmp_path / f"scan{ending}"))
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "one.nii")
    found = read_scan(tmp_path / f"scan{ending}")
    assert np.array_equal(found.array, read_scan(tmp_path / "one.nii").array)
    write_scan(tmp_path / f"mask{ending}", (found.array % 7).astype(np.uint8), found.geometry)
    mask = sitk.ReadImage(str(tmp_path / f"mask{ending}"))
    assert np.array_equal(sitk.GetArrayFromImage(mask), turned.transpose(2, 1, 0) % 7)
    for get in ("GetOrigin", "GetSpacing", "GetDirection", "GetSize"):
        assert np.allclose(getattr(mask, get)(), getattr(image, get)(), atol=1e-5)


def saved(path: Path, shape: tuple[int, ...], **fields: object) -> Path:
    """A NIfTI-1 file of zeros whose header has these fields."""
    image = nibabel.Nifti1Image(np.zeros(shape, np.float32), PLAIN)
    for name, value in fields.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("shape", [(4, 3, 2), (4, 3, 2, 1), (4, 3), (4, 3, 1), (4,), (4, 3, 2, 1, 1)])
def test_a_mask_has_the_dimensions_the_forms_the_codes_and_the_units_of_its_scan(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    moved = {"qoffset_x": 7.0, "sform_code": 4, "qform_code": 2, "xyzt_units": 3, "intent_name": b"of J. Doe"}
    path = saved(tmp_path / "scan.nii.gz", shape, descrip=b"Doe^John 1970", aux_file=b"doe.txt", **moved)
    scan = read_scan(path)
    write_scan(tmp_path / "mask.nii.gz", np.ones(scan.array.shape, np.uint8), scan.geometry, predicted=True)
    ours, theirs = (
        nibabel.Nifti1Image.from_filename(tmp_path / name).header for name in ("mask.nii.gz", "scan.nii.gz")
    )
    assert nibabel.Nifti1Image.from_filename(tmp_path / "mask.nii.gz").shape == shape
    for name in ("dim", "pixdim", "xyzt_units", "qform_code", "sform_code", "qoffset_x", "srow_x", "quatern_b"):
        assert np.array_equal(ours[name], theirs[name])
    raw = ours.binaryblock
    assert b"oe" not in raw
    assert ours["descrip"] == b"fewscan"
    stored = nibabel.Nifti1Image.from_filename(tmp_path / "mask.nii.gz").dataobj
    assert isinstance(stored, ArrayProxy)
    assert (stored.slope, stored.inter) == (1, 0)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 6), (1, 4, 5, 6)])
def test_masks_of_flat_scans_and_of_one_frame_are_so_in_other_formats_too(
    tmp_path: Path, ending: str, shape: tuple[int, ...]
) -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=shape).astype(np.float32), isVector=False)
    image.SetMetaData("PatientName", "Doe")
    sitk.WriteImage(image, str(tmp_path / f"scan{ending}"))
    scan = read_scan(tmp_path / f"scan{ending}")
    write_scan(tmp_path / f"mask{ending}", np.ones(scan.array.shape, np.uint8), scan.geometry, predicted=True)
    mask = sitk.ReadImage(str(tmp_path / f"mask{ending}"))
    assert mask.GetSize() == image.GetSize()
    assert b"Doe" not in (tmp_path / f"mask{ending}").read_bytes()
    assert b"fewscan" in (tmp_path / f"mask{ending}").read_bytes()


def test_raw_acdc_headers_stay_as_they_are(tmp_path: Path) -> None:
    # A unit sform and no qform code beside the true spacing in pixdim.
    image = nibabel.Nifti1Image(np.zeros((4, 3, 2), np.int16), np.eye(4))
    image.set_qform(None, code=0)
    image.header["pixdim"][1:4] = (1.5625, 1.5625, 10.0)
    nibabel.save(image, tmp_path / "patient001_frame01.nii.gz")
    scan = read_scan(tmp_path / "patient001_frame01.nii.gz")
    assert np.allclose(scan.geometry.spacing_mm, (10.0, 1.5625, 1.5625))
    write_scan(tmp_path / "mask.nii.gz", scan.array.astype(np.uint8), scan.geometry)
    mask = nibabel.Nifti1Image.from_filename(tmp_path / "mask.nii.gz")
    assert np.array_equal(mask.affine, np.eye(4))
    assert np.allclose(mask.header["pixdim"][1:4], (1.5625, 1.5625, 10.0))


def test_there_and_back_in_every_order() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    for order, signs in ORDERS:
        z, y, x = (sign < 0 for sign in signs)
        way = Orientation(order, (z, y, x))
        assert np.array_equal(way.to_stored(way.to_canonical(array)), array)
        assert way.to_canonical(array).shape == tuple(array.shape[axis] for axis in order)


def test_itks_own_axes_are_canonical() -> None:
    assert nearest_orientation(np.eye(3)) == Orientation()
    assert nearest_orientation(np.diag([-2.0, -3.0, 4.0])) == Orientation((0, 1, 2), (False, True, True))
