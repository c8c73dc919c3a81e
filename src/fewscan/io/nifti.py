"""NIfTI-1 and NIfTI-2 files in and out: the header first, checked, then the voxels, once."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

import numpy as np

from fewscan.errors import DataError
from fewscan.io.endings import scan_ending
from fewscan.io.formats import ScanFormat
from fewscan.io.geometry import LPS_TO_RAS, MARK, Geometry, Scan, canonical_geometry, canonical_scan
from fewscan.io.nifti_header import (
    NiftiForms,
    NiftiHeader,
    damaged,
    open_nifti,
    read_description,
    read_header,
    read_header_of,
)
from fewscan.io.refusals import COPY_AGAIN, several_frames
from fewscan.memory import require_memory, too_large

CHUNK = 1 << 20


class Nifti(ScanFormat):
    """NIfTI in one file, packed with gzip or not; frames of 4D files are read, and sheared axes held."""

    endings: ClassVar[tuple[str, ...]] = (".nii.gz", ".nii")

    def read_geometry(self, path: Path) -> Geometry:
        """Read the header of a file of one frame; a 2D image is one slice."""
        header = read_header(path, _is_packed(path))
        if header.n_frames != 1:
            raise several_frames(path, header.n_frames)
        return _geometry(header)

    def read_frames(self, path: Path) -> list[Scan]:
        """Read the frames of a file of up to seven dimensions."""
        packed = _is_packed(path)
        try:
            with open_nifti(path, packed) as file:
                header = read_header_of(path, file, packed)
                geometry = _geometry(header)
                values = _read_values(path, file, header)
        except (OSError, EOFError, zlib.error) as error:
            raise damaged(path, error) from None
        frames = values.reshape(*values.shape[:3], -1, order="F").transpose(3, 2, 1, 0)
        return [canonical_scan(frame, geometry) for frame in frames]

    def write(self, path: Path, array: np.ndarray, geometry: Geometry, predicted: bool) -> None:
        """Write a file of one frame with the very header fields of the scan that the geometry is of."""
        stored = geometry.to_stored(array)
        form = geometry.stored.form if geometry.stored is not None else None
        if isinstance(form, NiftiForms):
            header = _header_of(form, stored.shape)
        else:
            header = _header_at(geometry.stored_affine_ras, stored.shape)
        header["descrip"] = MARK if predicted else ""
        _write_values(path, header, stored, _is_packed(path))

    def is_ours(self, path: Path) -> bool:
        """Tell whether the header's description is the mark."""
        return read_description(path, _is_packed(path)) == MARK


def _is_packed(path: Path) -> bool:
    return scan_ending(path) == ".nii.gz"


def _geometry(header: NiftiHeader) -> Geometry:
    """Where a frame lies."""
    shape = (header.shape[2], header.shape[1], header.shape[0])
    form = header.forms if header.n_frames == 1 else header.forms.of_a_frame
    return canonical_geometry(shape, header.spacing_mm, LPS_TO_RAS @ header.affine, header.notes, form)


def _read_values(path: Path, file: BinaryIO, header: NiftiHeader) -> np.ndarray:
    """Read all values of a file whose header was read, scaled as the header says: (x, y, z, ...).

    Raises:
        DataError: The file is cut short, or memory does not suffice.
    """
    require_memory(path, header.memory)
    try:
        stored = np.empty(header.n_bytes, np.uint8)
        file.seek(header.offset)
        _fill(path, file, memoryview(cast(Any, stored)))
        # A gzip file's checksum is compared when its end is reached.
        file.read(CHUNK)
        values = stored.view(header.dtype).reshape(header.shape, order="F")
        return _scaled(values.astype(header.dtype.newbyteorder("="), copy=False), header)
    except MemoryError:
        raise too_large(path, header.memory) from None


def _scaled(values: np.ndarray, header: NiftiHeader) -> np.ndarray:
    if not header.is_scaled:
        return values
    exact = np.dtype(np.float32 if values.dtype.itemsize <= 2 or values.dtype == np.float32 else np.float64)
    with np.errstate(all="ignore"):
        return values.astype(exact) * exact.type(header.slope) + exact.type(header.inter)


def _fill(path: Path, file: BinaryIO, room: memoryview) -> None:
    while room:
        count = cast(Any, file).readinto(room[:CHUNK])
        if not count:
            raise DataError.of(path, "the file is cut short", COPY_AGAIN)
        room = room[count:]


def _write_values(path: Path, header: Any, array: np.ndarray, packed: bool) -> None:
    """Write a whole file: the header of a grid, and the stored array (z, y, x) on it."""
    header.set_data_dtype(array.dtype.newbyteorder("="))
    header.set_slope_inter(1, 0)
    header["magic"] = header.single_magic
    header["vox_offset"] = header.single_vox_offset
    # Four bytes say that no extension follows. The file's first axis, x, is the array's last: C order is the file's.
    start = header.binaryblock + bytes(header.single_vox_offset - header.sizeof_hdr)
    pixels = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    with path.open("wb") as file:
        if not packed:
            file.write(start)
            file.write(pixels.data)
            return
        # Without name and time, so that equal masks are equal files.
        with gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as pack:
            pack.write(start)
            pack.write(pixels.data)


def _header_of(forms: NiftiForms, shape: tuple[int, ...]) -> Any:
    from nibabel import nifti1, nifti2

    if math.prod(forms.shape) != math.prod(shape):
        raise ValueError(f"a mask of {shape} (z, y, x) is not on the grid {forms.shape} of its scan")
    kind: Any = nifti1.Nifti1Header if forms.version == 1 else nifti2.Nifti2Header
    header = kind(endianness="<")
    for name, value in forms.fields.items():
        header[name] = value
    return header


def _header_at(affine: np.ndarray, shape: tuple[int, ...]) -> Any:
    from nibabel import nifti1, nifti2

    largest = np.iinfo(np.int16).max
    kind: Any = nifti1.Nifti1Header if max(shape) <= largest else nifti2.Nifti2Header
    header = kind(endianness="<")
    header.set_data_shape(shape[::-1])
    header.set_xyzt_units("mm")
    header.set_sform(affine, code=1)
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    # A qform holds no sheared axes; its spacing is pixdim, which is needed either way.
    is_straight = np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)
    header.set_qform(affine, code=1 if is_straight else 0, strip_shears=True)
    return header
