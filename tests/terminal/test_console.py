import re

import pytest

from support.clocks import Clock
from support.terminals import reporter_on, shown


def test_bars_say_when_they_are_done_where_there_is_no_terminal() -> None:
    reporter = reporter_on(terminal=False)
    with reporter.bar("checking scans", 3) as step:
        for _ in range(3):
            step()
    assert shown(reporter) == "checking scans: 3 done\n"


def test_a_quiet_bar_shows_nothing() -> None:
    quiet = reporter_on(terminal=True, quiet=True)
    with quiet.bar("checking", 3) as step:
        step()
    assert shown(quiet) == ""


def test_numbers_come_before_bars_on_a_narrow_terminal() -> None:
    reporter = reporter_on(terminal=True, width=48)
    with reporter.bar("preprocessing validation scans", 36) as step:
        for _ in range(36):
            step()
    text = re.sub(r"\x1b\[[\d;?]*\w", "", shown(reporter))
    assert "preprocessing validation scans 36/36" in text


def test_a_log_is_told_every_half_minute_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("fewscan.terminal.console.time.monotonic", clock)
    reporter = reporter_on(terminal=False)
    with reporter.bar("checking scans", 10) as step:
        for _ in range(10):
            clock.now += 20
            step()
    assert shown(reporter).splitlines() == [
        "checking scans: 2 of 10, 3 a minute, about 3 min left",
        "checking scans: 4 of 10, 3 a minute, about 2 min left",
        "checking scans: 6 of 10, 3 a minute, about 80 s left",
        "checking scans: 8 of 10, 3 a minute, about 40 s left",
        "checking scans: 10 done in 3 min",
    ]
