"""Packages, bundles and data sets that are made of a run do where they go what the run does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fewscan
from fewscan.data.cases import Case
from fewscan.data.plans.base import Plan
from fewscan.errors import ConfigError, DataError
from fewscan.exporting import monai_bundle
from fewscan.exporting.base import Source
from fewscan.exporting.nnunet import make_folds
from fewscan.inference.model import load_model
from fewscan.io.files import read_json, write_json
from fewscan.io.scans import read_mask, write_scan
from fewscan.networks.blocks import NormalisationName
from fewscan.run_folder import RunFolder
from fewscan.terminal.console import Reporter
from support.scans import TINY, disc, geometry, make_held_out, slice_plan
from support.untrained_runs import SLICES, WINDOWS, save_run

PACKAGES = ("required_packages_version", "optional_packages_version")
REQUIRED = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", *PACKAGES)
TENSOR = ("type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    generator = np.random.default_rng(3)
    for number, where in enumerate((geometry((4, 20, 24)), geometry((3, 60, 64)))):
        image = generator.normal(size=where.shape) + 2.0 * disc(where.shape, 6)
        write_scan(folder / f"case_{number}_0000.nii.gz", image.astype(np.float32), where)
    return folder


def masks_of(folder: Path, scans: Path, output: Path) -> dict[str, np.ndarray]:
    found = fewscan.predict(folder, [scans], output=output, device="cpu", quality=False)
    return {path.name: read_mask(path).array for path in found}


@pytest.mark.parametrize("folds", [1, 2])
def test_a_package_predicts_as_its_run_and_holds_numbers_alone(folds: int, scans: Path, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", WINDOWS, folds, "instance")
    package = fewscan.export(run, "package", output=tmp_path / "package")
    files = sorted(path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file())
    weights = ["model.safetensors"] if folds == 1 else [f"folds/{n}/model.safetensors" for n in range(folds)]
    cards = ["model.json", *([] if folds == 1 else [f"folds/{n}/model.json" for n in range(folds)])]
    assert files == sorted(["README.md", *weights, *cards, *(["folds.json"] if folds > 1 else [])])
    assert not any("patient_" in path.read_text("utf-8") for path in package.rglob("*.json"))
    ours, theirs = masks_of(run, scans, tmp_path / "a"), masks_of(package, scans, tmp_path / "b")
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert any(len(np.unique(mask)) > 1 for mask in ours.values())


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("plan", "folds", "normalisation"),
    [(SLICES, 3, "batch"), (WINDOWS, 1, "instance")],
    ids=["slices", "windows-of-volumes"],
)
def test_a_bundle_runs_in_monai_to_the_masks_of_the_run(
    plan: Plan, folds: int, normalisation: NormalisationName, scans: Path, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", plan, folds, normalisation)
    bundle = fewscan.export(run, "monai-bundle", output=tmp_path / "bundle")
    options = ["--config_file", "configs/inference.json", "--dataset_dir", str(scans), "--output_dir", "found"]
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", *options], cwd=bundle, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for name, mask in masks_of(run, scans, tmp_path / "ours").items():
        assert np.array_equal(read_mask(bundle / "found" / name).array, mask)
        assert len(np.unique(mask)) > 1


@pytest.mark.usefixtures("no_shape_hook")
def test_the_metadata_of_a_bundle_is_what_the_specification_asks_for(tmp_path: Path) -> None:

    run = save_run(tmp_path / "run", SLICES)
    networks, card = load_model(run, torch.device("cpu"))
    told = monai_bundle.describe(Source(RunFolder(run), networks, card, None, Reporter(quiet=True)))
    tensor = {"type": "object", "required": list(TENSOR)}
    tensors = {"type": "object", "minProperties": 1, "additionalProperties": tensor}
    data = {"type": "object", "required": ["inputs", "outputs"], "properties": {"inputs": tensors, "outputs": tensors}}
    wanted = [*REQUIRED, "task", "description", "authors", "copyright", "network_data_format"]
    schema = {"type": "object", "required": wanted, "properties": {"network_data_format": data}}
    write_json(tmp_path / "metadata.json", told)
    write_json(tmp_path / "schema.json", schema)
    verify = ["verify_metadata", "--meta_file", "metadata.json", "--filepath", "schema.json"]
    done = subprocess.run([sys.executable, "-m", "monai.bundle", *verify], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "metadata is verified with no error" in done.stdout + done.stderr


def test_a_bundle_without_a_script_is_refused(tmp_path: Path) -> None:
    networks, card = load_model(save_run(tmp_path / "run", SLICES), torch.device("cpu"))
    objects = card.model_copy(update={"plan": slice_plan(task="instances")})
    source = Source(RunFolder(tmp_path / "run"), networks, objects, None, Reporter(quiet=True))
    with pytest.raises(ConfigError, match=r"no script: it knows no task 'instances'\. Export it with --to onnx"):
        monai_bundle.export(source, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set with a case that is held out and one whose label is hidden, and a run on it."""
    folder = tmp_path_factory.mktemp("trained")
    root = make_held_out(folder / "set")
    options: dict[str, Any] = {"method": "supervised", "recipe": "quick", "settings": TINY, "device": "cpu"}
    return root, fewscan.train(root, folder / "run", labelled=2, **options).folder


def test_pseudo_labels_stand_beside_the_labels_that_the_run_was_given(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    root, run = trained
    found = fewscan.export(run, "nnunet", output=tmp_path / "Dataset501_Discs")
    cases = ["case_00", "case_01", "case_02", "case_04", "case_05"]
    assert sorted(path.name for path in (found / "imagesTr").iterdir()) == [f"{name}_0000.nii.gz" for name in cases]
    assert sorted(path.name for path in (found / "labelsTr").iterdir()) == [f"{name}.nii.gz" for name in cases]
    assert read_json(found / "pseudo_labels.json") == cases[2:]
    for name in cases[:2]:
        assert (found / "labelsTr" / f"{name}.nii.gz").read_bytes() == (
            root / "labelsTr" / f"{name}.nii.gz"
        ).read_bytes()
    scans = [root / "imagesTr" / f"{name}_0000.nii.gz" for name in cases[2:]]
    for path in fewscan.predict(run, scans, output=tmp_path / "masks", device="cpu", quality=False):
        assert np.array_equal(read_mask(found / "labelsTr" / path.name).array, read_mask(path).array)
    described = read_json(found / "dataset.json")
    assert (described["numTraining"], described["file_ending"]) == (5, ".nii.gz")
    assert fewscan.check(found) == [] or not any(fault.fatal for fault in fewscan.check(found))
    assert read_json(found / "splits_final.json") == [
        {"train": ["case_01", *cases[2:]], "val": ["case_00"]},
        {"train": ["case_00", *cases[2:]], "val": ["case_01"]},
    ]


def test_a_model_card_has_the_scores_and_names_no_case(trained: tuple[Path, Path], tmp_path: Path) -> None:
    _, run = trained
    card = (fewscan.export(run, "package", output=tmp_path / "package") / "README.md").read_text("utf-8")
    dice = json.loads((run / "validation" / "summary.json").read_text("utf-8"))["mean"]["dice"]
    assert f"| mean | {dice:.3f} |" in card
    assert "Scans that were trained on with their label: 2" in card
    assert "Scans that were trained on without one: 3" in card
    assert "case_0" not in card


def test_a_data_set_that_was_moved_is_asked_for(trained: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Give its folder with --dataset"):
        fewscan.export(save_run(tmp_path / "run", SLICES), "nnunet", output=tmp_path / "set")


def test_no_scan_of_a_patient_is_trained_on_where_the_patient_is_held_out() -> None:
    def case(patient: int, number: int) -> Case:
        return Case(f"{patient}_{number}", (Path("a"),), None, str(patient))

    labelled = [case(patient, 0) for patient in range(7)]
    pseudo = [case(patient, 1) for patient in (0, 3, 9)]
    folds = make_folds(labelled, pseudo)
    assert len(folds) == 5
    assert sorted(name for fold in folds for name in fold["val"]) == [each.name for each in labelled]
    for fold in folds:
        assert not {name[0] for name in fold["train"]} & {name[0] for name in fold["val"]}
        assert "9_1" in fold["train"]
    assert make_folds(labelled[:1], pseudo) == []
