"""How often a training opens each scan: what is read again and again is what a large data set waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import fewscan
from fewscan.data.index import DatasetIndex, read_dataset
from fewscan.data.phantom import make_phantom
from fewscan.engine.records import Record
from fewscan.io.files import read_json, write_json
from fewscan.io.formats import register_format
from fewscan.io.geometry import Geometry, Scan
from fewscan.io.nifti import Nifti
from fewscan.io.scans import read_scan, write_scan
from fewscan.registry import FORMATS
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
# One validation case is tried before training, to know how long it takes: prepared, scored, put on the page, each once
# before up to three times that count.
MOST_TRIED = {"validation image": (2 + 8, 1), "validation label": (2 + 4, 0)}
# Beside survey and cache: prediction, once more where the whole scan is looked at; as the best, the median or the worst
# case; for the page.
MOST_OF_A_VALIDATION_IMAGE = 6
FULL: Counter[Path] = Counter()
HEADERS: Counter[Path] = Counter()


class Counted(Nifti):
    """NIfTI that counts how often it is asked for every file."""

    endings = (".counted",)

    def read_geometry(self, path: Path) -> Geometry:
        HEADERS[path] += 1
        return super().read_geometry(path)

    def read_frames(self, path: Path) -> list[Scan]:
        FULL[path] += 1
        return super().read_frames(path)


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[Path]:
    """A data set of scans in the format that counts."""
    root = make_phantom(tmp_path / "phantom", patients=7, labelled=2, validation=2)
    splits = read_json(root / "splits.json")
    held_out = splits["val"]
    write_json(root / "splits.json", {"train": splits["train"], "val": held_out[:2], "test": held_out[2:]})
    register_format(Counted)
    for path in root.rglob("*.nii.gz"):
        scan = read_scan(path)
        write_scan(path.with_name(path.name.replace(".nii.gz", ".counted")), scan.array, scan.geometry)
        path.unlink()
    write_json(root / "dataset.json", {**read_json(root / "dataset.json"), "file_ending": ".counted"})
    yield root
    FORMATS.unregister(".counted")
    FULL.clear()
    HEADERS.clear()


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
    dataset: Path, tmp_path: Path
) -> None:
    begun: list[tuple[Counter[Path], Counter[Path]]] = []

    class Watched(fewscan.Callback):
        """Notes what was read until training begins."""

        def on_start(self, records: Sequence[Record]) -> None:
            assert not records
            begun.append((FULL.copy(), HEADERS.copy()))

    watched = [Watched()]
    done = fewscan.train(dataset, tmp_path / "run", recipe="quick", settings=TINY, device="cpu", callbacks=watched)
    run = done.folder
    files = by_kind(read_dataset(dataset), run)
    ((full, headers),) = begun
    tried = {}
    for kind, most_of in MOST_TRIED.items():
        path = max(files[kind], key=full.__getitem__)
        tried[kind] = path
        files[kind].remove(path)
        assert BEFORE_TRAINING[kind] < (full[path], headers[path]) <= most_of
    found = {kind: {(full[path], headers[path]) for path in paths} for kind, paths in files.items()}
    assert found == {kind: {counts} for kind, counts in BEFORE_TRAINING.items()}
    assert max(FULL[path] for path in files.pop("validation image")) <= MOST_OF_A_VALIDATION_IMAGE
    found = {kind: {(FULL[path], HEADERS[path]) for path in paths} for kind, paths in files.items()}
    assert found == {kind: {counts} for kind, counts in IN_ALL.items() if kind != "validation image"}

    # The page of the run takes from its survey what was measured of the training scans.
    FULL.clear()
    HEADERS.clear()
    fewscan.report(run)
    training = [path for kind, paths in files.items() if not kind.startswith("validation") for path in paths]
    assert [(FULL[path], HEADERS[path]) for path in training] == [(0, 0)] * len(training)
    assert {FULL[path] for path in (*files["validation label"], tried["validation label"])} == {0}
