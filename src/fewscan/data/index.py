"""A data set in the nnU-Net v2 raw layout: which cases there are, and nothing of their pixels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewscan.classes import Classes, parse_classes
from fewscan.data.cases import Case, holds_all
from fewscan.data.names import CHANNEL, wrong_channels
from fewscan.data.patients import (
    PATIENTS,
    SITES,
    check_one_site,
    match_names,
    patients_of_table,
    sites_of_table,
)
from fewscan.data.reading import AS_FILES, FROM_FILES, PAGES, Reading
from fewscan.data.strangers import list_folder, remedy_of
from fewscan.errors import DataError, Fault
from fewscan.io.endings import scan_ending, scan_endings, scan_stem
from fewscan.io.files import read_json
from fewscan.io.formats import format_of, is_picture
from fewscan.io.terms import SegmentTerms, parse_terms
from fewscan.registry import TASKS

# An atom, and a metre.
LEAST_UM, MOST_UM = 1e-4, 1e6
# What a data set is for that names no task.
SEMANTIC = "semantic"


@dataclass(frozen=True)
class DatasetIndex:
    """The cases of a data set.

    Attributes:
        root: Folder of the data set.
        name: Name in dataset.json, or else the folder's.
        channel_names: Names of the channels, in the order of the files' channel numbers.
        classes: Names and numbers of the classes, the ignored number, and the regions.
        file_ending: Ending of the images, with its point; labels of pictures may have another one.
        cases: Labelled and unlabelled cases, sorted by name.
        notes: Sentences for the user that say how the files were understood.
        task: Name in the registry of tasks.
        reading: How the files hold the channels.
        terms: What dataset.json says of classes for other programs, by class.
    """

    root: Path
    name: str
    channel_names: tuple[str, ...]
    classes: Classes
    file_ending: str
    cases: tuple[Case, ...]
    notes: tuple[str, ...] = ()
    task: str = SEMANTIC
    reading: Reading = AS_FILES
    terms: Mapping[str, SegmentTerms] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes by number inside, background first."""
        return self.classes.names

    @property
    def labelled(self) -> tuple[Case, ...]:
        """Cases with a mask."""
        return tuple(case for case in self.cases if case.label is not None)

    @property
    def unlabelled(self) -> tuple[Case, ...]:
        """Cases without one."""
        return tuple(case for case in self.cases if case.label is None)


def read_dataset(root: Path) -> DatasetIndex:
    """Index `dataset.json`, `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz` and `imagesUn/`.

    A picture `CASE_0000.png` may hold all channels, its label be a picture of another ending. A case without a label
    file, or in `imagesUn/`, is unlabelled. Patients come from "patient_pattern" in dataset.json (a regular expression
    with one group, searched for in the case names for at most 5 s) or from `patients.json` ({case: patient}); else
    every case is a patient, as one is that the table does not list. Sites come from "site_pattern" or from `sites.json`
    ({patient or case: site}), which has to have them all; else there are none.

    Raises:
        DataError: The folder is no data set of that layout; every fault at once.
    """
    meta = _read_description(root)
    _refuse_decathlon(root, meta)
    faults: list[Fault] = []
    channels = _channel_names(meta, faults)
    task = _task(meta, faults)
    classes = _classes(meta, task, faults)
    ending = _file_ending(root, meta, faults)
    reading = _reading(meta, ending, len(channels), faults)
    terms = _terms(meta, classes, faults)
    images = _collect_images(root, ending, len(channels), faults)
    labels = _collect_labels(root, ending, images, faults)
    patients, notes = _patients(root, meta, list(images), faults)
    sites = _sites(root, meta, patients, faults)
    if faults:
        raise DataError(faults)
    cases = tuple(
        Case(name, paths, labels.get(name), patients[name], reading, sites.get(name, ""))
        for name, paths in sorted(images.items())
    )
    name = str(meta.get("name", root.name))
    return DatasetIndex(root, name, channels, classes, ending, cases, notes, task, reading, terms)


def sites_of_masks(root: Path, cases: Sequence[str]) -> dict[str, str]:
    """Site of each mask of a data set, by its name; those that sites.json does not list are left out.

    Args:
        root: Folder of the data set, of which dataset.json, patients.json and sites.json alone need be there.
        cases: Names of the masks.

    Raises:
        DataError: A file cannot be understood, or a pattern finds nothing in a name.
    """
    meta = _read_description(root)
    table = root / SITES.table
    if not table.is_file():
        pattern = meta.get(SITES.pattern)
        return match_names(pattern, cases, SITES) if pattern is not None and cases else {}
    known = read_json(table)
    if not isinstance(known, dict):
        raise DataError.of(table, "must hold an object", "Write it as {patient: site}")
    patients = {case: case for case in cases}
    if (root / PATIENTS.table).is_file():
        patients |= {case: str(patient) for case, patient in read_json(root / PATIENTS.table).items()}
    elif meta.get(PATIENTS.pattern) is not None and cases:
        patients |= match_names(meta[PATIENTS.pattern], cases)
    found = {case: known.get(case, known.get(patients[case])) for case in cases}
    return {case: str(site) for case, site in found.items() if site is not None}


def read_task(root: Path) -> str:
    """Name of the task of a data set, for settings that depend on it; "semantic" where none is to be found.

    What is wrong with the data set is said by `read_dataset`.

    Args:
        root: Folder of the data set.
    """
    try:
        task = read_json(root / "dataset.json").get("task")
    except (DataError, AttributeError):
        return SEMANTIC
    return task if isinstance(task, str) and task in TASKS else SEMANTIC


def _read_description(root: Path) -> dict[str, Any]:
    if not root.is_dir():
        raise DataError.of(root, "there is no such folder", "Give the folder that holds dataset.json")
    path = root / "dataset.json"
    if not path.is_file():
        raise DataError.of(
            path,
            "missing",
            "A data set has dataset.json, imagesTr/ and labelsTr/ as nnU-Net wants them; "
            "`fewscan convert` makes them from other layouts",
        )
    meta = read_json(path)
    if not isinstance(meta, dict):
        raise DataError.of(path, "must hold an object with channel_names and labels", "Write it as nnU-Net wants it")
    return meta


def _refuse_decathlon(root: Path, meta: dict[str, Any]) -> None:
    """The Decathlon's own folders look alike, but hold all channels in one file without a number."""
    images = [path for path in _files(root / "imagesTr") if scan_ending(path)]
    if "modality" in meta and images and not any(CHANNEL.match(scan_stem(path)) for path in images):
        raise DataError.of(
            root,
            "a folder of the Medical Segmentation Decathlon",
            f"Convert it first: fewscan convert msd {root} {root.name}-nnunet, and give the folder that this makes",
        )


def _channel_names(meta: dict[str, Any], faults: list[Fault]) -> tuple[str, ...]:
    named = meta.get("channel_names", meta.get("modality"))
    if not isinstance(named, dict) or not named:
        faults.append(Fault("dataset.json", 'no "channel_names"', 'Add them, such as {"0": "MRI"}'))
        return ("image",)
    if sorted(named) != sorted(str(i) for i in range(len(named))):
        problem = f'"channel_names" must be numbered from "0" on, not {sorted(named)}'
        faults.append(Fault("dataset.json", problem, 'Write them as {"0": "T1", "1": "T2"}'))
        return ("image",)
    return tuple(str(named[str(i)]) for i in range(len(named)))


def _task(meta: dict[str, Any], faults: list[Fault]) -> str:
    task = meta.get("task", SEMANTIC)
    if isinstance(task, str) and task in TASKS:
        return task
    known = " or ".join(f'"{name}"' for name in TASKS.names())
    faults.append(Fault("dataset.json", f'"task" is {task!r}, which is not known here', f"Write {known}"))
    return SEMANTIC


def _classes(meta: dict[str, Any], task: str, faults: list[Fault]) -> Classes:
    try:
        classes = parse_classes(meta.get("labels"))
        if task == SEMANTIC:
            # Its masks number the classes themselves; its import brings PyTorch, 0.9 s and 200 MiB that checking is
            # spared.
            return classes
        numbering: Classes = TASKS.find(task).numbering(classes)
        return numbering
    except DataError as error:
        faults += error.faults
        return Classes.consecutive(("background", "1"))


def _terms(meta: dict[str, Any], classes: Classes, faults: list[Fault]) -> dict[str, SegmentTerms]:
    try:
        return parse_terms(meta.get("segments"), classes.names)
    except DataError as error:
        faults += error.faults
        return {}


def _file_ending(root: Path, meta: dict[str, Any], faults: list[Fault]) -> str:
    if "file_ending" in meta:
        ending = str(meta["file_ending"])
        if ending not in scan_endings():
            what_to_do = remedy_of(Path(f"scan{ending}"), f"Use {', '.join(scan_endings())}")
            faults.append(Fault("dataset.json", f'"file_ending" {ending!r} cannot be read', what_to_do))
        return ending
    files = [*_files(root / "imagesTr"), *_files(root / "imagesUn")]
    endings = Counter(e for f in files if (e := scan_ending(f)))
    return endings.most_common(1)[0][0] if endings else scan_endings()[0]


def _reading(meta: dict[str, Any], ending: str, n_channels: int, faults: list[Fault]) -> Reading:
    """What dataset.json says of pictures: what their pages are, and how large a pixel is."""
    pages, size = meta.get("pages"), meta.get("pixel_size_um", FROM_FILES)
    if pages is not None and pages not in PAGES:
        remedy = 'Write "slices" or "channels", or take it out'
        faults.append(Fault("dataset.json", f'"pages" is {pages!r}, which is not known here', remedy))
        pages = None
    is_number = isinstance(size, (int, float)) and not isinstance(size, bool)
    if is_number and LEAST_UM <= size <= MOST_UM:
        size = float(size)
    elif size is not None and size != FROM_FILES:
        remedy = "Write the side of a pixel in µm, null where sizes of files are not to be believed, or take it out"
        faults.append(Fault("dataset.json", f'"pixel_size_um" is {size!r}', remedy))
        size = FROM_FILES
    if not is_picture(Path(f"image{ending}")) and (pages is not None or size != FROM_FILES):
        problem = f'"pages" and "pixel_size_um" are of pictures, scans end in {ending}'
        faults.append(Fault("dataset.json", problem, "Take them out"))
    return Reading(n_channels, pages, size)


def _files(folder: Path) -> list[Path]:
    return list_folder(folder) if folder.is_dir() else []


def _wrong_ending(path: Path, ending: str) -> Fault:
    return Fault(str(path), f"does not end in {ending} as the others", remedy_of(path, "Convert or remove it"))


def _wrong_label_ending(path: Path, ending: str) -> Fault | None:
    """Labels end as the images do; those of pictures as any picture that keeps numbers, those of DICOM as any scan."""
    own = scan_ending(path)
    if own is None or (own != ending and not _may_label(path, ending)):
        return _wrong_ending(path, ending)
    if format_of(own).mask_ending is None or not is_picture(path):
        return None
    return Fault(
        str(path), f"a label cannot end in {own}, which is lossy", "Save it as PNG or TIFF, from where it was drawn"
    )


def _may_label(path: Path, ending: str) -> bool:
    """Whether a scan of one ending may have a label of another one."""
    if ending not in scan_endings():
        return False
    # As .seg.nrrd beside .nrrd.
    if str(scan_ending(path)).endswith(ending):
        return True
    images = format_of(ending)
    return is_picture(path) == images.is_picture and (images.is_picture or images.any_labels)


def _collect_images(root: Path, ending: str, n_channels: int, faults: list[Fault]) -> dict[str, tuple[Path, ...]]:
    found: dict[str, dict[str, dict[int, Path]]] = defaultdict(lambda: defaultdict(dict))
    for folder in ("imagesTr", "imagesUn"):
        for path in _files(root / folder):
            match = CHANNEL.match(scan_stem(path))
            if scan_ending(path) != ending:
                faults.append(_wrong_ending(path, ending))
            elif match is None:
                faults.append(Fault(str(path), "has no channel number", f"Name it CASE_0000{ending}"))
            else:
                found[match["case"]][folder][int(match["channel"])] = path
    if not found and not faults:
        faults.append(Fault(str(root / "imagesTr"), "holds no scans", f"Put CASE_0000{ending} files there"))
    images = {}
    for case, folders in found.items():
        if len(folders) > 1:
            faults.append(Fault(case, "is in imagesTr/ and in imagesUn/", "Remove one of them"))
        channels = next(iter(folders.values()))
        wrong = wrong_channels(case, channels, n_channels, "dataset.json")
        missing = [i for i in range(n_channels) if i not in channels]
        if wrong:
            faults.append(wrong)
        elif not holds_all(channels):
            faults += [Fault(case, f"channel {i:04d} is missing", f"Add {case}_{i:04d}{ending}") for i in missing]
        images[case] = tuple(channels[i] for i in sorted(channels))
    return images


def _collect_labels(
    root: Path, ending: str, images: dict[str, tuple[Path, ...]], faults: list[Fault]
) -> dict[str, Path]:
    labels: dict[str, Path] = {}
    for path in _files(root / "labelsTr"):
        case = scan_stem(path)
        if (wrong := _wrong_label_ending(path, ending)) is not None:
            faults.append(wrong)
        elif case in labels:
            faults.append(Fault(str(path), f"a second label beside {labels[case].name}", "Take one of them away"))
        elif case not in images and (match := CHANNEL.match(case)) and match["case"] in images:
            faults.append(Fault(str(path), "labels have no channel number", f"Rename it to {match['case']}{ending}"))
        elif case not in images:
            faults.append(Fault(str(path), f"there is no image {case}_0000{ending}", "Add it, or remove the label"))
        elif images[case] and images[case][0].parent.name == "imagesUn":
            faults.append(Fault(str(path), "its image is in imagesUn/", "Move the image to imagesTr/"))
        else:
            labels[case] = path
    return labels


def _patients(
    root: Path, meta: dict[str, Any], cases: list[str], faults: list[Fault]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The patient of every case, and notes."""
    themselves = {case: case for case in cases}
    pattern = meta.get("patient_pattern")
    try:
        if (root / PATIENTS.table).is_file():
            return patients_of_table(read_json(root / PATIENTS.table), cases)
        # Without a case there is a fault already, and nothing that a pattern could be tried on.
        return match_names(pattern, cases) if pattern is not None and cases else themselves, ()
    except DataError as error:
        faults += error.faults
        return themselves, ()


def _sites(root: Path, meta: dict[str, Any], patients: dict[str, str], faults: list[Fault]) -> dict[str, str]:
    """The site of every case; empty where the data set names none."""
    pattern = meta.get(SITES.pattern)
    try:
        if (root / SITES.table).is_file():
            sites = sites_of_table(read_json(root / SITES.table), patients)
        elif pattern is not None and patients:
            sites = match_names(pattern, list(patients), SITES)
        else:
            return {}
        check_one_site(sites, patients)
    except DataError as error:
        faults += error.faults
        return {}
    return sites
