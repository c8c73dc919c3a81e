"""Files of a folder of scans that are none that can be read: how many of which kind, and what to do with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from fewscan.errors import DataError, Fault
from fewscan.io.endings import scan_ending, scan_endings
from fewscan.io.formats import scans_among

PAIR = "save a header and its pixels as one .nii.gz, .nrrd or .mha"
PICTURE = "save pictures as .png or .tif"
BESIDE = "pictures count where there are no other scans: name them themselves, or move them"
REMEDIES = {
    "folder": "name each folder itself",
    "file without ending": "if these are meant to be DICOM, they do not begin so: copy them again",
    **dict.fromkeys((".dicom", ".ima"), "these do not begin as DICOM files do: copy them again"),
    **dict.fromkeys((".mgz", ".mgh"), "convert FreeSurfer's with mri_convert NAME.mgz NAME.nii.gz"),
    **dict.fromkeys((".hdr", ".img", ".hdr.gz", ".img.gz", ".nhdr", ".mhd", ".raw", ".zraw", ".raw.gz"), PAIR),
    **dict.fromkeys((".bmp", ".gif", ".webp", ".svs", ".czi", ".nd2", ".lif"), PICTURE),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".tif", ".tiff"), BESIDE),
    **dict.fromkeys((".npy", ".npz", ".h5", ".hdf5", ".mat", ".mnc"), "save arrays as .nii.gz with their spacing"),
    **dict.fromkeys((".zip", ".tar", ".tar.gz", ".tgz", ".7z"), "unpack archives"),
}


def list_folder(folder: Path) -> list[Path]:
    """List a folder by name, without hidden files.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError.of(folder, f"cannot be read: {error.strerror}", "Check the path and its permissions") from None


def passed_over(folder: Path, found: Sequence[Path]) -> Fault | None:
    """A fault, not fatal, of the files of a folder that are no scans; None where there are none.

    Args:
        folder: Folder of the files.
        found: Paths of all that the folder shows.
    """
    scans = set(scans_among(found))
    kinds = Counter(_kind(path) for path in found if path not in scans)
    if not kinds:
        return None
    counts = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
    problem = f"passed over, as these are no scans that can be read: {counts}"
    return Fault(str(folder), problem, remedy(kinds), fatal=False)


def remedy(kinds: Iterable[str]) -> str:
    """The remedy for files of these kinds, without a full stop."""
    known = list(dict.fromkeys(REMEDIES[kind] for kind in kinds if kind in REMEDIES))
    text = "; ".join(known) or f"scans end in {', '.join(scan_endings())}"
    return f"{text[0].upper()}{text[1:]}"


def remedy_of(path: Path, otherwise: str | None = None) -> str:
    """The remedy for one file that is no scan that can be read; `otherwise` where its kind is not known."""
    kind = _kind(path)
    return remedy([kind]) if otherwise is None or (scan_ending(path) is None and kind in REMEDIES) else otherwise


def _kind(path: Path) -> str:
    try:
        if path.is_dir():
            return "folder"
    except OSError:
        # Only what is in a folder may be looked at, if it is one.
        return "folder"
    parts = path.name.lower().split(".")
    if len(parts) == 1:
        return "file without ending"
    # Names of DICOM files are often numbers with points between.
    if parts[-1].isdecimal():
        return "file without ending"
    return f".{parts[-2]}.{parts[-1]}" if parts[-1] == "gz" and len(parts) > 2 else f".{parts[-1]}"
