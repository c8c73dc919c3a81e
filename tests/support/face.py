"""The names of `import fewscan`, in the order in which their examples are run: each uses what others have made."""

from __future__ import annotations

ORDER = (
    *("Fault", "FewscanError", "ConfigError", "DataError", "WriteError", "DamagedError", "Interrupted", "Reporter"),
    *("convert", "check", "DryRun", "train", "Run", "predict", "Predictions", "evaluate", "Evaluation", "suggest"),
    *(
        "Suggestion",
        "Callback",
        "UpdateInfo",
        "report",
        "benchmark",
        "BenchmarkResult",
        "sequence",
        "SequenceResult",
        "export",
        "demo",
        "doctor",
        "Diagnosis",
    ),
)
