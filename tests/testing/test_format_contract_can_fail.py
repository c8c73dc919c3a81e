"""The contract of scan formats finds what it is there to find: each broken format fails the test of its fault."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewscan.errors import DataError
from fewscan.io.formats import ScanFormat, register_format
from fewscan.io.geometry import Geometry, Scan
from fewscan.io.nifti import Nifti
from fewscan.registry import FORMATS
from fewscan.testing.formats import ORDERS, STRAIGHT, TURNED, FormatContract

ENDING = ".broken.nii"


class Sound(Nifti):
    endings = (ENDING,)


class ForgottenOrder(Sound):
    def write(self, path: Path, array: np.ndarray, geometry: Geometry, predicted: bool) -> None:
        super().write(path, array, replace(geometry, stored=None), predicted)


class MovedOrigin(Sound):
    def write(self, path: Path, array: np.ndarray, geometry: Geometry, predicted: bool) -> None:
        super().write(path, array, replace(geometry, origin=(0.0, 0.0, 0.0)), predicted)


class LayoutInMemory(Sound):
    def write(self, path: Path, array: np.ndarray, geometry: Geometry, predicted: bool) -> None:
        flat = array.ravel(order="K").reshape(array.shape)
        super().write(path, flat, geometry, predicted)


class IgnoredRefusal(Sound):
    def write(self, path: Path, array: np.ndarray, geometry: Geometry, predicted: bool) -> None:
        with suppress(OSError):
            super().write(path, array, geometry, predicted)


class TimeInFile(Sound):
    def write(self, path: Path, array: np.ndarray, geometry: Geometry, predicted: bool) -> None:
        super().write(path, array, geometry, predicted)
        with path.open("ab") as file:
            file.write(str(time.time()).encode())


class EverythingOurs(Sound):
    def is_ours(self, path: Path) -> bool:
        return b"fewscan" in path.read_bytes()


class AsFloats(Sound):
    def read_frames(self, path: Path) -> list[Scan]:
        return [Scan(scan.array.astype(np.float32), scan.geometry) for scan in super().read_frames(path)]


class ForeignBytes(Sound):
    def read_frames(self, path: Path) -> list[Scan]:
        return [
            Scan(scan.array.astype(scan.array.dtype.newbyteorder("S")), scan.geometry)
            for scan in super().read_frames(path)
        ]


class HeaderOfItsOwn(Sound):
    def read_geometry(self, path: Path) -> Geometry:
        return replace(super().read_geometry(path), spacing_mm=(1.0, 1.0, 1.0))


class VoxelsForHeader(Sound):
    def read_geometry(self, path: Path) -> Geometry:
        return self.read_frames(path)[0].geometry


class FilledUp(Sound):
    def read_frames(self, path: Path) -> list[Scan]:
        raw = path.read_bytes()
        path.write_bytes(raw + bytes(5000))
        try:
            return super().read_frames(path)
        finally:
            path.write_bytes(raw)

    def read_geometry(self, path: Path) -> Geometry:
        return self.read_frames(path)[0].geometry


class OtherErrors(Sound):
    def read_geometry(self, path: Path) -> Geometry:
        try:
            return super().read_geometry(path)
        except DataError as error:
            raise ValueError(str(error)) from None


class NamelessErrors(Sound):
    def read_geometry(self, path: Path) -> Geometry:
        try:
            return super().read_geometry(path)
        except DataError:
            raise DataError.of("", "cannot be read", "") from None


@pytest.fixture
def registered(request: pytest.FixtureRequest) -> Iterator[type[ScanFormat]]:
    broken = request.param
    register_format(broken)
    yield broken
    FORMATS.unregister(ENDING)


BROKEN: list[tuple[type[ScanFormat], str, tuple[Any, ...]]] = [
    (ForgottenOrder, "test_the_order_of_storage_is_kept", (ORDERS[9],)),
    (MovedOrigin, "test_values_and_geometry_survive", (TURNED, "uint8")),
    (AsFloats, "test_values_and_geometry_survive", (STRAIGHT, "uint8")),
    (ForeignBytes, "test_values_and_geometry_survive", (STRAIGHT, "int16")),
    (LayoutInMemory, "test_arrays_of_any_layout_in_memory_are_written_right", ()),
    (HeaderOfItsOwn, "test_a_header_alone_says_what_the_whole_file_says", ()),
    (EverythingOurs, "test_predicted_masks_alone_are_ours", ()),
    (FilledUp, "test_a_file_that_is_cut_short_is_refused", ()),
    (OtherErrors, "test_a_damaged_file_is_refused_or_still_a_scan", ()),
    (NamelessErrors, "test_what_is_no_scan_is_refused", ("text",)),
    (VoxelsForHeader, "test_a_header_takes_no_memory_for_voxels", ()),
    (IgnoredRefusal, "test_what_does_not_fit_on_the_disk_leaves_the_earlier_file", ()),
]


@pytest.mark.parametrize(
    ("registered", "test", "arguments"), BROKEN, indirect=["registered"], ids=[row[0].__name__ for row in BROKEN]
)
def test_a_broken_format_fails(
    registered: type[ScanFormat], test: str, arguments: tuple[Any, ...], tmp_path: Path
) -> None:
    contract = type("Contract", (FormatContract,), {"scan_format": registered})()
    # pytest.raises that finds no error raises one of its own kind, which no `except Exception` catches.
    with pytest.raises((AssertionError, ValueError, pytest.fail.Exception)):
        getattr(contract, test)(tmp_path, ENDING, *arguments)


@pytest.mark.parametrize("registered", [TimeInFile], indirect=True)
def test_a_format_that_writes_the_time_fails(
    registered: type[ScanFormat], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = type("Contract", (FormatContract,), {"scan_format": registered})()
    with pytest.raises(AssertionError):
        contract.test_equal_scans_are_equal_files(tmp_path, ENDING, monkeypatch)


@pytest.mark.parametrize("registered", [Sound], indirect=True)
@pytest.mark.parametrize(
    ("test", "arguments"), sorted({(test, arguments) for _, test, arguments in BROKEN}, key=str), ids=str
)
def test_a_sound_format_fails_none_of_them(
    registered: type[ScanFormat], test: str, arguments: tuple[Any, ...], tmp_path: Path
) -> None:
    contract = type("Contract", (FormatContract,), {"scan_format": registered})()
    getattr(contract, test)(tmp_path, ENDING, *arguments)


def test_a_format_that_nobody_registered_fails() -> None:
    contract = type("Contract", (FormatContract,), {"scan_format": Sound})()
    with pytest.raises(AssertionError):
        contract.test_the_format_is_found_by_its_endings(ENDING)
