"""Lines are told apart."""

from __future__ import annotations

from fewscan.reporting.colours import line_style


def test_no_two_of_many_methods_are_drawn_alike() -> None:
    styles = [line_style(number) for number in range(1, 25)]
    assert len(set(styles)) == 24
    assert len({style.color for style in styles[:8]}) == 8
