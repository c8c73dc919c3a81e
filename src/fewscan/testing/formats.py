"""The contract of `fewscan.io.formats.ScanFormat`, tested on files that the format itself writes."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from fewscan.errors import DataError, WriteError
from fewscan.io.endings import scan_ending
from fewscan.io.formats import ScanFormat, format_of
from fewscan.io.geometry import LPS_TO_RAS, MARK, PAGE_MM, PIXEL, Geometry, LengthUnit, Scan, canonical_geometry
from fewscan.io.orientation import Orientation
from fewscan.io.scans import is_ours, read_frames, read_geometry, read_scan, write_scan

STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
# A rotation by whole numbers over nine: orthonormal to the last digit.
TURNED = tuple(n / 9 for n in (8.0, -4.0, 1.0, 4.0, 7.0, -4.0, 1.0, 4.0, 8.0))
SHEARED = (1.0, 0.28, 0.0, 0.0, 0.96, 0.0, 0.0, 0.0, 1.0)
TYPES = ("uint8", "uint16", "int16", "int32", "float32", "float64")
UNITS: tuple[LengthUnit, ...] = ("mm", "um", "pixel")
# All orders that a file can store its axes in, those that are left-handed among them.
ORDERS = tuple(
    Orientation((order[0], order[1], order[2]), (flipped[0], flipped[1], flipped[2]))
    for order in permutations(range(3))
    for flipped in product((False, True), repeat=3)
)
# Whoever looks for the mark among the voxels finds it here.
FALSE_MARKS = f"\n{MARK} = {MARK}\n{MARK}:={MARK}\n".encode()
NO_SCANS = {"text": b"no scan\n" * 200, "zeros": bytes(4096), "archive": b"PK\x03\x04" + bytes(2048)}
# How many places of a file are damaged, one after the other, and how many cuts are made.
PLACES = 150
# A header may take a quarter of what the voxels would.
HEADER_SHARE = 0.25


class FormatContract:
    """What every format of scans owes its callers: subclass it as `Test...` and say which class is meant.

    The class has to be registered, by `register_format` or by an entry point of its installed package: files are read
    and written through `fewscan.io.scans`, as the commands do it. A geometry that `check_geometry` refuses is one that
    files of the format cannot hold, and so are values that `check_values` refuses; all others have to survive. Formats
    of pictures hold no place: theirs are tested on grids without one, of one slice where they hold no more.

    Attributes:
        scan_format: Format that is tested, under each of its endings.

    >>> from fewscan.io.nifti import Nifti
    >>> class TestNifti(FormatContract):
    ...     scan_format = Nifti
    """

    scan_format: ClassVar[type[ScanFormat]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test for each ending."""
        if "ending" in metafunc.fixturenames:
            metafunc.parametrize("ending", self.scan_format.endings)

    def test_the_format_is_found_by_its_endings(self, ending: str) -> None:
        for name in (f"scan{ending}", f"SCAN{ending.upper()}", f"a.b{ending}"):
            assert scan_ending(Path(name)) == ending
        assert type(format_of(ending)) is self.scan_format

    @pytest.mark.parametrize("kind", TYPES)
    @pytest.mark.parametrize("direction", [STRAIGHT, TURNED, SHEARED], ids=["straight", "turned", "sheared"])
    def test_values_and_geometry_survive(
        self, tmp_path: Path, ending: str, direction: tuple[float, ...], kind: str
    ) -> None:
        self._survives(tmp_path / f"a scan ü{ending}", grid_of(direction), kind)

    @pytest.mark.parametrize("kind", TYPES)
    @pytest.mark.parametrize("unit", UNITS)
    def test_pictures_survive(self, tmp_path: Path, ending: str, unit: LengthUnit, kind: str) -> None:
        for slices in (1, 5):
            self._survives(tmp_path / f"a picture ü{ending}", picture_grid((slices, 22, 18), unit), kind)

    def _survives(self, path: Path, grid: Geometry, kind: str) -> None:
        array = values(grid.shape, kind)
        if not (self._holds(path, grid) and self._holds_values(path, array)):
            with refused(path):
                write_scan(path, array, grid)
            assert not path.exists()
            return
        write_scan(path, array, grid)
        scan = read_scan(path)
        assert np.array_equal(scan.array, array)
        assert (scan.array.dtype.kind == "f") == (array.dtype.kind == "f")
        assert scan.array.dtype.isnative
        assert scan.array.flags.c_contiguous
        assert_same_place(scan.geometry, grid)
        # Scans say mm whatever they were written of.
        assert scan.geometry.unit == (grid.unit if self.scan_format.is_picture else "mm")
        path.unlink()

    @pytest.mark.parametrize("shape", [(1, 22, 18), (5, 1, 18), (1, 1, 1)], ids=str)
    def test_thin_scans_survive(self, tmp_path: Path, ending: str, shape: tuple[int, int, int]) -> None:
        path = tmp_path / f"scan{ending}"
        grid, array = self._some(path, STRAIGHT, shape)
        write_scan(path, array, grid)
        assert np.array_equal(read_scan(path).array, array)
        assert_same_place(read_geometry(path), grid)

    def test_arrays_of_any_layout_in_memory_are_written_right(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"scan{ending}"
        grid, array = self._some(path)
        frozen = array.copy()
        frozen.flags.writeable = False
        for view in (np.asfortranarray(array), array[::-1, :, ::-1], frozen, np.broadcast_to(array[:1], array.shape)):
            write_scan(path, view, grid)
            assert np.array_equal(read_scan(path).array, view)

    def test_a_header_alone_says_what_the_whole_file_says(self, tmp_path: Path, ending: str) -> None:
        path = self._written(tmp_path, ending).path
        frames = read_frames(path)
        header = read_geometry(path)
        assert len(frames) == 1
        assert (header, header.notes) == (frames[0].geometry, frames[0].geometry.notes)

    @pytest.mark.parametrize("orientation", ORDERS, ids=str)
    def test_the_order_of_storage_is_kept(self, tmp_path: Path, ending: str, orientation: Orientation) -> None:
        grid, path, mask = stored_as(orientation), tmp_path / f"scan{ending}", tmp_path / f"mask{ending}"
        array = values(grid.shape, "uint8")
        if not self._holds(path, grid):
            assert self.scan_format.is_picture
            return
        write_scan(path, array, grid)
        scan = read_scan(path)
        assert np.array_equal(scan.array, array)
        assert_same_place(scan.geometry, grid)
        write_scan(mask, scan.array, scan.geometry, predicted=True)
        again = read_scan(mask)
        assert np.array_equal(again.array, array)
        # To the digits of a double: whatever reads both puts one where it puts the other.
        assert np.allclose(again.geometry.stored_affine_ras, scan.geometry.stored_affine_ras, rtol=1e-12, atol=1e-12)
        for read in (scan.geometry, again.geometry):
            assert read.stored is not None
            assert read.stored.orientation == orientation
            assert np.allclose(read.stored_affine_ras, grid.stored_affine_ras, atol=1e-4)

    def test_equal_scans_are_equal_files(self, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
        grid, array = self._some(tmp_path / f"a{ending}")
        for name, moment in (("a", 1e9), ("b", 1.5e9)):
            monkeypatch.setattr(time, "time", lambda moment=moment: moment)
            write_scan(tmp_path / f"{name}{ending}", array, grid)
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()

    def test_predicted_masks_alone_are_ours(self, tmp_path: Path, ending: str) -> None:
        grid, _ = self._some(tmp_path / f"ours{ending}", STRAIGHT)
        array = np.resize(np.frombuffer(FALSE_MARKS, np.uint8), grid.shape)
        write_scan(tmp_path / f"theirs{ending}", array, grid)
        write_scan(tmp_path / f"ours{ending}", array, grid, predicted=True)
        assert is_ours(tmp_path / f"ours{ending}")
        assert not is_ours(tmp_path / f"theirs{ending}")
        assert not is_ours(tmp_path / f"absent{ending}")
        assert np.array_equal(read_scan(tmp_path / f"ours{ending}").array, array)

    @pytest.mark.parametrize("content", NO_SCANS)
    def test_what_is_no_scan_is_refused(self, tmp_path: Path, ending: str, content: str) -> None:
        path = tmp_path / f"scan{ending}"
        path.write_bytes(NO_SCANS[content])
        for read in (read_geometry, read_scan):
            with refused(path):
                read(path)
        assert not is_ours(path)

    def test_a_file_that_is_cut_short_is_refused(self, tmp_path: Path, ending: str) -> None:
        written = self._written(tmp_path, ending)
        size = len(written.whole)
        cuts = {*range(1, size, 1 + size // PLACES), *range(size - 16, size)}
        refusals = 0
        for length in sorted(cuts):
            written.path.write_bytes(written.whole[:length])
            scan = read_or_refuse(written.path)
            if scan is None:
                refusals += 1
            else:
                # What only ends the file, a checksum or a line's end, may be missed.
                assert np.array_equal(scan.array, written.array)
                assert_same_place(scan.geometry, written.geometry)
            assert not is_ours(written.path)
        assert refusals > 0.8 * len(cuts)

    def test_a_damaged_file_is_refused_or_still_a_scan(self, tmp_path: Path, ending: str) -> None:
        written = self._written(tmp_path, ending)
        generator = np.random.default_rng(0)
        # Half of the places lie among the first bytes, where the header is.
        near = generator.integers(0, min(600, len(written.whole)), PLACES // 2)
        for place in (*near, *generator.integers(0, len(written.whole), PLACES // 2)):
            damaged = bytearray(written.whole)
            damaged[place] ^= int(generator.integers(1, 256))
            written.path.write_bytes(damaged)
            read_or_refuse(written.path)
            is_ours(written.path)

    def test_a_header_takes_no_memory_for_voxels(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"scan{ending}"
        grid, _ = self._some(path, STRAIGHT, (64, 512, 512))
        write_scan(path, np.zeros(grid.shape, np.uint8), grid)
        # What is imported for the first file is not counted.
        read_geometry(path)
        tracemalloc.start()
        try:
            read_geometry(path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < HEADER_SHARE * np.prod(grid.shape)

    def test_what_does_not_fit_on_the_disk_leaves_the_earlier_file(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"scan{ending}"
        grid, array = self._some(path, STRAIGHT)
        write_scan(path, array, grid)
        large, _ = self._some(path, STRAIGHT, (20, 160, 160))
        with no_file_above(1 << 17), pytest.raises(WriteError, match="cannot be written"):
            write_scan(path, np.random.default_rng(0).integers(0, 256, large.shape, np.uint8), large)
        assert [found.name for found in tmp_path.iterdir()] == [path.name]
        assert np.array_equal(read_scan(path).array, array)

    def _holds(self, path: Path, grid: Geometry) -> bool:
        try:
            self.scan_format().check_geometry(path, grid)
        except DataError:
            return False
        return True

    def _holds_values(self, path: Path, array: np.ndarray) -> bool:
        try:
            self.scan_format().check_values(path, array)
        except DataError:
            return False
        return True

    def _some(
        self, path: Path, direction: tuple[float, ...] = TURNED, shape: tuple[int, int, int] = (5, 22, 18)
    ) -> tuple[Geometry, np.ndarray]:
        """A grid of so many voxels and noise on it, both of a kind that the format holds."""
        flat = (1, shape[0] * shape[1], shape[2])
        grids = (grid_of(direction, shape), picture_grid(shape, PIXEL), picture_grid(flat, PIXEL))
        grid = next(grid for grid in grids if self._holds(path, grid))
        arrays = (values(grid.shape, kind) for kind in ("int16", "uint16"))
        return grid, next(array for array in arrays if self._holds_values(path, array))

    def _written(self, folder: Path, ending: str) -> Written:
        path = folder / f"scan{ending}"
        grid, array = self._some(path)
        write_scan(path, array, grid)
        return Written(path, array, grid, path.read_bytes())


@dataclass(frozen=True)
class Written:
    """A scan that was written.

    Attributes:
        path: Path of the scan's file.
        array: Values (z, y, x) of the voxels.
        geometry: Place of the voxels.
        whole: All bytes of the file.
    """

    path: Path
    array: np.ndarray
    geometry: Geometry
    whole: bytes


def grid_of(direction: tuple[float, ...], shape: tuple[int, int, int] = (5, 22, 18)) -> Geometry:
    """Make an anisotropic grid away from the origin.

    Args:
        direction: Matrix, 3×3 in row-major order, as `Geometry` has it.
        shape: Numbers of voxels along (z, y, x).
    """
    return Geometry(shape, (7.5, 0.75, 1.25), (-12.5, 40.25, 101.0), direction)


def picture_grid(shape: tuple[int, int, int], unit: LengthUnit) -> Geometry:
    """Make a grid without a place, as pictures have it.

    Args:
        shape: Numbers of voxels along (z, y, x).
        unit: Unit of lengths; in mm it is a scan's, at 0.
    """
    spacing = {"mm": (7.5, 0.75, 1.25), "um": (3.25e-4, 3.25e-4, 5e-4), "pixel": (1.0, 1.0, 1.0)}[unit]
    if unit == "um" and shape[0] == 1:
        spacing = (PAGE_MM, *spacing[1:])
    return Geometry(shape, (spacing[0], spacing[1], spacing[2]), (0.0, 0.0, 0.0), STRAIGHT, unit)


def stored_as(orientation: Orientation) -> Geometry:
    """Make the turned grid as a file holds it that stores its axes in another order.

    Args:
        orientation: Order and directions of the file's axes, as they become the canonical ones.
    """
    grid = grid_of(TURNED)
    back = np.argsort(orientation.order)
    shape = (grid.shape[back[0]], grid.shape[back[1]], grid.shape[back[2]])
    spacing_zyx = [grid.spacing_mm[axis] for axis in back]
    to_stored = orientation.canonical_axes(np.eye(4), shape)
    affine = LPS_TO_RAS @ grid.affine_ras @ np.linalg.inv(to_stored)
    return canonical_geometry(shape, tuple(spacing_zyx[::-1]), affine)


def values(shape: tuple[int, int, int], kind: str) -> np.ndarray:
    """Make noise of a type of numbers, of both signs where the type has them.

    Args:
        shape: Numbers of voxels along (z, y, x).
        kind: Name of a NumPy type.
    """
    noise = np.random.default_rng(0).normal(100, 60, shape)
    return np.clip(noise, 0, 255).astype(kind) if kind.startswith("uint") else noise.astype(kind)


def assert_same_place(ours: Geometry, theirs: Geometry) -> None:
    """Assert that two grids have the same voxels, to the digits of a float32.

    Args:
        ours: Grid to compare.
        theirs: Grid to compare with.
    """
    assert ours.shape == theirs.shape
    assert np.allclose(ours.spacing_mm, theirs.spacing_mm, rtol=1e-5)
    assert np.allclose(ours.affine_ras, theirs.affine_ras, atol=1e-4)


def read_or_refuse(path: Path) -> Scan | None:
    """Read a damaged file, and assert that it is a scan; None where it is refused as it has to be.

    Args:
        path: Path of the file.
    """
    scan = None
    try:
        header = read_geometry(path)
        scan = read_scan(path)
    except DataError as error:
        assert_names(error, path)
        return None
    assert scan.geometry == header
    assert scan.array.shape == header.shape
    assert scan.array.dtype.kind in "iuf"
    assert min(header.spacing_mm) > 0
    assert np.isfinite(header.affine_ras).all()
    return scan


def assert_names(error: DataError, path: Path) -> None:
    """Assert that an error says which file it is about, what is wrong and what to do.

    Args:
        error: Error that was raised.
        path: Path of the file.
    """
    assert [fault.file for fault in error.faults] == [str(path)]
    assert all(fault.problem and fault.remedy for fault in error.faults)


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """Expect an error that names a file.

    Args:
        path: Path of the file.
    """
    with pytest.raises(DataError) as caught:
        yield
    assert_names(caught.value, path)


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Let the system refuse to write files beyond a size, as on a full disk; skip the test where it cannot.

    Args:
        size: Size from which on writing fails, in bytes.
    """
    resource = pytest.importorskip("resource", reason="this system limits no sizes of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
