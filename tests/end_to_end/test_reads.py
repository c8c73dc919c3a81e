"""How often a training opens each scan: what is read again and again is what a large data set waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import fewscan
from fewscan.data.index import DatasetIndex, read_dataset
from fewscan.data.phantom import make_phantom
from fewscan.engine.records import Record
from fewscan.io.files import read_json, write_json
from fewscan.io.nifti import Nifti
from fewscan.run_folder import RunFolder
from support.scans import TINY

# Full reads of every file of a kind, and openings of its header alone, until the first update: survey, and cache.
BEFORE_TRAINING = {
    "labelled image": (2, 1),
    "labelled label": (2, 0),
    "unlabelled image": (2, 1),
    "validation image": (2, 1),
    "validation label": (2, 0),
    "test image": (1, 0),
    "test label": (0, 0),
}
# In all a validation label is read once more, for its score; pictures and page take it from the survey.
IN_ALL = {**BEFORE_TRAINING, "validation label": (3, 0)}
# Prediction and page, and up to three pictures: the best, the median and the worst case.
MOST_OF_A_VALIDATION_IMAGE = 7


def counted(method: Callable[[Nifti, Path], Any], counts: Counter[Path]) -> Callable[[Nifti, Path], Any]:
    """A method of a format that counts the files that it is asked for."""

    def count(self: Nifti, path: Path) -> Any:
        counts[path] += 1
        return method(self, path)

    return count


def by_kind(index: DatasetIndex, run: Path) -> dict[str, list[Path]]:
    """The files of each kind."""
    splits = read_json(RunFolder(run).splits)
    roles = {"train_labelled": "labelled", "train_unlabelled": "unlabelled", "val": "validation", "test": "test"}
    files: dict[str, list[Path]] = {}
    for role, kind in roles.items():
        for case in [case for case in index.cases if case.name in splits[role]]:
            files.setdefault(f"{kind} image", []).extend(case.images)
            if case.label is not None:
                files.setdefault(f"{kind} label", []).append(case.label)
    return files


def test_a_training_reads_a_training_scan_twice_and_a_validation_label_three_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_phantom(tmp_path / "phantom", patients=7, labelled=2, validation=2)
    splits = read_json(root / "splits.json")
    held_out = splits["val"]
    write_json(root / "splits.json", {"train": splits["train"], "val": held_out[:2], "test": held_out[2:]})
    full: Counter[Path] = Counter()
    headers: Counter[Path] = Counter()
    begun: list[tuple[Counter[Path], Counter[Path]]] = []
    monkeypatch.setattr(Nifti, "read_frames", counted(Nifti.read_frames, full))
    monkeypatch.setattr(Nifti, "read_geometry", counted(Nifti.read_geometry, headers))

    class Watched(fewscan.Callback):
        """Notes what was read until training begins."""

        def on_start(self, records: Sequence[Record]) -> None:
            assert not records
            begun.append((full.copy(), headers.copy()))

    watched = [Watched()]
    done = fewscan.train(root, tmp_path / "run", recipe="quick", settings=TINY, device="cpu", callbacks=watched)
    run = done.folder
    files = by_kind(read_dataset(root), run)
    assert len(begun) == 1
    found = {kind: {(begun[0][0][path], begun[0][1][path]) for path in paths} for kind, paths in files.items()}
    assert found == {kind: {counts} for kind, counts in BEFORE_TRAINING.items()}
    most = max(full[path] for path in files.pop("validation image"))
    assert most <= MOST_OF_A_VALIDATION_IMAGE
    found = {kind: {(full[path], headers[path]) for path in paths} for kind, paths in files.items()}
    assert found == {kind: {counts} for kind, counts in IN_ALL.items() if kind != "validation image"}

    # The page of the run takes from its survey what was measured of the training scans.
    full.clear()
    headers.clear()
    fewscan.report(run)
    training = [path for kind, paths in files.items() if not kind.startswith("validation") for path in paths]
    assert [(full[path], headers[path]) for path in training] == [(0, 0)] * len(training)
    assert {full[path] for path in files["validation label"]} == {0}
