"""fewscan: medical image segmentation from few labelled scans.

`check`, `convert`, `train`, `predict`, `suggest`, `evaluate`, `report`, `benchmark`, `sequence`, `export`, `demo`
and `doctor` are the commands of the same names. What they give back and what they raise is here too. All but the errors
is imported when it is first used: PyTorch alone takes seconds.

Whoever writes a method, a network or a format takes what is needed from its own module, such as `fewscan.methods.base`:
each has one address, beside the losses and networks that are used with it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from fewscan.errors import ConfigError, DamagedError, DataError, Fault, FewscanError, Interrupted, WriteError
from fewscan.version import VERSION

__version__ = VERSION

__all__ = [
    "BenchmarkResult",
    "Callback",
    "ConfigError",
    "DamagedError",
    "DataError",
    "Diagnosis",
    "DryRun",
    "Evaluation",
    "Fault",
    "FewscanError",
    "Interrupted",
    "Predictions",
    "Reporter",
    "Run",
    "SequenceResult",
    "Suggestion",
    "UpdateInfo",
    "WriteError",
    "__version__",
    "benchmark",
    "check",
    "convert",
    "demo",
    "doctor",
    "evaluate",
    "export",
    "predict",
    "report",
    "sequence",
    "suggest",
    "train",
]

if TYPE_CHECKING:
    from fewscan.benchmarking.outcome import BenchmarkResult
    from fewscan.commands.benchmark import benchmark
    from fewscan.commands.check import check
    from fewscan.commands.convert import convert
    from fewscan.commands.demo import demo
    from fewscan.commands.doctor import Diagnosis, doctor
    from fewscan.commands.evaluate import evaluate
    from fewscan.commands.export import export
    from fewscan.commands.predict import predict
    from fewscan.commands.report import report
    from fewscan.commands.sequence import SequenceResult, sequence
    from fewscan.commands.suggest import suggest
    from fewscan.commands.train import train
    from fewscan.engine.callbacks import Callback, UpdateInfo
    from fewscan.evaluation.selection import Suggestion
    from fewscan.runs.dry_run import DryRun
    from fewscan.runs.results import Evaluation, Predictions, Run
    from fewscan.terminal.console import Reporter
else:
    # Type checkers read the imports above; were they to see this function, they would believe in any name.
    _MODULES = {
        "BenchmarkResult": "fewscan.benchmarking.outcome",
        "Callback": "fewscan.engine.callbacks",
        "Diagnosis": "fewscan.commands.doctor",
        "DryRun": "fewscan.runs.dry_run",
        "Evaluation": "fewscan.runs.results",
        "Predictions": "fewscan.runs.results",
        "Reporter": "fewscan.terminal.console",
        "Run": "fewscan.runs.results",
        "SequenceResult": "fewscan.commands.sequence",
        "Suggestion": "fewscan.evaluation.selection",
        "UpdateInfo": "fewscan.engine.callbacks",
        "benchmark": "fewscan.commands.benchmark",
        "check": "fewscan.commands.check",
        "convert": "fewscan.commands.convert",
        "demo": "fewscan.commands.demo",
        "doctor": "fewscan.commands.doctor",
        "evaluate": "fewscan.commands.evaluate",
        "export": "fewscan.commands.export",
        "predict": "fewscan.commands.predict",
        "report": "fewscan.commands.report",
        "sequence": "fewscan.commands.sequence",
        "suggest": "fewscan.commands.suggest",
        "train": "fewscan.commands.train",
    }

    def __getattr__(name):
        if name not in _MODULES:
            raise AttributeError(f"module 'fewscan' has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
