"""From what is known of a run to one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from fewscan.data.fingerprint import Fingerprint
from fewscan.io.files import write_text
from fewscan.reporting.colours import CLASS_COLOURS
from fewscan.reporting.page.cases import Card, CaseFiles
from fewscan.reporting.page.charts import embedding_charts, estimate_chart, gallery_rows, score_strips, training_charts
from fewscan.reporting.page.facts import dataset_facts, labelled_lists, provenance_facts, score_tables
from fewscan.reporting.page.sources import RunContents
from fewscan.reporting.page.training_scans import TrainingScan
from fewscan.reporting.page.verdict import Rival, verdict
from fewscan.tasks.base import task_of
from fewscan.version import VERSION


@dataclass(frozen=True)
class PageContents:
    """Contents of a page.

    Attributes:
        run: Contents of the run.
        cards: Cases that are shown, worst first.
        left_out: Cases that are not shown, worst first.
        predictions: Folder of the masks; None: the cases are the validation's.
        patients: Patient of each case, by the case's name, where it is known.
        fingerprint: Fingerprint of the data set; None where the data set was not to be found.
        rival: Supervised run to compare with; None: there is none.
        training_scans: Pictures of labelled training scans; empty where the data set was not to be found.
    """

    run: RunContents
    cards: Sequence[Card]
    left_out: Sequence[CaseFiles]
    predictions: Path | None
    patients: Mapping[str, str]
    fingerprint: Fingerprint | None
    rival: Rival | None
    training_scans: Sequence[TrainingScan]


def write_page(path: Path, contents: PageContents) -> None:
    """Write the page; it appears complete or not at all."""
    write_template(path, "page.html", _variables(contents))


def write_template(path: Path, name: str, variables: Mapping[str, Any]) -> None:
    """Write a page of one of the package's templates; it appears complete or not at all.

    Args:
        path: Path of the HTML file.
        name: Name of the template.
        variables: Variables of the template, but for the version, which all have.

    Raises:
        WriteError: The file cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("fewscan.reporting.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["code"] = _code
    write_text(path, environment.get_template(name).render(version=VERSION, **variables))


def _variables(contents: PageContents) -> dict[str, Any]:
    run = contents.run
    cases = [*(card.files for card in contents.cards), *contents.left_out]
    # Of one page each: there is one way to look at them, and no direction of a body in them.
    are_pictures = all(card.is_picture for card in contents.cards) and run.plan.pictures is not None
    return {
        "run": run,
        "title": f"{run.plan.dataset}, {run.method}",
        "predictions": contents.predictions,
        "has_references": contents.predictions is None or run.is_referenced,
        "score_title": task_of(run.plan).metrics.headline_title,
        "patients_labelled": len({contents.patients.get(name, name) for name in run.splits["train_labelled"]}),
        "answers": verdict(run, contents.patients, contents.rival, cases),
        "cards": contents.cards,
        "are_pictures": are_pictures,
        "left_out": contents.left_out,
        "tables": score_tables(run, contents.patients),
        "strips": score_strips(run),
        "estimates": estimate_chart(cases),
        "training": training_charts(run),
        "gallery": gallery_rows(run),
        "embedding": embedding_charts(run.embedding, run.plan.element) if run.embedding is not None else [],
        "training_scans": contents.training_scans,
        "facts": dataset_facts(run, contents.fingerprint),
        "roles": labelled_lists(run),
        "provenance": provenance_facts(run),
        "colours": CLASS_COLOURS,
        "data": {
            "classes": list(run.classes),
            "title": task_of(run.plan).metrics.headline_title,
            "scored": [_scored(name, run.classes) for name in run.scored],
            "colours": list(CLASS_COLOURS),
            "cases": [card.facts for card in contents.cards],
            "are_pictures": are_pictures,
        },
        "style": page_part("templates", "page.css"),
        "script": page_part("templates", "page.js"),
        "viewer": page_part("vendor", "niivue.umd.js") if contents.cards else Markup(""),
        "viewer_licence": page_part("vendor", "niivue.LICENSE"),
    }


def _scored(name: str, classes: Sequence[str]) -> dict[str, Any]:
    """What the viewer lists; a region of several classes has no colour of its own."""
    return {"name": name, "colour": classes.index(name) if name in classes else None}


def _code(text: str) -> Markup:
    """What stands in backticks, as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


def page_part(folder: str, name: str) -> Markup:
    """A file of the package that goes into a page as it is.

    Args:
        folder: Folder of the file in the package.
        name: Name of the file.
    """
    return Markup((resources.files("fewscan.reporting.page") / folder / name).read_text("utf-8"))
