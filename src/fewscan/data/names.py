"""Names of files and cases: channel numbers, and what was probably meant by a name that nothing has."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from fewscan.errors import Fault
from fewscan.io.endings import scan_ending, scan_stem
from fewscan.words import did_you_mean

CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def wrong_channels(case: str, channels: Mapping[int, Path], n_channels: int, wanted_by: str) -> Fault | None:
    """A fault of files whose numbers are beyond the channels: such numbers may be the scans' own.

    Args:
        case: Name of the case, without channel numbers.
        channels: Paths of the case's files, by channel number.
        n_channels: Number of channels that there should be, at least 1.
        wanted_by: Words for what says so, such as "the model".
    """
    beyond = [channels[i] for i in sorted(channels) if i >= n_channels]
    if not beyond:
        return None
    found = ", ".join(f"{i:04d}" for i in sorted(channels))
    wanted = "0000" if n_channels == 1 else f"0000 to {n_channels - 1:04d}"
    own = " and ".join(channel_names(scan_stem(path), n_channels) for path in beyond[:2])
    return Fault(
        str(beyond[0]),
        f"the channels of {case} would be {found}, {wanted_by} has {wanted}",
        f"Where the number is the scan's own, add the channel's: {own}; where it is a channel's, take the file away",
    )


def channel_names(case: str, n_channels: int) -> str:
    """The names of a case's files without their ending, in words."""
    return f"{case}_0000" if n_channels == 1 else f"{case}_0000 to {case}_{n_channels - 1:04d}"


def case_you_meant(name: str, known: Collection[str]) -> str:
    """A sentence to add to a message, or nothing: the known name that a name without ending or channel is, or is like.

    Args:
        name: Name that no case has.
        known: Names that there are.
    """
    for meant in _without_ending_and_channel(name):
        if meant in known:
            return f" Did you mean {meant}?"
    return did_you_mean(name, known)


def remedy_of_unknown(name: str, known: Collection[str]) -> str:
    """The remedy for a list with names that no case has, without a full stop.

    Args:
        name: First of the names that no case has.
        known: Names that there are.
    """
    hint = case_you_meant(name, known)
    return f"Remove or mend them.{hint}" if hint else "Remove or mend them"


def _without_ending_and_channel(name: str) -> Iterable[str]:
    file = Path(name.strip())
    stem = scan_stem(file) if scan_ending(file) else file.name
    yield stem
    if match := CHANNEL.match(stem):
        yield match["case"]
