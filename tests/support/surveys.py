"""Surveys, compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fewscan.data.survey import Survey


def assert_same(ours: Survey, theirs: Survey) -> None:
    assert list(ours.cases) == list(theirs.cases)
    for name, found in ours.cases.items():
        other = theirs.cases[name]
        assert replace(found, label=None, pictures=None) == replace(other, label=None, pictures=None)
        pairs = list(zip(found.pictures or (), other.pictures or (), strict=True))
        assert (found.label is None) == (other.label is None)
        if found.label is not None and other.label is not None:
            assert found.label.geometry == other.label.geometry
            assert (found.label.foreground, found.label.packed) == (other.label.foreground, other.label.packed)
            pairs += zip(found.label.intensities, other.label.intensities, strict=True)
        assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)
