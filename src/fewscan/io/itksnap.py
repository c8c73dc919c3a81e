"""Label descriptions of ITK-SNAP: a text file with the colour and the name of every number of a mask."""

from __future__ import annotations

from fewscan.io.terms import Meaning, Segment

# ITK-SNAP passes over lines that begin with #; these are for people.
HEAD = """\
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
"""
CLEAR = '    0     0    0    0        0  0  0    "Clear Label"\n'


def label_descriptions(meaning: Meaning) -> str:
    """Make the text of a file that ITK-SNAP's "Import Label Descriptions" takes.

    Args:
        meaning: Meaning of all numbers of the masks but 0.

    >>> meaning = Meaning((Segment(3, 'the "core"', (213, 94, 0)),), "fewscan", "1")
    >>> print(label_descriptions(meaning).splitlines()[-1])
        3   213   94    0        1  1  1    "the 'core'"
    """
    return HEAD + CLEAR + "".join(map(_line, meaning.segments))


def _line(segment: Segment) -> str:
    red, green, blue = segment.colour
    # ITK-SNAP reads a name up to the next quotation mark, and the next line as another label.
    name = " ".join(segment.name.split()).replace('"', "'")
    return f'{segment.number:5} {red:5}{green:5}{blue:5}        1  1  1    "{name}"\n'
