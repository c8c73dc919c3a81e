"""fewscan: medical image segmentation from few labelled scans.

`check`, `convert`, `train`, `predict`, `suggest`, `evaluate`, `report`, `benchmark` and `demo` are the commands of the
same names; each is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["benchmark", "check", "convert", "demo", "evaluate", "predict", "report", "suggest", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'fewscan' has no attribute {name!r}")
    return getattr(import_module(f"fewscan.commands.{name}"), name)
