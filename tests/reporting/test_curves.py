"""progress.png shows what the log has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from fewscan.reporting.curves import save_progress

TRAINING = [
    {"update": u, "stage": s, "terms": {"sup": 1 / u}, "loss": 1 / u, "lr": 0.01, "images_per_second": 30.0}
    for u, s in ((1, "global"), (2, "global"), (3, "local"))
]
VALIDATION = [
    {"update": u, "stage": "local", "validation": {"teacher": {"dice": d, "classes": {"RV": d}}}}
    for u, d in ((2, 0.4), (3, 0.7))
]


def different(a: Path, b: Path) -> bool:
    return float(np.abs(imread(a) - imread(b)).max()) > 0.2


def test_curves_show_terms_and_validation(tmp_path: Path) -> None:
    save_progress(tmp_path / "a.png", TRAINING)
    save_progress(tmp_path / "b.png", [*TRAINING, *VALIDATION])
    save_progress(tmp_path / "c.png", [*TRAINING[:2], {**TRAINING[2], "terms": {"sup": 9.0}}, *VALIDATION])
    assert different(tmp_path / "a.png", tmp_path / "b.png")
    assert different(tmp_path / "b.png", tmp_path / "c.png")


def test_curves_of_terms_that_are_zero_or_missing(tmp_path: Path) -> None:
    save_progress(tmp_path / "none.png", [])
    save_progress(tmp_path / "zero.png", [{**TRAINING[0], "terms": {"anco": 0.0}}])
    assert different(tmp_path / "none.png", tmp_path / "zero.png")
