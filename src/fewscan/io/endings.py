"""How the names of scans end."""

from __future__ import annotations

from pathlib import Path

SCAN_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
NIFTI_ENDINGS = (".nii.gz", ".nii")


def scan_ending(path: Path) -> str | None:
    """The ending of a scan's file, or None where it is not one that is read."""
    return next((ending for ending in SCAN_ENDINGS if path.name.lower().endswith(ending)), None)


def scan_stem(path: Path) -> str:
    """The file name without a scan's ending."""
    ending = scan_ending(path)
    return path.name[: -len(ending)] if ending else path.stem
