"""Lengths of time: as a user writes them, and as they are said."""

from __future__ import annotations

import math
import re

MINUTE, HOUR = 60, 3600
UNITS = {"h": HOUR, "m": MINUTE, "s": 1}
_NUMBER = r"\d+(?:\.\d+)?"
_WRITTEN = re.compile(rf"(?:(?P<h>{_NUMBER})h)?\s*(?:(?P<m>{_NUMBER})m)?\s*(?:(?P<s>{_NUMBER})s)?")


def parse_duration(text: str) -> float:
    """Read a length of time such as 45m, 1h30m, 90s or 2h.

    Args:
        text: Numbers with their units, the largest unit first: h, m, s.

    Returns:
        Seconds, above 0.

    Raises:
        ValueError: The text is no length of time, or of no length.

    >>> [parse_duration(text) for text in ("45m", "1h30m", "90s", "1.5h")]
    [2700.0, 5400.0, 90.0, 5400.0]
    """
    found = _WRITTEN.fullmatch(text.strip())
    seconds = sum(float(number) * UNITS[unit] for unit, number in found.groupdict("0").items()) if found else 0.0
    if not 0 < seconds < math.inf:
        raise ValueError(f"{text!r} is no length of time: write it as 45m, 1h30m, 90s or 2h")
    return seconds


def write_duration(seconds: float) -> str:
    """Write a length of time as `parse_duration` reads it, rounded up: to seconds below two minutes, else to minutes.

    Args:
        seconds: Length of time, from 0.

    >>> [write_duration(seconds) for seconds in (4.2, 119, 121, 5400, 7200)]
    ['5s', '119s', '3m', '1h30m', '2h']
    """
    if seconds <= 2 * MINUTE:
        return f"{math.ceil(seconds)}s"
    hours, minutes = divmod(math.ceil(seconds / MINUTE), MINUTE)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes else "")


def say_duration(seconds: float) -> str:
    """Say a length of time to people, to about two digits.

    Args:
        seconds: Length of time, from 0.

    >>> [say_duration(seconds) for seconds in (0.4, 89, 90, 3600, 9000, 360000)]
    ['under 1 s', '89 s', '2 min', '60 min', '2 h 30 min', '100 h']
    """
    if seconds < 1:
        return "under 1 s"
    if seconds < 1.5 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 1.5 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    hours, minutes = divmod(round(seconds / MINUTE), MINUTE)
    return f"{hours} h" + (f" {minutes} min" if minutes and hours < 24 else "")


def say_pace(done: int, seconds: float) -> str:
    """Say how fast something goes, in a unit of time in which it is more than one.

    Args:
        done: Number of steps that were done, from 1.
        seconds: Length of time that they took, above 0.

    >>> [say_pace(*pace) for pace in ((6000, 30), (10, 60), (1, 1440))]
    ['200 a second', '10 a minute', '2.5 an hour']
    """
    per_second = done / seconds
    units = {"a second": 1, "a minute": MINUTE, "an hour": HOUR}
    name = next((name for name, unit in units.items() if per_second * unit >= 1), "an hour")
    count = per_second * units[name]
    return f"{count:.0f} {name}" if count >= 10 else f"{count:.2g} {name}"
