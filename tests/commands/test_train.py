"""The commands on small data: what they write, what they never read, what they refuse."""

import json
import re
import shutil
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

import nibabel
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import fewscan
from fewscan.commands.train import TrainOptions
from fewscan.data.plans.slices.store import SliceStore
from fewscan.errors import ConfigError, DataError
from fewscan.io.files import read_json
from fewscan.io.scans import write_scan
from support.scans import TINY, disc, geometry, make_dataset
from support.terminals import Notes


def test_the_overloads_take_what_the_function_takes() -> None:
    taken = get_type_hints(fewscan.train)
    by_keyword = [p.name for p in signature(fewscan.train).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert get_type_hints(TrainOptions) == {name: taken[name] for name in by_keyword if name != "dry_run"}


def test_a_run_holds_what_it_promises(run: Path) -> None:
    for name in (
        "config.yaml",
        "plan.json",
        "splits.json",
        "metrics.jsonl",
        "alarms.json",
        "model.safetensors",
        "model.json",
    ):
        assert (run / name).stat().st_size > 0
    summary = read_json(run / "validation" / "summary.json")
    assert {"mean", "classes", "cases"} <= set(summary)
    assert set(summary["cases"]) == {"case_03"}
    for picture in ("progress.png", "validation/best.png", "validation/median.png", "validation/worst.png"):
        assert (run / picture).read_bytes().startswith(b"\x89PNG")
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["training"]["updates"] == 9
    assert config["methods"]["action"]["representation"] == 8
    assert config["methods"]["action"]["pretraining"]["global"] == {"updates": 3, "unlabelled": 8}
    assert read_json(run / "splits.json")["train_unlabelled"] == ["case_04", "case_05"]
    stages = [json.loads(line)["stage"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(stages)) == ["global", "local", "anatomical"]


@pytest.mark.parametrize("method", ["action", "supervised"])
def test_one_labelled_patient_without_validation(tmp_path: Path, method: str) -> None:
    root = make_dataset(tmp_path / "set", labelled=1, unlabelled=2)
    run = fewscan.train(root, tmp_path / "run", method=method, recipe="quick", settings=TINY).folder
    assert (run / "model.safetensors").is_file()
    assert not (run / "validation").exists()


def test_hidden_labels_are_never_read(dataset: Path, tmp_path: Path) -> None:
    root = shutil.copytree(dataset, tmp_path / "set")
    for hidden in ("case_01", "case_02"):
        (root / "labelsTr" / f"{hidden}.nii.gz").write_bytes(b"not to be opened")
    fewscan.train(root, tmp_path / "first", labelled=1, recipe="quick", settings=TINY)
    fewscan.train(root, tmp_path / "listed", labelled_list=["case_00"], recipe="quick", settings=TINY)
    for name in ("first", "listed"):
        assert read_json(tmp_path / name / "splits.json")["train_labelled"] == ["case_00"]
    with pytest.raises(DataError, match=r"case_01\.nii\.gz"):
        fewscan.train(root, tmp_path / "all", recipe="quick", settings=TINY)


def test_seed_decides_the_weights(dataset: Path, tmp_path: Path) -> None:
    weights = {}
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        before = torch.random.get_rng_state()
        run = fewscan.train(dataset, tmp_path / name, recipe="quick", settings=TINY, seed=seed).folder
        assert torch.equal(before, torch.random.get_rng_state())
        weights[name] = (run / "model.safetensors").read_bytes()
    assert weights["a"] == weights["b"]
    assert weights["a"] != weights["c"]


def test_both_networks_are_exported_with_statistics_of_clean_slices_and_the_weights_of_training(
    dataset: Path, run: Path, tmp_path: Path
) -> None:
    raw = fewscan.train(dataset, tmp_path / "raw", recipe="quick", settings=(*TINY, "export.clean_statistics=false"))
    for file in ("model.safetensors", "second.safetensors"):
        clean, trained = (load_file(folder / file) for folder in (run, raw.folder))
        other = {name for name, value in clean.items() if not torch.equal(value, trained[name])}
        assert other
        assert other == {name for name in clean if name.endswith(("running_mean", "running_var", "batches_tracked"))}
        # All training slices are few enough for one or two batches.
        store = SliceStore(run / "cache" / "train", torch.device("cpu"))
        images = store.images(store.patches[:])
        first = torch.nn.functional.conv2d(
            images, clean["encoder.0.0.weight"], clean["encoder.0.0.bias"], padding=1
        ).mean((0, 2, 3))
        torch.testing.assert_close(clean["encoder.0.1.running_mean"], first, rtol=1e-3, atol=1e-3)


def test_a_shared_cache_is_built_once(dataset: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        fewscan.train(dataset, tmp_path / name, recipe="quick", settings=TINY, cache=tmp_path / "cache")
        assert not (tmp_path / name / "cache").exists()
    written = {(f.name, f.stat().st_mtime_ns) for f in (tmp_path / "cache" / "train").iterdir()}
    fewscan.train(dataset, tmp_path / "c", recipe="quick", settings=TINY, cache=tmp_path / "cache")
    assert written == {(f.name, f.stat().st_mtime_ns) for f in (tmp_path / "cache" / "train").iterdir()}


def test_nothing_is_written_over(dataset: Path, run: Path, tmp_path: Path) -> None:
    before = {f: f.stat().st_mtime_ns for f in run.iterdir()}
    with pytest.raises(DataError, match=r"exists and is not empty, the run there is finished\. Choose another folder"):
        fewscan.train(dataset, run, recipe="quick", settings=TINY)
    assert before == {f: f.stat().st_mtime_ns for f in run.iterdir()}
    with pytest.raises(DataError, match="exists and is not empty"):
        fewscan.demo(run)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "actoin"}, "no method named 'actoin'. Did you mean action"),
        ({"recipe": "slow"}, "no recipe named 'slow'"),
        ({"labelled": 9}, "--labelled 9: must be 1 to 3"),
        ({"labelled_list": ["case_0"]}, "not a labelled patient"),
        ({"device": "abacus"}, "--device abacus: not to be had here"),
        ({"settings": ("optimiser.speed=3",)}, r"optimiser\.speed: Extra inputs"),
        ({"settings": ("methods.action.queries=0",)}, r"methods\.action\.queries"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    dataset: Path, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        fewscan.train(dataset, tmp_path / "run", **{"recipe": "quick", **arguments})
    assert not (tmp_path / "run").exists()


BAD: dict[str, tuple[np.ndarray | bytes, str]] = {
    "NaN": (np.full((4, 20, 24), np.nan, np.float32), "NaN or infinite in 1920 voxels"),
    "complex": (np.zeros((4, 20, 24), np.complex64), "cannot be read|holds values of type complex64"),
    "nonsense": (b"nonsense", "cannot be read as a scan"),
    "empty": (b"", "the file is empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images_get_the_message_of_check_from_train_and_predict(
    dataset: Path, run: Path, tmp_path: Path, name: str
) -> None:
    root = shutil.copytree(dataset, tmp_path / "set")
    bad = root / "imagesTr" / "case_00_0000.nii.gz"
    content, message = BAD[name]
    if isinstance(content, bytes):
        bad.write_bytes(content)
    else:
        nibabel.save(nibabel.Nifti1Image(content.transpose(2, 1, 0), np.eye(4)), bad)
    found = [str(fault) for fault in fewscan.check(root) if fault.fatal and fault.file == str(bad)]
    assert any(re.search(message, text) for text in found)
    with pytest.raises(DataError, match=re.escape(found[0])):
        fewscan.train(root, tmp_path / "run", recipe="quick", settings=TINY)
    with pytest.raises(DataError, match=re.escape(found[0])):
        fewscan.predict(run, [root / "imagesTr"], output=tmp_path / "out")
    assert not (tmp_path / "run").exists()
    masks = {path.name for path in (tmp_path / "out").glob("[!.]*")}
    beside = {"failed.json", "itksnap_labels.txt", "quality.csv", "volumes.csv"}
    assert masks == {*beside, *(f"case_{i:02d}.nii.gz" for i in range(1, 6))}
    assert {row["case"] for row in read_json(tmp_path / "out" / "failed.json")} == {"case_00"}


def test_bad_labels_and_missing_channels_get_the_message_of_check_from_train(dataset: Path, tmp_path: Path) -> None:
    root = shutil.copytree(dataset, tmp_path / "set")
    write_scan(root / "labelsTr" / "case_00.nii.gz", disc((4, 20, 24), value=7), geometry(spacing=(9, 1.5, 1.2)))
    with pytest.raises(DataError) as error:
        fewscan.train(root, tmp_path / "run", recipe="quick", settings=TINY)
    assert str(error.value).splitlines() == [str(fault) for fault in fewscan.check(root)]
    assert len(str(error.value).splitlines()) == 2
    (root / "imagesTr" / "case_00_0000.nii.gz").unlink()
    (root / "imagesTr" / "case_01_0000.nii.gz").rename(root / "imagesTr" / "case_01_0003.nii.gz")
    with pytest.raises(DataError) as error:
        fewscan.train(root, tmp_path / "run", recipe="quick", settings=TINY)
    for fault in fewscan.check(root):
        assert fault.problem in str(error.value)


def test_scans_that_no_update_can_draw_are_neither_read_nor_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewscan.data.pool.FEWEST_SCANS", 1)
    root, heard = make_dataset(tmp_path / "set", labelled=2, unlabelled=6), Notes()
    settings = (*TINY, "training.updates=1", "training.unlabelled=2")
    options: dict[str, Any] = {"method": "fixmatch", "recipe": "quick", "settings": settings}
    run = fewscan.train(root, tmp_path / "run", reporter=heard, **options).folder
    assert any("2 of 6 unlabelled scans can be drawn by 1 update of 2" in line for line in heard.lines)
    splits = read_json(run / "splits.json")
    left_out, kept = splits["left_out"], splits["train_unlabelled"]
    assert (len(left_out), len(kept)) == (4, 2)
    store = SliceStore(run / "cache" / "train", torch.device("cpu"))
    assert {case.name for case in store.cases} == {*splits["train_labelled"], *kept}
    # What is left out may be damaged: nobody opens it.
    next(root.rglob(f"{left_out[0]}*")).write_bytes(b"not to be opened")
    again = fewscan.train(root, tmp_path / "again", **options).folder
    assert read_json(again / "splits.json") == splits
    with pytest.raises(DataError, match=left_out[0]):
        fewscan.train(root, tmp_path / "all", **options | {"settings": (*settings, "training.pool=all")})
