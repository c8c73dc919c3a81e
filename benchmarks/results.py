"""What was measured, against its targets: a table for the screen, JSON for later."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

import fewscan

if TYPE_CHECKING:
    from rich.table import Table

GIB = 2**30
SIGNS = {"at most": "≤", "at least": "≥"}


@dataclass(frozen=True)
class Target:
    """A limit that a figure has to keep.

    Attributes:
        what: which figure.
        value: that was measured, in `unit`.
        sense: at most or at least the limit.
        limit: in `unit`.
        unit: s, GiB, ×, %, slices/s.
    """

    what: str
    value: float
    sense: Literal["at most", "at least"]
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether it is kept."""
        return self.value <= self.limit if self.sense == "at most" else self.value >= self.limit

    def __str__(self) -> str:
        verdict = "[green]met[/]" if self.met else "[red]missed[/]"
        return f"{self.what} {self.value:.3g} {SIGNS[self.sense]} {self.limit:g} {self.unit}: {verdict}"


@dataclass(frozen=True)
class Measured:
    """One thing that was measured.

    Attributes:
        part: of the benchmarks.
        what: was done.
        seconds: of every repetition.
        peak_bytes: most memory, of a process that did nothing else; None where it was not looked at.
        to_floor: seconds relative to those of the same step without a representation head.
        figures: anything else, by name.
        targets: that it has to keep.
    """

    part: str
    what: str
    seconds: Sequence[float]
    peak_bytes: int | None = None
    to_floor: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    targets: Sequence[Target] = ()

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    def to_json(self) -> dict[str, Any]:
        """All of it, the verdicts included."""
        return {
            "part": self.part,
            "what": self.what,
            "median_seconds": self.median,
            "seconds": list(self.seconds),
            "peak_bytes": self.peak_bytes,
            "to_floor": self.to_floor,
            "figures": dict(self.figures),
            "targets": [{**vars(target), "met": target.met} for target in self.targets],
        }


def table(measured: Sequence[Measured]) -> Table:
    """For the screen."""
    from rich.table import Table

    drawn = Table(title="fewscan benchmarks")
    for column in ("part", "what", "median s", "min – max s", "peak GiB", "× floor", "figures", "targets"):
        drawn.add_column(column, justify="right" if column in ("median s", "peak GiB", "× floor") else "left")
    for row in measured:
        drawn.add_row(
            row.part,
            row.what,
            f"{row.median:.4g}",
            f"{min(row.seconds):.3g} – {max(row.seconds):.3g}",
            "" if row.peak_bytes is None else f"{row.peak_bytes / GIB:.2f}",
            "" if row.to_floor is None else f"{row.to_floor:.3f}",
            "\n".join(f"{name} {value:.3g}" for name, value in row.figures.items()),
            "\n".join(map(str, row.targets)),
        )
    return drawn


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """What it was measured on, and what else the machine was doing."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fewscan": fewscan.__version__,
    }


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()
