import gzip
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from fewscan.errors import DataError, WriteError
from fewscan.io.endings import scan_ending
from fewscan.io.files import atomic_path, make_folder, read_json, read_text, remove_leftovers, write_json, write_text
from fewscan.io.geometry import Geometry
from fewscan.io.scans import is_ours, read_geometry, read_scan, write_scan
from support.known import known
from support.odd_scans import mha, nrrd
from support.scans import IDENTITY, as_stored, geometry, oblique
from support.small_disks import mounted


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("where", [geometry(), oblique()], ids=["plain", "oblique"])
def test_array_and_geometry_survive(tmp_path: Path, ending: str, where: Geometry) -> None:
    array = np.random.default_rng(0).integers(0, 5, where.shape).astype(np.uint8)
    path = tmp_path / f"a b ü{ending}"
    write_scan(path, array, where)
    scan = read_scan(path)
    assert np.array_equal(scan.array, array)
    assert scan.array.dtype == np.uint8
    for read in (scan.geometry, read_geometry(path)):
        assert read.shape == where.shape
        assert np.allclose(read.spacing_mm, where.spacing_mm, atol=1e-5)
        assert np.allclose(read.origin, where.origin, atol=1e-4)
        assert np.allclose(read.direction, where.direction, atol=1e-5)


def test_affine_is_nibabels(tmp_path: Path) -> None:
    where = oblique()
    write_scan(tmp_path / "scan.nii.gz", np.zeros(where.shape, np.uint8), where)
    assert np.allclose(nibabel.Nifti1Image.from_filename(tmp_path / "scan.nii.gz").affine, where.affine_ras, atol=1e-4)


def test_sheared_affine_is_read_and_survives_writing(tmp_path: Path) -> None:
    affine = np.array([[1.0, 0.4, 0, 5], [0, 2, 0, 6], [0, 0.1, 3, 7], [0, 0, 0, 1]])
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "sheared.nii.gz")
    scan = read_scan(tmp_path / "sheared.nii.gz")
    assert np.array_equal(as_stored(scan), array.transpose(2, 1, 0))
    write_scan(tmp_path / "mask.nii.gz", (scan.array > 3).astype(np.uint8), scan.geometry)
    assert np.allclose(nibabel.Nifti1Image.from_filename(tmp_path / "mask.nii.gz").affine, affine, atol=1e-5)


def test_2d_image_is_one_slice_and_4d_of_one_frame_that_frame(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((5, 6), np.float32)), str(tmp_path / "flat.nrrd"))
    assert read_scan(tmp_path / "flat.nrrd").array.shape == (1, 5, 6)
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 6, 1), np.float32), np.eye(4)), tmp_path / "one.nii")
    assert read_scan(tmp_path / "one.nii").array.shape == (6, 5, 4)
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 6, 3), np.float32), np.eye(4)), tmp_path / "three.nii")
    with pytest.raises(DataError, match=r"three\.nii: has 3 frames"):
        read_scan(tmp_path / "three.nii")


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.nii\.gz: there is no such file"):
        read_scan(tmp_path / "no.nii.gz")
    (tmp_path / "empty.nii.gz").touch()
    with pytest.raises(DataError, match=r"empty\.nii\.gz: the file is empty"):
        read_scan(tmp_path / "empty.nii.gz")
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"hello"))
    with pytest.raises(DataError, match=r"text\.nii\.gz: cannot be read as a scan"):
        read_geometry(tmp_path / "text.nii.gz")
    (tmp_path / "scan.bmp").write_text("x")
    with pytest.raises(DataError, match=r"scan\.bmp: not a scan"):
        read_scan(tmp_path / "scan.bmp")
    write_scan(tmp_path / "good.nii.gz", np.random.default_rng(0).normal(size=(4, 20, 24)), geometry())
    whole = (tmp_path / "good.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.nii\.gz: the file is cut short"):
        read_scan(tmp_path / "cut.nii.gz")


def test_gzip_of_several_members_is_whole(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "plain.nii")
    raw = (tmp_path / "plain.nii").read_bytes()
    (tmp_path / "parts.nii.gz").write_bytes(gzip.compress(raw[:400]) + gzip.compress(raw[400:]))
    assert np.array_equal(as_stored(read_scan(tmp_path / "parts.nii.gz")), array.T)
    (tmp_path / "cut.nii").write_bytes(raw[:-7])
    with pytest.raises(DataError, match=r"cut\.nii: the file is cut short"):
        read_scan(tmp_path / "cut.nii")


def test_nothing_is_written_over_by_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})

    def fail_half_way() -> None:
        with atomic_path(path) as beside:
            beside.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_half_way()
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]
    with pytest.raises(DataError, match="cannot be written"):
        write_json(tmp_path / "missing" / "value.json", {})


def test_shape_must_be_the_geometrys(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has shape"):
        write_scan(tmp_path / "a.nii.gz", np.zeros((2, 2, 2), np.uint8), geometry())


def test_endings(tmp_path: Path) -> None:
    assert scan_ending(tmp_path / "A.NII.GZ") == ".nii.gz"
    assert scan_ending(tmp_path / "a.gz") is None


def test_leftovers_of_killed_writes_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    kept = {tmp_path / name for name in (".hidden", ".gitignore", "model.json", ".config.yaml.swp", "inner/a.nii.gz")}
    killed = []
    for name in (".hidden", "model.json", "inner/a.nii.gz", "inner/lock"):
        with atomic_path(tmp_path / name) as beside:
            killed.append(beside)
    for path in (*kept, *killed):
        path.touch()
    remove_leftovers(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == kept | {tmp_path / "inner" / "lock"}


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("sheared", [False, True])
def test_a_scan_that_does_not_fit_on_the_disk_is_no_file_at_all(tmp_path: Path, ending: str, sheared: bool) -> None:
    if sheared and ending not in (".nii", ".nii.gz"):
        pytest.skip("only NIfTI holds sheared axes")
    direction = (1.0, 0.3, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0) if sheared else IDENTITY
    where = geometry((20, 100, 100), direction=direction)
    noise = np.random.default_rng(0).integers(0, 256, where.shape).astype(np.uint8)
    write_scan(tmp_path / f"fits{ending}", noise, where)
    with mounted(tmp_path / "disk", "size=128k") as disk:
        small = geometry((1, 100, 100), direction=direction)
        write_scan(disk / f"mask{ending}", noise[:1], small)
        with pytest.raises(WriteError, match=rf"mask{ending}: cannot be written: .*\. \w+"):
            write_scan(disk / f"mask{ending}", noise, where)
        assert [path.name for path in disk.iterdir()] == [f"mask{ending}"]
        assert np.array_equal(read_scan(disk / f"mask{ending}").array, noise[:1])


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="inner: cannot be written: Not a directory"):
        make_folder(tmp_path / "file" / "inner")


@pytest.mark.parametrize(("decimals", "noted"), [(2, True), (3, True), (8, False)])
@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_axes_that_were_rounded_become_the_nearest_at_right_angles(
    tmp_path: Path, ending: str, decimals: int, noted: bool
) -> None:
    angle = np.deg2rad(17)
    cosine, sine = round(float(np.cos(angle)), decimals), round(float(np.sin(angle)), decimals)
    path = tmp_path / f"scan{ending}"
    if ending == ".mha":
        path.write_bytes(mha(TransformMatrix=f"{cosine} {sine} 0 {-sine} {cosine} 0 0 0 1", ElementSpacing="1 1 5"))
    else:
        path.write_bytes(nrrd(space_directions=f"({cosine},{sine},0) ({-sine},{cosine},0) (0,0,5)"))
    scan = read_scan(path)
    direction = np.reshape(scan.geometry.direction, (3, 3))
    assert np.allclose(direction @ direction.T, np.eye(3), atol=1e-12)
    assert np.allclose(direction[:2, 0], [np.cos(angle), np.sin(angle)], atol=10**-decimals)
    assert any("axes are rounded" in note for note in scan.geometry.notes) == (noted and ending == ".mha")
    write_scan(tmp_path / f"mask{ending}", scan.array, scan.geometry)
    assert np.allclose(read_geometry(tmp_path / f"mask{ending}").direction, scan.geometry.direction, atol=1e-6)


def test_axes_far_from_right_angles_are_still_refused(tmp_path: Path) -> None:
    (tmp_path / "scan.mha").write_bytes(mha(TransformMatrix="1 0 0 0.1 0.995 0 0 0 1"))
    with pytest.raises(DataError, match="not at right angles"):
        read_scan(tmp_path / "scan.mha")


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("sheared", [False, True])
def test_predicted_masks_are_marked_and_no_other_scan_is(tmp_path: Path, ending: str, sheared: bool) -> None:
    if sheared and ending not in (".nii", ".nii.gz"):
        pytest.skip("only NIfTI holds sheared axes")
    direction = (1.0, 0.3, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0) if sheared else IDENTITY
    where = geometry(direction=direction)
    mask = np.ones(where.shape, np.uint8)
    write_scan(tmp_path / f"ours{ending}", mask, where, predicted=True)
    write_scan(tmp_path / f"theirs{ending}", mask, where)
    assert is_ours(tmp_path / f"ours{ending}")
    assert not is_ours(tmp_path / f"theirs{ending}")
    # A scan whose pixels only look like the mark.
    noise = np.frombuffer(b"\nfewscan = fewscan\n" * 400, np.uint8)[: mask.size].reshape(mask.shape)
    write_scan(tmp_path / f"noise{ending}", noise, where)
    assert not is_ours(tmp_path / f"noise{ending}")


def test_what_is_no_mask_is_not_ours(tmp_path: Path) -> None:
    for name, content in (("a.nii", b"fewscan"), ("b.nrrd", b"fewscan"), ("c.mha", b""), ("d.npz", b"PK"), ("e", b"x")):
        (tmp_path / name).write_bytes(content)
        assert not is_ours(tmp_path / name)
    (tmp_path / "f.nii.gz").mkdir()
    np.savez(tmp_path / "g.npz", probabilities=np.zeros(1))
    for name in ("f.nii.gz", "g.npz", "not-there.nii.gz"):
        assert not is_ours(tmp_path / name)


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o022])
def test_who_may_read_what_is_written_is_what_the_umask_says(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_json(tmp_path / "a.json", {})
        write_scan(tmp_path / "a.nii.gz", np.zeros((4, 20, 24), np.uint8), geometry())
        write_scan(tmp_path / "a.mha", np.zeros((4, 20, 24), np.uint8), geometry())
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~umask}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_may_begin_with_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"Größe": 1}', encoding=encoding)
    assert read_json(path) == {"Größe": 1}
    assert read_text(path) == '{"Größe": 1}'


def test_text_of_another_encoding_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes('{"Größe": 1}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.json: is not UTF-8 text: .* Save it as UTF-8"):
        read_json(tmp_path / "a.json")


def test_a_name_that_is_not_utf_8_is_refused_and_can_be_written_down(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.nii.gz")
    write_scan(tmp_path / "a.nii.gz", np.zeros((4, 20, 24), np.uint8), geometry())
    (tmp_path / "a.nii.gz").rename(tmp_path / name)
    for attempt in (read_scan, read_geometry, lambda path: write_scan(path, np.zeros((4, 20, 24)), geometry())):
        with pytest.raises(DataError, match="its name is not UTF-8"):
            attempt(tmp_path / name)
    write_json(tmp_path / "list.json", [name])
    assert read_json(tmp_path / "list.json") == [name]
    write_text(tmp_path / "list.txt", name)
    assert (tmp_path / "list.txt").read_bytes() == b"caf\\udce9.nii.gz"


def test_a_link_to_a_scan_is_followed(tmp_path: Path) -> None:
    write_scan(tmp_path / "a.nii.gz", np.ones((4, 20, 24), np.uint8), geometry())
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "a.nii.gz")
    assert read_scan(tmp_path / "link.nii.gz").array.sum() == 1920


@pytest.mark.parametrize("degrees", [0.0, 6.3, -20.0])
def test_a_qform_that_turns_by_180_degrees_is_read_to_the_digits_that_it_has(tmp_path: Path, degrees: float) -> None:
    """Of float32, the rest of the quaternion is rounding, whose root would turn the axes by 0.02°."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = np.array([[-1, 0, 0], [0, -cosine, -sine], [0, -sine, cosine]])
    affine = np.eye(4)
    affine[:3, :3] = turned * (0.5, 0.5, 3.0)
    image = nibabel.Nifti1Image(np.zeros((384, 384, 19), np.uint8), affine)
    image.set_sform(None, 0)
    image.set_qform(affine, 1)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    found = known(read_geometry(tmp_path / "scan.nii.gz").stored).affine_ras
    assert np.abs((found - affine) @ (383, 383, 18, 1)).max() < 1e-3
