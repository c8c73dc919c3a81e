"""What the commands give back: small objects that know their files and show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import cast

from fewscan.engine.log import read_log
from fewscan.engine.records import Record
from fewscan.evaluation.summary import Summary, headline, metric_cells, remarks
from fewscan.io.files import read_json
from fewscan.reporting.html import html_picture, html_table
from fewscan.run_folder import RunFolder

SHOWN_MASKS = 20


@dataclass(frozen=True)
class Evaluation:
    """Scores of masks against references.

    Attributes:
        summary: Scores of all cases, as `summary.json` holds them; see `fewscan.evaluation.summary.Summary`.

    Examples:
        >>> import fewscan
        >>> scores = fewscan.evaluate("DATASET/labelsTr", "DATASET/labelsTr")
        >>> scores.dice, scores.classes["disc"]["hd95_mm"], scores.missing
        (1.0, 0.0, [])
    """

    summary: Summary

    @property
    def dice(self) -> float | None:
        """Dice, mean over foreground classes and cases; None where nothing was there to score, and of objects."""
        return self.summary["mean"].get("dice")

    @property
    def score(self) -> float | None:
        """What cases are ranked by: Dice, or AP at IoU 0.5 of objects; mean over foreground classes and cases."""
        return self.summary["mean"][headline(self.summary)]

    @property
    def classes(self) -> dict[str, dict[str, float | None]]:
        """Mean over cases, by class and metric; None: undefined."""
        return dict(self.summary["classes"])

    @property
    def cases(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """Value by case, class and metric; None: undefined."""
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
        folder: Folder of the masks and their tables.
        masks: Path of the mask of each scan that was segmented.

    Examples:
        >>> import fewscan
        >>> masks = fewscan.predict("RUN", ["DATASET/imagesTr"], output="ALL")
        >>> len(masks), masks.folder.name, masks.masks[0].name
        (6, 'ALL', 'case_00.nii.gz')
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
        folder: Folder of the run.

    Examples:
        >>> import fewscan
        >>> from pathlib import Path
        >>> run = fewscan.Run(Path("RUN"))
        >>> run.records[-1]["stage"], sorted(run.validation.cases)
        ('anatomical', ['case_03'])
    """

    folder: Path

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def files(self) -> RunFolder:
        """Paths of the files of the run."""
        return RunFolder(self.folder)

    @property
    def model(self) -> Path:
        """Path of the weights; `model.json` beside them says what they are."""
        return self.files.weights

    @property
    def models(self) -> tuple[Path, ...]:
        """Paths of the weights of all networks that `predict` averages: the one, or that of each fold."""
        return self.files.all_weights

    @property
    def validation(self) -> Evaluation | None:
        """Scores of the last weights on the validation cases; None without such cases."""
        path = self.files.validation.summary
        return Evaluation(read_json(path)) if path.is_file() else None

    @property
    def cross_validation(self) -> Evaluation | None:
        """Scores of the labelled cases, each by the fold that has not seen its patient; None without folds."""
        path = self.files.cross_validation.summary
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
