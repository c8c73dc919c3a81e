"""Cases: the files of a scan, and how they are found among others."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewscan.data.names import CHANNEL, channel_names, wrong_channels
from fewscan.data.reading import AS_FILES, Reading
from fewscan.data.strangers import list_folder, passed_over, remedy_of
from fewscan.errors import DataError, Fault
from fewscan.io.endings import scan_ending, scan_endings, scan_stem
from fewscan.io.formats import is_picture, scans_among

# Folders of images of a data set in the nnU-Net layout.
IMAGE_FOLDERS = ("imagesTr", "imagesUn", "imagesTs")
BETWEEN_FOLDERS = "__"


@dataclass(frozen=True)
class Case:
    """One scan: a file per channel, or one picture with all of them, and its mask where there is one.

    Attributes:
        name: Name of the case's files without channel number and ending; unique in its data set.
        images: Paths of the case's files, one per channel, in channel order; one of a picture that holds all of them.
        label: Path of the mask; None for an unlabelled case, and for one whose label is hidden.
        patient: Patient of the case; a split never separates the cases of a patient.
        reading: How the files hold the channels; `data.reading.read_channels` reads them.
        site: Hospital or scanner that the case is of; empty: the data set names none.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    patient: str
    reading: Reading = AS_FILES
    site: str = ""

    @property
    def n_channels(self) -> int:
        """Number of channels, whatever the number of files."""
        return self.reading.channels or len(self.images)

    @property
    def files(self) -> tuple[Path, ...]:
        """Paths of all files of the case, the images' first, and the label's where it may be read."""
        return (*self.images, *([self.label] if self.label is not None else []))


def patients_of(cases: Sequence[Case]) -> list[str]:
    """Patients of cases, each once, in the order of the cases."""
    return list(dict.fromkeys(case.patient for case in cases))


def files_of(cases: Sequence[Case]) -> list[Path]:
    """Paths of all files of cases, in the order of the cases."""
    return [path for case in cases for path in case.files]


def by_site(cases: Sequence[Case]) -> dict[str, tuple[Case, ...]]:
    """Cases of each site, in the order of the cases; where the data set names none, all are of one without a name."""
    return {site: tuple(c for c in cases if c.site == site) for site in dict.fromkeys(case.site for case in cases)}


def notes_on_folders(inputs: Sequence[Path]) -> list[Fault]:
    """The files of each folder that are no scans."""
    notes = [passed_over(folder, list_folder(folder)) for folder in inputs if folder.is_dir()]
    return [note for note in notes if note is not None]


def collect_cases(inputs: Sequence[Path], reading: Reading, recursive: bool = False) -> list[Case]:
    """Group files into cases.

    A file named CASE_0000 is a channel of CASE; where the model has one channel, any other name is a case too, and so
    is that of a picture, which may hold all channels.

    Args:
        inputs: Paths of files, of folders of them, and of data sets, all of whose images are meant.
        reading: How the model's own files were read, with its number of channels.
        recursive: Whether folders below count too; the name of a case there begins with those of its folders, two
            underscores between.

    Raises:
        DataError: A path does not exist, no scans are there, channels are missing or two cases share a name.
    """
    files = [file for path in unfolded(inputs) for file in _scans(path, recursive)]
    groups: dict[str, dict[int, Path]] = defaultdict(dict)
    faults: list[Fault] = []
    for above, file in files:
        match = CHANNEL.match(scan_stem(file))
        stem, channel = (match["case"], int(match["channel"])) if match else (scan_stem(file), 0)
        name = BETWEEN_FOLDERS.join((*above, stem))
        if channel in groups[name]:
            faults.append(Fault(str(file), f"the name of {groups[name][channel]} again", "Predict them apart"))
        groups[name][channel] = file
    n_channels = reading.channels or 1
    wanted = set(range(n_channels))
    for name, channels in groups.items():
        wrong = wrong_channels(name, channels, n_channels, "the model")
        if wrong:
            faults.append(wrong)
        elif set(channels) != wanted and not holds_all(channels):
            have = ", ".join(f"{i:04d}" for i in sorted(channels))
            faults.append(
                Fault(
                    str(next(iter(channels.values()))),
                    f"{name} has the channels {have}, the model wants {n_channels}",
                    f"Name them {channel_names(name, n_channels)}",
                )
            )
    if not groups:
        remedy = f"Give files that end in {', '.join(scan_endings())}"
        faults.append(Fault(", ".join(map(str, inputs)), "no scans there", remedy))
        faults += notes_on_folders(inputs)
    if faults:
        raise DataError(faults)
    return [
        Case(name, tuple(channels[i] for i in sorted(channels)), None, name, reading)
        for name, channels in sorted(groups.items())
    ]


def holds_all(channels: Mapping[int, Path]) -> bool:
    """Tell whether the files of a case are one picture, which may hold all channels itself.

    Args:
        channels: Paths of the case's files, by channel number.
    """
    return set(channels) == {0} and is_picture(channels[0])


def _folders_below(path: Path) -> list[Path]:
    """Folders that are a scan each, such as DICOM series, however deep they lie; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return []
    if scan_ending(path) is not None:
        return [path]
    return [scan for folder in list_folder(path) for scan in _folders_below(folder)]


def unfolded(inputs: Sequence[Path]) -> list[Path]:
    """The folders of images of data sets in the place of their own folder; all else as it is."""
    return [folder for path in inputs for folder in (_images_of(path) or [path])]


def _images_of(path: Path) -> list[Path]:
    """The folders of images of a data set; none where it is none."""
    try:
        if not (path / "dataset.json").is_file():
            return []
    except OSError:
        # Whoever looks for scans there says what is wrong.
        return []
    return [folder for name in IMAGE_FOLDERS if (folder := path / name).is_dir()]


def _scans(path: Path, recursive: bool) -> list[tuple[tuple[str, ...], Path]]:
    """Scans with the names of the folders between."""
    try:
        is_folder, is_there = path.is_dir(), os.path.lexists(path)
    except OSError as error:
        raise DataError.of(path, f"cannot be read: {error.strerror}", "Check the path and its permissions") from None
    if is_folder and scan_ending(path) is not None:
        return [((), path)]
    if is_folder and recursive:
        return _walk(path, ())
    if is_folder:
        found = list_folder(path)
        scans = scans_among(found) or [scan for folder in found for scan in _folders_below(folder)]
        return [((), scan) for scan in scans]
    if not is_there:
        raise DataError.of(path, "there is no such file or folder", "Check the path")
    if scan_ending(path) is None:
        raise DataError.of(path, "not a scan that can be read", remedy_of(path))
    return [((), path)]


def _walk(folder: Path, above: tuple[str, ...]) -> list[tuple[tuple[str, ...], Path]]:
    """Scans of a folder, and of those below; links to folders are not followed."""
    found = list_folder(folder)
    scans = scans_among(found)
    below = [path for path in found if path not in set(scans) and path.is_dir() and not path.is_symlink()]
    deeper = [scan for path in below for scan in _walk(path, (*above, path.name))]
    return [*((above, scan) for scan in scans), *deeper]
