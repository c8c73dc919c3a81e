"""fewscan export: a finished run for other programs."""

from __future__ import annotations

from pathlib import Path

import torch

from fewscan.errors import ConfigError
from fewscan.exporting import card as cards
from fewscan.exporting.base import Export, Source
from fewscan.inference.model import load_model
from fewscan.io.elsewhere import refuse_elsewhere
from fewscan.io.files import AnyPath, new_folder, write_text
from fewscan.registry import EXPORTS
from fewscan.run_folder import RunFolder
from fewscan.terminal.console import Reporter


def export(
    run: AnyPath,
    to: str,
    *,
    output: AnyPath,
    dataset: AnyPath | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Write a finished run for other programs, with a model card: README.md.

    Args:
        run: Folder of a finished training run, or any folder with model.safetensors and model.json.
        to: Name of the target: monai-bundle, nnunet, onnx, package, or `package.module:function`.
        output: New or empty folder for the files; it appears complete or not at all.
        dataset: Folder of the data set that the run was trained on; None: the one that the run names.
        reporter: Reporter that shows progress and decisions; None: nothing is shown.

    Returns:
        The folder.

    Raises:
        ConfigError: No target has this name, an extra of fewscan is not installed, or the network cannot be exported.
        DataError: The run is not finished or damaged, or the folder is not empty.
        WriteError: A file cannot be written.

    Examples:
        >>> import fewscan
        >>> folder = fewscan.export("RUN", "package", output="EXPORTED")
        >>> sorted(path.name for path in folder.iterdir())
        ['README.md', 'model.json', 'model.safetensors']
    """
    refuse_elsewhere(run, output, dataset)
    reporter = reporter or Reporter(quiet=True)
    target: Export = EXPORTS.load(to)
    folder, source = Path(output), RunFolder(Path(run))
    networks, card = load_model(source.path, torch.device("cpu"))
    if card.located:
        raise ConfigError(
            f"{source}: it looks where another model points, which no export knows of. `fewscan predict` does both; "
            "export a run that was trained without --around."
        )
    exported = Source(source, networks, card, None if dataset is None else Path(dataset), reporter)
    with new_folder(folder) as beside:
        write_text(beside / "README.md", cards.describe(exported, target(exported, beside)))
    reporter.say(f"{to}: written to {folder}; README.md says how to use it")
    return folder
