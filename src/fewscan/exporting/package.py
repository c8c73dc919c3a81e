"""A package: what `fewscan predict` needs of a run, and nothing that is of its data set or its machine.

Weights are safetensors, which hold numbers alone. It is no archive of `torch.export`: PyTorch loads those with
`weights_only=False` where an entry says that it is a pickle, and so would run what a stranger has put in.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from fewscan.exporting.base import Source
from fewscan.inference.model import FOLDS, FOLDS_HELD_OUT, WEIGHTS, part_folders, write_card
from fewscan.io.files import atomic_path, make_folder, write_json

USE = """`model.json` says what the network is and how scans become its input; `model.safetensors` holds its weights,
those of folds lie in `folds/0`, `folds/1`, ... Nothing in it is a pickle or TorchScript.

```sh
fewscan predict THIS_FOLDER SCANS -o MASKS
```

Any library for safetensors reads the weights (`safetensors.torch.load_file`, `safetensors.numpy.load_file`); their
names are those of the modules in `fewscan.networks`. Estimates of Dice need the run itself and are left out.
"""


def export(source: Source, folder: Path) -> str:
    """Write `model.json` and `model.safetensors`, for each fold where there are some.

    Args:
        source: Run that is exported.
        folder: Empty folder to write to.

    Returns:
        Text for README.md: how it is used.

    Raises:
        WriteError: A file cannot be written.
    """
    parts = part_folders(source.run.path)
    targets = [folder] if len(parts) == 1 else [folder / FOLDS / str(number) for number in range(len(parts))]
    for part, target in zip(parts, targets, strict=True):
        make_folder(target)
        write_card(target, source.card)
        with atomic_path(target / WEIGHTS) as beside:
            shutil.copyfile(part / WEIGHTS, beside)
    if len(parts) > 1:
        # Names of patients are nobody's business: each fold holds out one that has none.
        write_json(folder / FOLDS_HELD_OUT, [[f"held out by fold {number}"] for number in range(len(parts))])
        write_card(folder, source.card)
    return USE
