"""What the page's charts and pictures show."""

from __future__ import annotations

import numpy as np

from fewscan.reporting.page.charts import heat, tint


def test_pseudo_labels_are_tinted_and_doubt_is_bright() -> None:
    image, labels = np.full((2, 2), 100, np.uint8), np.array([[0, 1], [2, 0]], np.uint8)
    picture = tint(image, labels)
    assert (picture[0, 0] == 100).all()
    assert picture[0, 1, 0] > picture[0, 1, 2]
    brightness = heat(np.array([[255, 190, 127, 40]], np.uint8)).sum(axis=2)[0]
    assert list(brightness) == sorted(brightness)
    assert brightness[2] == brightness[3]
