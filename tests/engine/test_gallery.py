from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from fewscan.engine.callbacks import UpdateInfo
from fewscan.engine.gallery import Gallery
from fewscan.engine.records import Record
from fewscan.engine.statistics import clean_statistics
from fewscan.errors import WriteError
from support.steps import Store, build
from support.trainings import config_of, told, train, update_of
from support.windows import Voxelwise, WindowStore, window_plan


def slices(unlabelled: int = 6) -> Store:
    """The six labelled slices are one case, the six unlabelled ones are two."""
    return Store(unlabelled, n_slices=(6, 2, 4) if unlabelled else (2, 2, 2))


def trained(
    folder: Path, method: str = "action", watched: bool = True, unlabelled: int = 6
) -> tuple[Any, list[Record]]:
    torch.manual_seed(0)
    built, store = build(method), slices(unlabelled)
    watching = [Gallery(folder / "gallery", store)] if watched else []
    return built, train(built, config_of(every=1), told(None, None, *watching), store=store)


@pytest.mark.parametrize("method", ["action", "supervised", "cps"])
def test_watching_changes_nothing(tmp_path: Path, method: str) -> None:
    (tmp_path / "alone").mkdir()
    watched, records = trained(tmp_path, method)
    alone, others = trained(tmp_path / "alone", method, watched=False)
    state = alone.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in watched.state_dict().items())
    assert [r["terms"] for r in records] == [r["terms"] for r in others]


def test_what_is_saved_and_when(tmp_path: Path) -> None:
    built, _ = trained(tmp_path)
    files = sorted(path.name for path in (tmp_path / "gallery").iterdir())
    assert files == ["010.npz", "050.npz", "100.npz"]
    moments = [np.load(tmp_path / "gallery" / name) for name in files]
    # Six updates in all, two a stage.
    assert [(int(m["update"]), str(m["stage"])) for m in moments] == [(1, "global"), (3, "local"), (6, "anatomical")]
    last = moments[-1]
    assert list(last["cases"]) == ["case_01", "case_02"]
    assert list(last["slices"]) == [1, 2]
    assert str(last["network"]) == "teacher"
    # The network of the end is shown as it is exported.
    with clean_statistics([built.teacher], slices()), torch.no_grad():
        probs = built.teacher(slices().images(slices().patches[np.array([7, 10])])).softmax(dim=1)
    assert np.array_equal(last["labels"], probs.argmax(dim=1))
    assert np.abs(last["confidence"] / 255 - probs.amax(dim=1).numpy()).max() <= 0.5 / 255 + 1e-6
    assert last["images"].min() == 0
    assert last["images"].max() == 255


def test_a_second_training_writes_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    trained(tmp_path)
    trained(tmp_path / "again")
    for path in (tmp_path / "gallery").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / "gallery" / path.name).read_bytes()


def test_without_unlabelled_cases_the_labelled_ones_are_shown(tmp_path: Path) -> None:
    trained(tmp_path, "supervised", unlabelled=0)
    moment = np.load(tmp_path / "gallery" / "100.npz")
    assert list(moment["cases"]) == ["case_00", "case_01", "case_02"]
    assert str(moment["network"]) == "student"


def test_a_folder_that_was_removed_does_not_come_back(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "gone" / "gallery", slices())
    method = build("action")
    with pytest.raises(WriteError, match="gallery: cannot be written: No such file or directory"):
        gallery.on_update(update_of(method, method.stages()[-1]))
    assert not (tmp_path / "gone").exists()


def test_of_volumes_whole_patches_from_the_middle_are_saved(tmp_path: Path) -> None:
    canvases = [np.random.default_rng(n).random((9, 12, 11)).astype(np.float32) for n in range(2)]
    store = WindowStore(window_plan((4, 8, 6), (4, 8, 6)), canvases, [np.zeros((9, 12, 11), np.uint8)] * 2)
    method = SimpleNamespace(networks=lambda: {"student": Voxelwise()})
    stage = SimpleNamespace(name="semi")
    info = cast(UpdateInfo, SimpleNamespace(done=5, total=5, completes=[100].count, method=method, stage=stage))
    Gallery(tmp_path / "gallery", store, clean=False).on_update(info)
    moment = np.load(tmp_path / "gallery" / "100.npz")
    middle = [canvas[2:6, 2:10, 2:8] for canvas in canvases]
    assert np.array_equal(moment["labels"], [volume > 0.5 for volume in middle])
    assert moment["images"].shape == moment["confidence"].shape == (2, 4, 8, 6)
    assert np.corrcoef(moment["images"].ravel(), np.ravel(middle))[0, 1] > 0.99
    assert list(moment["slices"]) == [4, 4]
