"""pipeline.json and predict.py: what is done to a scan before and after the network, as data and as NumPy code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fewscan.data.index import SEMANTIC
from fewscan.data.plans.base import Plan
from fewscan.exporting import reference
from fewscan.exporting.base import Source
from fewscan.inference.postprocess import FOREGROUND
from fewscan.io.files import read_text, write_json, write_text
from fewscan.version import VERSION

FORMAT = 1
PIPELINE, SCRIPT = "pipeline.json", "predict.py"
# What a plan tells of its data set and its training, and changes nothing of a canvas.
TOLD = {"notes", "ceiling", "turned", "dataset", "foreground", "task", "pictures", "normalisation", "regions"}
CLASSES = {"channel_names", "class_names", "class_numbers", "ignored_number"}


def write_pipeline(source: Source, folder: Path, network: str) -> None:
    """Write `pipeline.json`, and `predict.py` where it can do what the run's plan and task want.

    Args:
        source: Run that is exported.
        folder: Folder to write to.
        network: Name of the file of the network.

    Raises:
        WriteError: A file cannot be written.
    """
    write_json(folder / PIPELINE, describe(source, network))
    problem = unscripted(source)
    if problem is None:
        write_text(folder / SCRIPT, read_text(Path(reference.__file__)))
    else:
        source.reporter.say(f"{SCRIPT} is left out: {problem}; {PIPELINE} has the numbers")


def describe_files(folder: Path) -> str:
    """Say what `write_pipeline` has written, in Markdown.

    Args:
        folder: Folder that was written to.
    """
    numbers = f"`{PIPELINE}` has the numbers of all that is done to a scan before the network and to a mask after it"
    if not (folder / SCRIPT).exists():
        return f"\n{numbers}.\n"
    return f"""
{numbers}; `{SCRIPT}` does it, in NumPy:

```sh
pip install numpy nibabel onnxruntime
python {SCRIPT} SCAN_0000.nii.gz -o MASKS   # the files of several channels of a scan with commas between
```

It gives the masks of `fewscan predict --device cpu`, and leaves out its checks of scans, its estimates of quality and
`--tta`.
"""


def unscripted(source: Source) -> str | None:
    """Say what the reference script cannot do of a run; None: it does all of it."""
    plan = source.card.plan
    if plan.kind not in reference.CANVASES:
        return f"it knows no plan of {plan.kind}"
    if plan.task != SEMANTIC:
        return f"it knows no task {plan.task!r}"
    if any(step.kind == "fill_holes" and step.of == FOREGROUND for step in source.card.postprocessing):
        return "it fills holes of classes, not those of the foreground as a whole"
    return None


def describe(source: Source, network: str) -> dict[str, Any]:
    """Say as plain data what the network wants and what is done around it.

    Args:
        source: Run that is exported.
        network: Name of the file of the network.
    """
    card, first = source.card, source.networks[0]
    plan = card.plan
    axes = ["z", "y", "x"] if plan.ndim == 3 else ["y", "x"]
    return {
        "format": FORMAT,
        "made_by": f"fewscan {VERSION}",
        "network": {
            "file": network,
            "input": {"name": "images", "axes": ["image", "channel", *axes], "type": "float32"},
            "output": {"name": "probabilities", "axes": ["image", "class", *axes], "type": "float32"},
            "sides_are_multiples_of": list(first.settings.spans(first.ndim)),
            "averaged_networks": len(source.networks),
        },
        "channels": [
            {"name": name, "normalisation": how.model_dump(mode="json", exclude_none=True)}
            for name, how in zip(plan.channel_names, plan.normalisation, strict=True)
        ],
        "classes": [
            {"name": name, "number": number} for name, number in zip(plan.class_names, _numbers(plan), strict=True)
        ],
        "canvas": canvas_of(plan),
        "decoding": card.decoding,
        "postprocessing": [step.model_dump(mode="json") for step in card.postprocessing],
    }


def canvas_of(plan: Plan) -> dict[str, Any]:
    """The numbers by which a plan brings scans to its canvas."""
    return plan.model_dump(mode="json", exclude=TOLD | CLASSES)


def _numbers(plan: Plan) -> tuple[int, ...]:
    return plan.class_numbers or tuple(range(len(plan.class_names)))
