"""Charts as SVG."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from fewscan.reporting.lines import Line
from fewscan.reporting.page.svg import Axis, heat_map, line_chart, scatter, strips
from support.known import known

NAMES = ("background", "a", "b")


def parsed(chart: object) -> ET.Element:
    return ET.fromstring(str(chart))


def test_charts_are_xml_and_escape_names() -> None:
    line = Line("<em>&", [0, 10, 20], [0.0, 0.5, 20.0], colour=9, dashed=True)
    other = Line("other", [0, 20], [1.0, 2.0], dots=True)
    charts = [
        line_chart([line, other], "what", "updates", log=True, marks=[10], wide=True),
        line_chart([line], "what", "updates", y_range=(0, 1)),
        scatter([(0.1, 0.2, 1, "<s>")], "y", "x", diagonal=True, names=[("<u>", 1)]),
        scatter([(1, 2, 1, "p"), (3, 5, 2, "q")], "y", "x", crosses=[(2, 2, 1, "mean")]),
        strips([("<a>", 1, [0.2, 0.9, 1.0]), ("b", 2, [])], "Dice", "x"),
        heat_map(NAMES, NAMES, [[1, -0.5, None]] * 3, "cosines"),
        heat_map(NAMES[:2], NAMES, [[70, 80, 90]] * 2, "scores", span=(70, 90), places=1, framed=[(0, 0)], left=150),
    ]
    for chart in charts:
        assert known(parsed(chart).find("svg")).get("role") == "img"
        assert not {"em", "s", "u", "a"} & {element.tag for element in parsed(chart).iter()}


def test_charts_of_nothing_say_so() -> None:
    assert "Nothing to draw: losses" in line_chart([Line("a", [1], [0.0])], "losses", "x", log=True)
    assert "Nothing to draw" in scatter([], "y", "x")


def test_axes_and_their_ticks() -> None:
    axis = Axis(0, 100, 10, 110)
    assert [axis(v) for v in (0, 50, 100)] == [10, 60, 110]
    assert axis.ticks() == [0, 20, 40, 60, 80, 100]
    log = Axis(0.01, 100, 0, 4, log=True)
    assert [log(v) for v in (0.01, 1, 100)] == pytest.approx([0, 2, 4])
    assert log.ticks() == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert Axis(0.1, 1.2, 0, 1, log=True).ticks() == pytest.approx([0.1, 0.2, 0.5, 1])
