"""The whole path as a user walks it, on the phantom and on a few real scans, each in well under a minute."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import fewscan
from fewscan.data.phantom import make_phantom
from fewscan.io.files import read_json
from fewscan.io.scans import read_scan
from support.known import known

LENGTHS = (
    "training.updates=220",
    "methods.action.pretraining.global.updates=10",
    "methods.action.pretraining.local.updates=60",
)


@pytest.mark.slow
def test_action_learns_the_phantom(tmp_path: Path) -> None:
    dataset = make_phantom(tmp_path / "phantom", patients=8, labelled=2, validation=2)
    settings = (*LENGTHS, "plan.size=64", "logging.validate_every=0", "optimiser.learning_rate=0.03")
    run = fewscan.train(dataset, tmp_path / "run", recipe="quick", settings=settings).folder
    held_out = [dataset / "imagesTr" / f"{case}_0000.nii.gz" for case in read_json(run / "splits.json")["val"]]
    fewscan.predict(run, held_out, output=tmp_path / "masks")
    summary = fewscan.evaluate(tmp_path / "masks", dataset / "labelsTr", missing="skip").summary
    assert set(summary["classes"]) == {"RV", "Myo", "LV"}
    assert known(summary["mean"]["dice"]) > 0.6
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    sup = [r["terms"]["sup"] for r in records if "sup" in r.get("terms", {})]
    assert sup[-1] < 0.6 * sup[0]


@pytest.mark.slow
def test_hippocampus_from_one_label(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "Dataset004_Hippocampus"
    names = sorted(p.name.removesuffix(".nii.gz") for p in (source / "labelsTr").glob("*.nii.gz"))[:6]
    root = tmp_path / "few"
    for folder, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        (root / folder).mkdir(parents=True)
        for name in names:
            shutil.copy(source / folder / f"{name}{ending}", root / folder)
    shutil.copy(source / "dataset.json", root)
    (root / "splits.json").write_text(json.dumps({"train": names[:5], "val": names[5:]}))
    pretraining = ("methods.action.pretraining.global.updates=4", "methods.action.pretraining.local.updates=80")
    # The average of so short a training is no good yet; in volumes it shows no foreground at all.
    settings = ("training.updates=144", *pretraining, "methods.action.predict_with=student")
    run = fewscan.train(root, tmp_path / "run", labelled=1, recipe="quick", settings=settings, dims=2).folder
    assert read_json(run / "splits.json")["train_labelled"] == names[:1]
    mask = read_scan(run / "validation" / f"{names[5]}.nii.gz")
    image = read_scan(root / "imagesTr" / f"{names[5]}_0000.nii.gz")
    assert mask.geometry == image.geometry
    assert set(np.unique(mask.array)) <= {0, 1, 2}
    assert (mask.array > 0).any()
    assert read_json(run / "validation" / "summary.json")["mean"]["dice"] > 0.1
