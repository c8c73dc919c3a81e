"""fewscan demo: the whole path on a built-in phantom data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewscan.commands.evaluate import evaluate
from fewscan.commands.predict import predict
from fewscan.commands.train import train
from fewscan.data.phantom import make_phantom
from fewscan.evaluation.summary import summary_table
from fewscan.io.files import AnyPath, read_json
from fewscan.runs.results import Evaluation
from fewscan.runs.state import check_new
from fewscan.terminal.console import Reporter

# Enough for the phantom; minutes on two cores.
DEMO_SETTINGS = (
    "plan.size=64",
    "training.updates=760",
    *(
        f"methods.{method}.pretraining.{stage}.updates=30"
        for method in ("action", "action_pp")
        for stage in ("global", "local")
    ),
    "logging.validate_every=200",
)


def demo(
    output: AnyPath,
    *,
    method: str = "action",
    settings: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Evaluation:
    """Make a phantom data set (3 labelled patients, 15 unlabelled, 6 held out), train, predict, evaluate.

    Args:
        output: New or empty folder for data set, run and masks.
        method: Name of a registered method, or `package.module:Class`.
        settings: Further changes to the quick recipe, each `key=value`.
        seed: Seed of the phantom and of the training, 0 or more.
        device: Device to compute on: auto (an NVIDIA GPU, else the CPU), cpu, cuda, cuda:1, mps, ...
        reporter: Reporter that shows progress and decisions; None: nothing is shown.

    Returns:
        The scores of the held-out patients.

    Raises:
        ConfigError: A setting or the device cannot be used.
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
    dataset = make_phantom(output / "dataset", seed=seed)
    reporter.say(f"phantom data set: {dataset}")
    run = train(
        dataset,
        output / "run",
        method=method,
        recipe="quick",
        settings=(*DEMO_SETTINGS, *settings),
        seed=seed,
        device=device,
        reporter=reporter,
    ).files
    held_out = read_json(run.splits)["val"]
    scans = [dataset / "imagesTr" / f"{case}_0000.nii.gz" for case in held_out]
    masks = output / "predictions"
    predict(run.path, scans, output=masks, device=device, reporter=reporter)
    scores = evaluate(masks, dataset / "labelsTr", output=output / "summary.json", reporter=reporter, missing="skip")
    reporter.say(summary_table(scores.summary))
    reporter.say(f"look at {output / 'summary.json'}, and open {run.page} in a browser")
    return scores
