"""fewscan demo: the whole path on a built-in phantom data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewscan.commands.evaluate import evaluate
from fewscan.commands.predict import predict
from fewscan.commands.train import train
from fewscan.data.index import SEMANTIC, read_dataset
from fewscan.errors import ConfigError
from fewscan.evaluation.summary import summary_table
from fewscan.io.files import AnyPath, read_json
from fewscan.registry import TASKS
from fewscan.runs.results import Evaluation
from fewscan.runs.state import check_new
from fewscan.tasks.base import Task
from fewscan.terminal.console import Reporter


def demo(
    output: AnyPath,
    *,
    method: str = "action",
    settings: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    task: str = SEMANTIC,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Make a phantom data set (3 labelled patients, 15 unlabelled, 6 held out), train, predict, evaluate.

    With task="instances" it is of pictures of cells (4 labelled, 24 unlabelled, 8 held out).

    Args:
        output: New or empty folder for data set, run and masks.
        method: Name of a registered method, or `package.module:Class`.
        settings: Further changes to the quick recipe, each `key=value`.
        seed: Seed of the phantom and of the training, 0 or more.
        device: Device to compute on: auto (an NVIDIA GPU, else the CPU), cpu, cuda, cuda:1, mps, ...
        task: Task to show: semantic, classes of voxels, or instances, objects that touch.
        reporter: Reporter that shows progress and decisions; None: nothing is shown.

    Returns:
        The scores of the held-out patients.

    Raises:
        ConfigError: A setting or the device cannot be used, or there is no such task, or nothing to show it on.
        DataError: The folder holds something.
        FewscanError: Training had to stop: the loss is not finite, or the memory is not enough.
        WriteError: The disk is full, read-only or gone.
        Interrupted: SIGINT or SIGTERM asked to stop while training.

    Examples:
        >>> import fewscan
        >>> fewscan.demo("DEMO", method="supervised", settings=short).summary["n_cases"]
        12
    """
    reporter = reporter or Reporter(quiet=True)
    output = Path(output)
    check_new(output)
    kind: type[Task] = TASKS.find(task)
    phantom = kind.phantom()
    if phantom is None:
        raise ConfigError(f"There is nothing made up to show the task {task!r} on. Train on a data set of your own.")
    dataset = phantom.make(output / "dataset", seed)
    reporter.say(f"phantom data set: {dataset}")
    run = train(
        dataset,
        output / "run",
        method=method,
        recipe="quick",
        settings=(*phantom.settings, *settings),
        seed=seed,
        device=device,
        reporter=reporter,
    ).files
    held_out = set(read_json(run.splits)["val"])
    scans = [path for case in read_dataset(dataset).cases if case.name in held_out for path in case.images]
    masks = output / "predictions"
    predict(run.path, scans, output=masks, device=device, reporter=reporter)
    scores = evaluate(masks, dataset / "labelsTr", output=output / "summary.json", reporter=reporter, missing="skip")
    reporter.say(summary_table(scores.summary))
    reporter.say(f"look at {output / 'summary.json'}, and open {run.page} in a browser")
    return scores
