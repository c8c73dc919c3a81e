"""What a model's masks mean to other programs, and the formats that masks are asked for in."""

from __future__ import annotations

from fewscan.errors import ConfigError
from fewscan.inference.model import ModelCard
from fewscan.io.terms import Meaning, SegmentTerms
from fewscan.reporting.colours import class_colour
from fewscan.version import VERSION

# Endings of masks by the names that `--format` knows; all but the first name segments.
MASK_FORMATS = {"nifti": ".nii.gz", "nrrd": ".seg.nrrd", "seg": ".dcm", "rtstruct": ".rtstruct.dcm"}
OF_OBJECTS = ("nifti",)


def meaning_of(card: ModelCard) -> Meaning | None:
    """Give names, codes and colours of a model's classes; None: its masks number objects.

    Args:
        card: Card of the model.
    """
    named = card.plan.classes.named
    if not named:
        return None
    said = SegmentTerms()
    segments = tuple(
        card.terms.get(name, said).segment(number, name, class_colour(place))
        for place, (number, name) in enumerate(named.items(), start=1)
    )
    return Meaning(segments, f"fewscan {card.method}", VERSION)


def ending_of(wanted: str | None, meaning: Meaning | None) -> str | None:
    """Give the ending of masks in a format.

    Args:
        wanted: Name of the format: nifti, nrrd, seg or rtstruct; None: that of each scan.
        meaning: Meaning of the masks; None: they number objects.

    Raises:
        ConfigError: There is no such format, or it keeps named classes alone.
    """
    if wanted is None:
        return None
    if wanted not in MASK_FORMATS:
        raise ConfigError(f"format={wanted}: there is no such format of masks. Choose {', '.join(MASK_FORMATS)}.")
    if meaning is None and wanted not in OF_OBJECTS:
        raise ConfigError(
            f"format={wanted}: the masks of this model number objects, which are no segments with names. "
            f"Choose {', '.join(OF_OBJECTS)}, or leave it out."
        )
    return MASK_FORMATS[wanted]
