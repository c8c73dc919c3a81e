"""README.md of an export, the model card: data, split, labels, scores by fold, limits, licence. It names no case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from fewscan.evaluation.summary import RULE_TEXT, Summary, headline
from fewscan.exporting.base import Source
from fewscan.inference.model import FOLDS_HELD_OUT
from fewscan.io.files import read_json
from fewscan.run_folder import RunFolder
from fewscan.runs.provenance import recorded_dataset
from fewscan.version import VERSION

UNKNOWN = "not known"
# Keys of dataset.json that name the licence of a data set: nnU-Net's, and Decathlon's.
LICENCES = ("license", "licence")


def describe(source: Source, use: str) -> str:
    """Write the model card.

    Args:
        source: Run that is exported.
        use: Text of the target: how its files are used.

    Returns:
        Text in Markdown.
    """
    parts = {
        "Use": [use.strip()],
        "Data": _data(source),
        "Split": _split(source),
        "Labels": _labels(source),
        "Scores": _scores(source),
        "Limits": _limits(source),
        "Licence": _licence(source),
    }
    plan = source.card.plan
    head = f"{plan.dataset}: {', '.join(plan.class_names[1:])}"
    sections = "\n\n".join(f"## {title}\n\n" + "\n".join(lines) for title, lines in parts.items())
    return f"# {head}\n\nA segmentation model of {plan.describe()}, exported by fewscan {VERSION}.\n\n{sections}\n"


def _data(source: Source) -> list[str]:
    plan = source.card.plan
    return [
        f"- Data set: {plan.dataset}",
        f"- Channels: {', '.join(plan.channel_names)}",
        *(f"- {name}: {value}" for name, value in plan.facts()),
        *(f"- {note[0].upper()}{note[1:]}" for note in plan.notes),
    ]


def _split(source: Source) -> list[str]:
    told = _told(source.run.splits)
    roles = {
        "train_labelled": "Scans that were trained on with their label",
        "train_unlabelled": "Scans that were trained on without one",
        "val": "Scans held out for validation",
        "test": "Scans held out for a test",
    }
    lines = [f"- {text}: {len(told[role]) if role in told else UNKNOWN}" for role, text in roles.items()]
    folds = len(source.networks)
    if (source.run.path / FOLDS_HELD_OUT).is_file():
        lines.append(f"- Folds: {folds}; each network has not seen the labels of the patients that its fold holds out")
    return lines


def _labels(source: Source) -> list[str]:
    classes = source.card.plan.classes
    rows = [f"| {number} | {name} |" for name, number in zip(classes.names, classes.numbers, strict=True)]
    regions = [f"- {region.name}: {', '.join(map(str, region.numbers))} together" for region in classes.regions]
    ignored = [f"- {classes.ignored} in labels is what nobody has labelled"] if classes.ignored is not None else []
    table = ["| number in masks | class |", "|---:|---|", *rows]
    return [*table, "", *regions, *ignored] if regions or ignored else table


def _scores(source: Source) -> list[str]:
    run = source.run
    told = _told(run.scores.summary)
    if not told:
        return ["No scan was held out: nothing is known of how good its masks are."]
    summary = cast(Summary, told)
    metrics = list(summary["mean"])
    lines = [
        f"Mean over {summary['n_cases']} held-out scans, masks as the network gives them, {summary['rules']} rules "
        f"({RULE_TEXT[summary['rules']]}).",
        "",
        f"| class | {' | '.join(metrics)} |",
        f"|---|{'---:|' * len(metrics)}",
        *(_row(name, values, metrics) for name, values in (*summary["classes"].items(), ("mean", summary["mean"]))),
    ]
    if len(run.parts) > 1:
        lines += ["", f"| fold | scans | {headline(summary)} |", "|---:|---:|---:|", *_folds(run)]
    return lines


def _folds(run: RunFolder) -> Iterator[str]:
    for number, part in enumerate(run.parts):
        told = _told(part.validation.summary)
        if told:
            summary = cast(Summary, told)
            yield f"| {number} | {summary['n_cases']} | {_shown(summary['mean'][headline(summary)])} |"


def _row(name: str, values: Mapping[str, float | None], metrics: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(_shown(values.get(metric)) for metric in metrics)} |"


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _limits(source: Source) -> list[str]:
    card, run = source.card, source.run
    ceiling = [f"{name} {value:.3f}" for name, value in card.plan.ceiling.items()]
    steps = [step.describe(card.plan.class_names, card.plan.unit) for step in card.postprocessing]
    alarms = read_json(run.alarms) if run.alarms.is_file() else []
    chosen = f"- Post-processing, chosen on the held-out scans, whose scores it flatters: {'; '.join(steps)}."
    return [
        "- For research. It is no medical device, and nobody has shown that it helps a patient.",
        "- Scans of other scanners, protocols, parts of the body or diseases than the data set's were not tried.",
        f"- Method `{card.method}`, the network `{card.network_name}` of it (`{card.network.kind}`).",
        *([f"- The best that its canvas allows, Dice: {', '.join(ceiling)}."] if ceiling else []),
        *([chosen] if steps else []),
        *([f"- Training gave {len(alarms)} alarms: look at the run's report.html."] if alarms else []),
    ]


def _licence(source: Source) -> list[str]:
    dataset = source.dataset or recorded_dataset(source.run)
    meta = _told(dataset / "dataset.json") if dataset is not None else {}
    named = next((str(meta[key]) for key in LICENCES if meta.get(key)), UNKNOWN)
    return [
        f"- The data set's licence: {named}. Weights may come under it.",
        "- The weights' licence: not decided; whoever publishes them writes it here.",
        "- fewscan's code, and what is copied from it into this folder: Apache-2.0.",
    ]


def _told(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is no file."""
    told = read_json(path) if path.is_file() else {}
    return told if isinstance(told, dict) else {}
