"""What the numbers of a mask mean to other programs: names, colours, and codes of SNOMED CT."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from fewscan.errors import DataError
from fewscan.settings import StrictModel

SNOMED = "SCT"
EXAMPLE = 'Write it as {"tumour": {"type": ["108369006", "SCT", "Neoplasm"], "colour": "#D55E00"}}'
# The lengths that DICOM allows.
CodeFields = tuple[
    Annotated[str, Field(min_length=1, max_length=16)],
    Annotated[str, Field(min_length=1, max_length=16)],
    Annotated[str, Field(min_length=1, max_length=64)],
]


@dataclass(frozen=True)
class Code:
    """A term of a coding scheme.

    Attributes:
        value: Code of the term, such as "10200004".
        scheme: Designator of the scheme, such as "SCT" for SNOMED CT or "DCM" for DICOM's own.
        meaning: Text that people read.
    """

    value: str
    scheme: str
    meaning: str


STRUCTURE = Code("91723000", SNOMED, "Anatomical Structure")
ABNORMAL = Code("49755003", SNOMED, "Morphologically Abnormal Structure")
# What 3D Slicer and dcmqi code a segment as of which nobody says what it is.
TISSUE = Code("85756007", SNOMED, "Tissue")
ORGANS = {
    "adrenal gland": "23451007",
    "aorta": "15825003",
    "bladder": "89837001",
    "bone": "272673000",
    "brain": "12738006",
    "breast": "76752008",
    "colon": "71854001",
    "duodenum": "38848004",
    "esophagus": "32849002",
    "femur": "71341001",
    "gallbladder": "28231008",
    "heart": "80891009",
    "hippocampus": "5366008",
    "kidney": "64033007",
    "left atrium": "82471001",
    "left ventricle": "87878005",
    "liver": "10200004",
    "lung": "39607008",
    "lymph node": "59441001",
    "muscle": "71616004",
    "pancreas": "15776009",
    "prostate": "41216001",
    "rectum": "34402009",
    "right atrium": "73829009",
    "right ventricle": "53085002",
    "skin": "39937001",
    "spinal cord": "2748008",
    "spleen": "78961009",
    "stomach": "69695003",
    "thyroid": "69748006",
    "trachea": "44567001",
    "uterus": "35039007",
    "vertebra": "51282000",
}
FINDINGS = {
    "cyst": "367643001",
    "edema": "79654002",
    "lesion": "52988006",
    "necrosis": "6574001",
    "neoplasm": "108369006",
}
# British spellings, and what public data sets call them.
ALSO = {
    "oesophagus": "esophagus",
    "oedema": "edema",
    "tumour": "neoplasm",
    "tumor": "neoplasm",
    "cancer": "neoplasm",
    "urinary bladder": "bladder",
    "la": "left atrium",
    "lv": "left ventricle",
    "ra": "right atrium",
    "rv": "right ventricle",
}


@dataclass(frozen=True)
class Segment:
    """A number of a mask, as other programs are told of it.

    Attributes:
        number: Number in the mask, from 1.
        name: Name of the class.
        colour: Red, green and blue, 0 to 255 each.
        category: Term for the kind of thing that it is.
        kind: Term for what it is.
    """

    number: int
    name: str
    colour: tuple[int, int, int]
    category: Code = TISSUE
    kind: Code = TISSUE


@dataclass(frozen=True)
class Meaning:
    """What a mask means.

    Attributes:
        segments: Segments of all numbers that the mask may hold but 0, by rising number.
        algorithm: Name of what made the mask.
        version: Version of what made the mask.
    """

    segments: tuple[Segment, ...]
    algorithm: str
    version: str


class SegmentTerms(StrictModel):
    """What dataset.json says of a class in "segments": each may be left out.

    Attributes:
        category: Code, scheme and meaning of the kind of thing that the class is.
        type: Code, scheme and meaning of what the class is.
        colour: Colour as #RRGGBB.
    """

    category: CodeFields | None = None
    type: CodeFields | None = None
    colour: Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$")] | None = None

    def segment(self, number: int, name: str, colour: str) -> Segment:
        """Make the segment of a class; what is not said is that of its name, or tissue.

        Args:
            number: Number of the class in masks.
            name: Name of the class.
            colour: Colour as #RRGGBB where none is said.
        """
        category, kind = known_codes(name) or (TISSUE, TISSUE)
        red, green, blue = bytes.fromhex((self.colour or colour)[1:])
        return Segment(
            number,
            name,
            (red, green, blue),
            Code(*self.category) if self.category is not None else category,
            Code(*self.type) if self.type is not None else kind,
        )


def parse_terms(value: Any, names: Collection[str]) -> dict[str, SegmentTerms]:
    """Understand "segments" of dataset.json.

    Args:
        value: Value of "segments", as JSON gives it; None: there is none.
        names: Names of the classes.

    Raises:
        DataError: The value cannot be understood, or is of no class.
    """
    try:
        terms = TypeAdapter(dict[str, SegmentTerms]).validate_python({} if value is None else value)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        problem = f'"segments" cannot be understood at {where or "its beginning"}: {error.errors()[0]["msg"]}'
        raise DataError.of("dataset.json", problem, EXAMPLE) from None
    for name in terms:
        if name not in names:
            problem = f'"segments" names "{name}", which is no class'
            raise DataError.of("dataset.json", problem, 'Name classes of "labels"')
    return terms


def known_codes(name: str) -> tuple[Code, Code] | None:
    """Find the category and the term of a common organ or finding by its name; None: it is not known here.

    Args:
        name: Name of a class; small and capital letters, lines and spaces do not count.

    >>> [code.meaning for code in known_codes("Left_Ventricle") or ()]
    ['Anatomical Structure', 'Left ventricle']
    """
    plain = " ".join("".join(letter if letter.isalnum() else " " for letter in name.casefold()).split())
    plain = ALSO.get(plain, plain)
    for category, terms in ((STRUCTURE, ORGANS), (ABNORMAL, FINDINGS)):
        if plain in terms:
            return category, Code(terms[plain], SNOMED, plain.capitalize())
    return None


def unnamed(array: np.ndarray, version: str) -> Meaning:
    """Make the meaning of a mask whose numbers nobody has named.

    Args:
        array: Mask of whole numbers from 0; where it shows nothing, 1 is taken for what it might have shown.
        version: Version of fewscan.
    """
    grey = (128, 128, 128)
    shown = [int(number) for number in np.unique(array) if number > 0] or [1]
    return Meaning(tuple(Segment(number, f"label {number}", grey) for number in shown), "fewscan", version)
