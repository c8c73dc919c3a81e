"""Label descriptions as ITK-SNAP reads them: its reader's rules, by its source (Logic/Common/ColorLabelTable.cxx)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import fewscan
from fewscan.io.itksnap import label_descriptions
from fewscan.io.scans import write_scan
from fewscan.io.terms import Meaning, Segment
from fewscan.reporting.colours import class_colour
from support.scans import disc, geometry
from support.untrained_runs import CLASSES, SLICES, save_run

MEANING = Meaning(
    (Segment(1, "Liver", (200, 100, 50)), Segment(255, 'a "core"\nof # it', (0, 0, 0)), Segment(65535, "ü", (9, 8, 7))),
    "fewscan",
    "1",
)


Label = tuple[str, tuple[int, ...], float, bool, bool]


def as_itksnap_reads(text: str) -> dict[int, Label]:
    """Name, colour, opacity, whether shown in slices and in 3D, of every number but 0."""
    found: dict[int, Label] = {}
    for line in text.split("\n"):
        if not line or line.startswith("#"):
            continue
        before, _, after = line.partition('"')
        number, red, green, blue, alpha, shown, mesh = before.split()
        name = after[: len(line)].partition('"')[0]
        # The stream's `get` fails where there is nothing to get.
        assert name
        if int(number) > 0:
            colour = (int(red), int(green), int(blue))
            found[int(number)] = (name, colour, float(alpha), shown != "0", mesh != "0")
    return found


def test_itksnap_knows_names_and_colours() -> None:
    assert as_itksnap_reads(label_descriptions(MEANING)) == {
        1: ("Liver", (200, 100, 50), 1.0, True, True),
        255: ("a 'core' of # it", (0, 0, 0), 1.0, True, True),
        65535: ("ü", (9, 8, 7), 1.0, True, True),
    }


def test_every_line_has_the_form_that_the_file_tells_of() -> None:
    lines = [line for line in label_descriptions(MEANING).splitlines() if not line.startswith("#")]
    form = re.compile(r' *\d+ +(\d{1,3} +){3}[01] +[01] +[01] +"[^"]+"')
    assert all(form.fullmatch(line) for line in lines)
    assert lines[0].endswith('"Clear Label"')


@pytest.mark.usefixtures("no_shape_hook")
def test_predict_writes_them_beside_its_masks(tmp_path: Path) -> None:
    where = geometry((4, 20, 24))
    write_scan(tmp_path / "a_0000.nii.gz", disc(where.shape).astype(np.float32), where)
    run = save_run(tmp_path / "run", SLICES)
    fewscan.predict(run, [tmp_path / "a_0000.nii.gz"], output=tmp_path / "out", device="cpu", quality=False)
    found = as_itksnap_reads((tmp_path / "out/itksnap_labels.txt").read_text("utf-8"))
    assert {number: name for number, (name, *_) in found.items()} == {3: CLASSES[1], 7: CLASSES[2]}
    assert found[7][1] == tuple(bytes.fromhex(class_colour(2)[1:]))
