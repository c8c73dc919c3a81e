"""What the commands give back: small objects that know their files and show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import cast

from fewscan.engine.log import Record, read_log
from fewscan.evaluation.summary import Summary, metric_cells, remarks
from fewscan.io.files import read_json
from fewscan.reporting.html import html_picture, html_table
from fewscan.run_folder import RunFolder

SHOWN_MASKS = 20


@dataclass(frozen=True)
class Evaluation:
    """Scores of masks against references.

    Attributes:
        summary: of all cases, see `fewscan.evaluation.summary.summarise`; what `summary.json` holds.
    """

    summary: Summary

    @property
    def dice(self) -> float | None:
        """Mean over foreground classes and cases; None where no mask shows a class and no `dataset.json` names one."""
        return self.summary["mean"]["dice"]

    @property
    def classes(self) -> dict[str, dict[str, float | None]]:
        """Metric by class; None: undefined."""
        return dict(self.summary["classes"])

    @property
    def cases(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """Metric by case and class; None: undefined."""
        return dict(self.summary["cases"])

    @property
    def missing(self) -> list[str]:
        """References without a prediction that were scored as missed."""
        return list(self.summary.get("missing", ()))

    def _repr_html_(self) -> str:
        undefined, metrics = self.summary["undefined"], list(self.summary["mean"])
        rows = [(name, *metric_cells(values, undefined["classes"][name])) for name, values in self.classes.items()]
        rows.append(("mean", *metric_cells(self.summary["mean"], undefined["mean"])))
        said = [f"{self.summary['n_cases']} cases, {self.summary['rules']} rules", *remarks(self.summary)]
        heads = ("class", *(metric.replace("_", " ") for metric in metrics))
        return "".join(f"<p>{escape(text)}</p>" for text in said) + html_table(heads, rows)


@dataclass(frozen=True)
class Predictions:
    """Masks that were written.

    Attributes:
        folder: that holds them.
        masks: a file per scan.
    """

    folder: Path
    masks: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.masks)

    def __iter__(self) -> Iterator[Path]:
        return iter(self.masks)

    def _repr_html_(self) -> str:
        more = len(self.masks) - SHOWN_MASKS
        names = "".join(f"<li>{escape(path.name)}</li>" for path in self.masks[:SHOWN_MASKS])
        rest = f"<p>and {more} more</p>" if more > 0 else ""
        return f"<p>{len(self.masks)} masks in <code>{escape(str(self.folder))}</code></p><ul>{names}</ul>{rest}"


@dataclass(frozen=True)
class Run:
    """A finished training; may be handed to whatever takes a path.

    Attributes:
        folder: of the run.
    """

    folder: Path

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def files(self) -> RunFolder:
        """Where each file of the run lies."""
        return RunFolder(self.folder)

    @property
    def model(self) -> Path:
        """The weights; `model.json` beside them says what they are."""
        return self.files.weights

    @property
    def validation(self) -> Evaluation | None:
        """Of the last weights on the validation cases; None without such cases."""
        path = self.files.validation.summary
        return Evaluation(read_json(path)) if path.is_file() else None

    @property
    def records(self) -> list[Record]:
        """The lines of `metrics.jsonl`: loss terms, learning rate and speed, or a validation, or an alarm."""
        return cast(list[Record], read_log(self.files.metrics))

    def _repr_html_(self) -> str:
        validation = self.validation
        scores = validation._repr_html_() if validation is not None else "<p>no validation cases</p>"
        curves = html_picture(self.files.progress, "loss terms, learning rate and validation Dice")
        return f"<p>run <code>{escape(str(self.folder))}</code></p>{scores}{curves}"
