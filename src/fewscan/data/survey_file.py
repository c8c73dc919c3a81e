"""A survey as a file of a run: a NumPy archive of small arrays, and a description of them in JSON; nothing is pickled.

Paths in it are those within the data set, which may have been moved.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.lib.npyio import NpzFile

from fewscan.data.fingerprint import Foreground
from fewscan.data.index import DatasetIndex
from fewscan.data.survey import CaseSurvey, FileState, LabelSurvey, Survey
from fewscan.errors import DataError, Fault
from fewscan.io.files import FileStamp, atomic_path
from fewscan.io.geometry import Geometry, LengthUnit, Voxel
from fewscan.settings import StrictModel

VERSION = 1
DESCRIPTION = "survey.json"
Triple = tuple[float, float, float]


class _Grid(StrictModel):
    shape: tuple[int, int, int]
    spacing_mm: Triple
    origin: Triple
    direction: tuple[float, ...]
    unit: LengthUnit = "mm"
    notes: tuple[str, ...]
    focus: Voxel | None = None

    @classmethod
    def of(cls, geometry: Geometry) -> _Grid:
        return cls(**{name: getattr(geometry, name) for name in cls.model_fields})

    def geometry(self) -> Geometry:
        return Geometry(**dict(self))


class _Label(StrictModel):
    grid: _Grid
    lower: Triple | None
    upper: Triple | None
    voxels: tuple[int, ...]
    channels: int
    # Of classes alone it need not be said.
    type: Literal["uint8", "int32"] = "uint8"


class _Fault(StrictModel):
    file: str
    problem: str
    remedy: str
    fatal: bool


class _Case(StrictModel):
    files: tuple[tuple[str, int, int], ...]
    faults: tuple[_Fault, ...]
    grid: _Grid | None
    digests: tuple[str, ...] | None
    shown: tuple[int, ...] | None
    label: _Label | None
    pictured: bool
    # Surveys of before there were appearances do not say it.
    looked_at: bool = False


class _Description(StrictModel):
    version: int
    classes: str
    # Surveys of before there were pictures do not say it.
    reading: str = ""
    cases: dict[str, _Case]


def write_survey(path: Path, survey: Survey, index: DatasetIndex) -> None:
    """Write a survey, complete or not at all.

    Args:
        path: Path of the archive; what lies there is replaced.
        survey: Survey of cases of a data set.
        index: Data set, whose classes the survey's labels have.

    Raises:
        WriteError: The file cannot be written.
    """
    described = _Description(
        version=VERSION,
        classes=repr(index.classes),
        reading=repr(index.reading),
        cases={name: _describe(found, index.root) for name, found in survey.cases.items()},
    )
    with (
        atomic_path(path) as beside,
        zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        archive.writestr(DESCRIPTION, described.model_dump_json())
        for number, found in enumerate(survey.cases.values()):
            for name, array in _arrays(found).items():
                with archive.open(f"{number}/{name}.npy", "w") as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)


def find_survey(path: Path, index: DatasetIndex) -> Survey:
    """Read a survey that `write_survey` has written; an empty one where there is none of these classes and channels.

    Args:
        path: Path of the archive, which need not be there.
        index: Data set, wherever it lies now.

    Raises:
        DataError: The file is no survey.
    """
    if not path.is_file():
        return Survey()
    try:
        # Opened here: of a damaged archive NumPy leaves the file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            described = _Description.model_validate_json(arrays[DESCRIPTION])
            known = (described.version, described.classes, described.reading)
            if known != (VERSION, repr(index.classes), repr(index.reading)):
                return Survey()
            cases = enumerate(described.cases.items())
            return Survey({name: _restore(case, _Arrays(arrays, n), index.root) for n, (name, case) in cases})
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError.of(path, f"not a survey of fewscan: {error}", "Remove it: the scans are read again") from None


def _describe(found: CaseSurvey, root: Path) -> _Case:
    label = found.label
    faults = [replace(fault, file=Path(fault.file).relative_to(root).as_posix()) for fault in found.faults]
    return _Case(
        files=tuple((state.name, *state.stamp) for state in found.files),
        faults=tuple(_Fault(**asdict(fault)) for fault in faults),
        grid=_Grid.of(found.geometry) if found.geometry is not None else None,
        digests=tuple(digest.hex() for digest in found.digests) if found.digests is not None else None,
        shown=tuple(sorted(found.shown)) if found.shown is not None else None,
        label=_describe_label(label) if label is not None else None,
        pictured=found.pictures is not None,
        looked_at=found.appearance is not None,
    )


def _describe_label(label: LabelSurvey) -> _Label:
    seen = label.foreground
    return _Label(
        grid=_Grid.of(label.geometry),
        lower=seen.lower if seen is not None else None,
        upper=seen.upper if seen is not None else None,
        voxels=seen.voxels if seen is not None else (),
        channels=len(label.intensities),
        type=label.dtype.name,
    )


def _arrays(found: CaseSurvey) -> dict[str, np.ndarray]:
    arrays = {f"picture{axis}": picture for axis, picture in enumerate(found.pictures or ())}
    if found.appearance is not None:
        arrays["appearance"] = np.array(found.appearance)
    if found.label is not None:
        arrays["labels"] = np.frombuffer(found.label.packed, np.uint8)
        arrays |= {f"intensities{channel}": values for channel, values in enumerate(found.label.intensities)}
    return arrays


class _Arrays:
    """The arrays of one case.

    Args:
        archive: Arrays of all cases.
        number: Number of the case among them.
    """

    def __init__(self, archive: NpzFile, number: int) -> None:
        self._archive, self._number = archive, number

    def take(self, name: str, kind: type, ndim: int) -> np.ndarray:
        """An array of the type and with as many axes as it was written with."""
        found: np.ndarray = self._archive[f"{self._number}/{name}"]
        if found.dtype != kind or found.ndim != ndim:
            raise ValueError(f"{name} of case {self._number} is no array of {kind.__name__} with {ndim} axes")
        return found

    def picture(self, axis: int) -> np.ndarray:
        """The mean of the middle slices along an axis."""
        return self.take(f"picture{axis}", np.uint8, 2)


def _restore(case: _Case, arrays: _Arrays, root: Path) -> CaseSurvey:
    faults = [Fault(str(root / fault.file), fault.problem, fault.remedy, fault.fatal) for fault in case.faults]
    return CaseSurvey(
        files=tuple(FileState(name, FileStamp(*stamp)) for name, *stamp in case.files),
        faults=tuple(faults),
        geometry=case.grid.geometry() if case.grid is not None else None,
        digests=tuple(bytes.fromhex(digest) for digest in case.digests) if case.digests is not None else None,
        shown=frozenset(case.shown) if case.shown is not None else None,
        label=_restore_label(case.label, arrays) if case.label is not None else None,
        pictures=(arrays.picture(0), arrays.picture(1), arrays.picture(2)) if case.pictured else None,
        appearance=tuple(arrays.take("appearance", np.float64, 1).tolist()) if case.looked_at else None,
    )


def _restore_label(label: _Label, arrays: _Arrays) -> LabelSurvey:
    seen = None
    if label.lower is not None and label.upper is not None:
        seen = Foreground(label.lower, label.upper, label.voxels)
    return LabelSurvey(
        geometry=label.grid.geometry(),
        foreground=seen,
        intensities=tuple(arrays.take(f"intensities{n}", np.float32, 1) for n in range(label.channels)),
        packed=arrays.take("labels", np.uint8, 1).tobytes(),
        dtype=np.dtype(label.type),
    )
