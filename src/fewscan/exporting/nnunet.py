"""A data set in nnU-Net's layout: the labels that the run was given, and pseudo-labels of the scans that had none.

Held-out scans are left out, so that what is trained on it can still be scored on them. Labels that were hidden from the
run stay hidden: these scans have its masks.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fewscan.data.cases import Case, patients_of
from fewscan.data.index import SEMANTIC, read_dataset
from fewscan.data.split import split_of_run
from fewscan.errors import ConfigError, DataError
from fewscan.exporting.base import Source
from fewscan.io.files import atomic_path, make_folder, read_json, write_json
from fewscan.run_folder import PredictionFolder
from fewscan.runs.predicting import Choices, Predicting, Session
from fewscan.runs.prediction import predict_into
from fewscan.runs.provenance import dataset_of

MOST_FOLDS = 5
USE = """Copy it to `nnUNet_raw/Dataset501_NAME`, with a number that is free, and train nnU-Net on it. `labelsTr/` has
the {labelled} labels that the run was trained on and, of the other {pseudo} scans, the run's masks. Which are which is
in `pseudo_labels.json`. Held-out scans are not in it.

`splits_final.json` has folds that are validated on true labels alone; it belongs into nnU-Net's folder of preprocessed
data. Without it nnU-Net's validation counts pseudo-labels as true.
"""


def export(source: Source, folder: Path) -> str:
    """Write imagesTr, labelsTr, dataset.json, pseudo_labels.json and, of two labelled patients or more, folds.

    Args:
        source: Run that is exported.
        folder: Empty folder to write to.

    Returns:
        Text for README.md: how it is used.

    Raises:
        ConfigError: The run tells objects apart, which nnU-Net does not.
        DataError: The run's data set is not to be found or not the run's, its scans are folders, or one cannot be read.
        WriteError: A file cannot be written.
    """
    if source.card.plan.task != SEMANTIC:
        raise ConfigError(
            "nnU-Net's labels are classes, and this run tells objects apart. Export it with --to package."
        )
    root = source.dataset or dataset_of(source.run, "Give its folder with --dataset")
    split = split_of_run(source.run.splits, read_dataset(root))
    _check_files(split.train)
    for name in ("imagesTr", "labelsTr"):
        make_folder(folder / name)
    for case in split.train:
        for path in case.images:
            _copy(path, folder / "imagesTr" / path.name)
        if case.label is not None:
            _copy(case.label, folder / "labelsTr" / case.label.name)
    pseudo = [case for case in split.train if case.label is None]
    _predict(source, pseudo, folder / "labelsTr")
    meta: dict[str, Any] = read_json(root / "dataset.json")
    write_json(folder / "dataset.json", {**meta, "numTraining": len(split.train)})
    write_json(folder / "pseudo_labels.json", [case.name for case in pseudo])
    folds = make_folds(split.labelled, pseudo)
    if folds:
        write_json(folder / "splits_final.json", folds)
    return USE.format(labelled=len(split.labelled), pseudo=len(pseudo))


def make_folds(labelled: Sequence[Case], pseudo: Sequence[Case]) -> list[dict[str, list[str]]]:
    """Hold labelled patients out in turn, in up to 5 folds; no scan of theirs is trained on.

    Args:
        labelled: Cases with a true label.
        pseudo: Cases with a pseudo-label.

    Returns:
        Names of cases by `train` and `val`, as nnU-Net's splits_final.json has them; none of one patient.
    """
    patients = patients_of(labelled)
    count = min(MOST_FOLDS, len(patients))
    if count < 2:
        return []
    held_out = [set(patients[number::count]) for number in range(count)]
    return [
        {
            "train": [case.name for case in (*labelled, *pseudo) if case.patient not in out],
            "val": [case.name for case in labelled if case.patient in out],
        }
        for out in held_out
    ]


def _check_files(cases: Sequence[Case]) -> None:
    folders = [path for case in cases for path in case.images if path.is_dir()]
    if folders:
        raise DataError.of(folders[0], "a series of slices, which nnU-Net does not read", "fewscan convert dicom first")


def _copy(path: Path, target: Path) -> None:
    with atomic_path(target) as beside:
        shutil.copyfile(path, beside)


def _predict(source: Source, cases: Sequence[Case], labels: Path) -> None:
    """Write a mask for each case; beside them are none of the tables that a prediction leaves."""
    with tempfile.TemporaryDirectory(dir=labels.parent) as work:
        choices = Choices(source.run.path, quality=False)
        session = Session(source.networks, source.card, torch.device("cpu"), assessor=None)
        predicting = Predicting(choices, PredictionFolder(Path(work)), ["cpu"], session)
        masks = predict_into(predicting, cases, session, source.reporter)
        for path in masks:
            path.rename(labels / path.name)
