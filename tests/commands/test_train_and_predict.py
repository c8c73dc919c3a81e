"""The commands on small data: what they write, what they never read, what they refuse."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import fewscan
from fewscan.data.cases import collect_cases
from fewscan.errors import ConfigError, DataError
from fewscan.io.endings import scan_ending
from fewscan.io.files import read_json, write_json
from fewscan.io.scans import read_scan, write_scan
from support.odd_scans import ODD
from support.scans import TINY, disc, geometry, make_dataset, make_held_out


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_held_out(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    return fewscan.train(dataset, tmp_path_factory.mktemp("runs") / "run", recipe="quick", settings=TINY).folder


def test_a_run_holds_what_it_promises(run):
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
    assert config["stages"]["global"]["updates"] == 3
    assert config["methods"]["action"]["representation"] == 8
    assert read_json(run / "splits.json")["train_unlabelled"] == ["case_04", "case_05"]
    stages = [json.loads(line)["stage"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(stages)) == ["global", "local", "anatomical"]


@pytest.mark.parametrize("method", ["action", "supervised"])
def test_one_labelled_patient_without_validation(tmp_path, method):
    root = make_dataset(tmp_path / "set", labelled=1, unlabelled=2)
    run = fewscan.train(root, tmp_path / "run", method=method, recipe="quick", settings=TINY).folder
    assert (run / "model.safetensors").is_file()
    assert not (run / "validation").exists()


def test_hidden_labels_are_never_read(dataset, tmp_path):
    root = shutil.copytree(dataset, tmp_path / "set")
    for hidden in ("case_01", "case_02"):
        (root / "labelsTr" / f"{hidden}.nii.gz").write_bytes(b"not to be opened")
    fewscan.train(root, tmp_path / "first", labelled=1, recipe="quick", settings=TINY)
    fewscan.train(root, tmp_path / "listed", labelled_list=["case_00"], recipe="quick", settings=TINY)
    for name in ("first", "listed"):
        assert read_json(tmp_path / name / "splits.json")["train_labelled"] == ["case_00"]
    with pytest.raises(DataError, match=r"case_01\.nii\.gz"):
        fewscan.train(root, tmp_path / "all", recipe="quick", settings=TINY)


def test_seed_decides_the_weights(dataset, tmp_path):
    weights = {}
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        before = torch.random.get_rng_state()
        run = fewscan.train(dataset, tmp_path / name, recipe="quick", settings=TINY, seed=seed).folder
        assert torch.equal(before, torch.random.get_rng_state())
        weights[name] = (run / "model.safetensors").read_bytes()
    assert weights["a"] == weights["b"]
    assert weights["a"] != weights["c"]


def test_both_networks_are_exported_with_statistics_of_clean_slices_and_the_weights_of_training(dataset, run, tmp_path):
    raw = fewscan.train(dataset, tmp_path / "raw", recipe="quick", settings=(*TINY, "export.clean_statistics=false"))
    for file in ("model.safetensors", "second.safetensors"):
        clean, trained = (load_file(folder / file) for folder in (run, raw.folder))
        other = {name for name, value in clean.items() if not torch.equal(value, trained[name])}
        assert other
        assert other == {name for name in clean if name.endswith(("running_mean", "running_var", "batches_tracked"))}
        # All training slices are few enough for one or two batches.
        images = torch.from_numpy(np.load(run / "cache" / "train" / "images.npy")).float()
        first = torch.nn.functional.conv2d(
            images, clean["encoder.0.0.weight"], clean["encoder.0.0.bias"], padding=1
        ).mean((0, 2, 3))
        torch.testing.assert_close(clean["encoder.0.1.running_mean"], first, rtol=1e-3, atol=1e-3)


def test_a_shared_cache_is_built_once(dataset, tmp_path):
    for name in ("a", "b"):
        fewscan.train(dataset, tmp_path / name, recipe="quick", settings=TINY, cache=tmp_path / "cache")
        assert not (tmp_path / name / "cache").exists()
    written = {(f.name, f.stat().st_mtime_ns) for f in (tmp_path / "cache" / "train").iterdir()}
    fewscan.train(dataset, tmp_path / "c", recipe="quick", settings=TINY, cache=tmp_path / "cache")
    assert written == {(f.name, f.stat().st_mtime_ns) for f in (tmp_path / "cache" / "train").iterdir()}


def test_nothing_is_written_over(dataset, run, tmp_path):
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
def test_wrong_arguments_are_refused_before_anything_is_written(dataset, tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        fewscan.train(dataset, tmp_path / "run", **{"recipe": "quick", **arguments})
    assert not (tmp_path / "run").exists()


BAD = {
    "NaN": (np.full((4, 20, 24), np.nan, np.float32), "1920 voxels are NaN or infinite"),
    "complex": (np.zeros((4, 20, 24), np.complex64), "cannot be read|holds values of type complex64"),
    "nonsense": (b"nonsense", "cannot be read as a scan"),
    "empty": (b"", "the file is empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images_get_the_message_of_check_from_train_and_predict(dataset, run, tmp_path, name):
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
    masks = {path.name for path in (tmp_path / "out").iterdir()}
    assert masks == {"failed.json", "quality.csv", "volumes.csv", *(f"case_{i:02d}.nii.gz" for i in range(1, 6))}
    assert {row["case"] for row in read_json(tmp_path / "out" / "failed.json")} == {"case_00"}


def test_bad_labels_and_missing_channels_get_the_message_of_check_from_train(dataset, tmp_path):
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


def test_predictions_keep_names_and_grid(dataset, run, tmp_path):
    where = geometry((3, 31, 17), (4.0, 2.0, 1.0), (3.0, 2.0, 1.0))
    lone = tmp_path / "a scan ü.nrrd"
    write_scan(lone, np.random.default_rng(0).normal(size=where.shape).astype(np.float32), where)
    out = tmp_path / "out"
    written = fewscan.predict(run, [dataset / "imagesTr", lone], output=out, tta=True, save_probabilities=True)
    assert {p.name for p in written} == {*(f"case_{i:02d}.nii.gz" for i in range(6)), "a scan ü.nrrd"}
    mask = read_scan(out / lone.name)
    assert mask.array.dtype == np.uint8
    assert mask.geometry == read_scan(lone).geometry
    probabilities = np.load(out / "a scan ü.npz")["probabilities"]
    assert probabilities.shape == (2, *where.shape)
    # In half precision both may be as likely.
    differ = probabilities[0] != probabilities[1]
    assert np.array_equal(probabilities.argmax(0)[differ], mask.array[differ])
    assert differ.any()


def test_inputs_that_make_no_cases_are_refused_together(tmp_path):
    with pytest.raises(DataError, match="there is no such file or folder"):
        collect_cases([tmp_path / "missing"], 1)
    with pytest.raises(DataError, match="no scans there"):
        collect_cases([tmp_path], 1)
    for name in ("a_0000.nii.gz", "b_0001.nii.gz", "c.nii.gz"):
        (tmp_path / name).touch()
    with pytest.raises(DataError) as error:
        collect_cases([tmp_path], 2)
    assert len(str(error.value).splitlines()) == 3
    (tmp_path / "c_0000.nii.gz").touch()
    with pytest.raises(DataError, match=r"the name of .* again"):
        collect_cases([tmp_path], 1)


@pytest.mark.parametrize(
    ("names", "channels", "advice"),
    [
        (("case_0001", "case_0002"), 1, "case_0001_0000 and case_0002_0000"),
        (("case_0000", "case_0001"), 1, "case_0001_0000;"),
        (("case_0000", "case_0001", "case_0002"), 2, "case_0002_0000 to case_0002_0001;"),
        (("patient_2019",), 1, "patient_2019_0000;"),
    ],
)
def test_numbers_that_are_no_channels_may_be_the_scans_own(tmp_path, names, channels, advice):
    for name in names:
        (tmp_path / f"{name}.nii.gz").touch()
    with pytest.raises(DataError, match=r"Where the number is the scan's own, add the channel's: ") as error:
        collect_cases([tmp_path], channels)
    assert advice in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.fixture(scope="module")
def mixed(dataset, tmp_path_factory):
    """Every odd scan that is refused, and two sound ones."""
    folder = tmp_path_factory.mktemp("mixed")
    for odd in ODD:
        if isinstance(odd.expected, tuple) and odd.name != "missing.nii":
            name = Path(odd.name)
            odd.make(folder / f"{name.name.replace('.', '-', 1)}{''.join(name.suffixes)}")
    for name in ("case_00_0000.nii.gz", "case_05_0000.nii.gz"):
        shutil.copy(dataset / "imagesTr" / name, folder)
    return folder


def test_bad_scans_are_left_out_and_the_rest_is_finished(run, mixed, tmp_path):
    out = tmp_path / "out"
    done = command("predict", run, mixed, "-o", out)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    scans = {path.name for path in mixed.iterdir() if scan_ending(path)}
    bad = scans - {"case_00_0000.nii.gz", "case_05_0000.nii.gz"}
    assert f"error: no mask for {len(bad)} of the scans, see {out / 'failed.json'}:" in done.stderr
    assert all(name in done.stderr for name in bad)
    tables = {"failed.json", "quality.csv", "volumes.csv"}
    assert {path.name for path in out.iterdir()} == {"case_00.nii.gz", "case_05.nii.gz", *tables}
    rows = read_json(out / "failed.json")
    assert {Path(row["file"]).name for row in rows} == bad
    assert all(row["problem"] and row["remedy"] for row in rows)


def test_a_mask_of_an_earlier_call_does_not_stay_for_a_scan_that_is_refused(dataset, run, tmp_path):
    scans, out = shutil.copytree(dataset / "imagesTr", tmp_path / "scans"), tmp_path / "out"
    fewscan.predict(run, [scans], output=out, save_probabilities=True)
    (scans / "case_01_0000.nii.gz").write_bytes(b"nonsense")
    before = (out / "case_02.nii.gz").read_bytes()
    with pytest.raises(DataError, match="no mask for 1 of the scans"):
        fewscan.predict(run, [scans], output=out)
    assert not [path for path in out.iterdir() if path.name.startswith("case_01")]
    assert (out / "case_02.nii.gz").read_bytes() == before
    (row,) = read_json(out / "failed.json")
    assert row["removed"] == ["case_01.nii.gz", "case_01.npz"]


def test_a_mask_is_never_written_over_a_scan(dataset, run, tmp_path):
    scan = tmp_path / "scan.nii.gz"
    shutil.copy(dataset / "imagesTr" / "case_03_0000.nii.gz", scan)
    before = scan.read_bytes()
    with pytest.raises(
        DataError, match=r"scan\.nii\.gz: is a scan, its mask would be written over it\. Choose another"
    ):
        fewscan.predict(run, [scan], output=tmp_path)
    assert scan.read_bytes() == before


def test_a_list_of_failures_goes_when_nothing_fails(dataset, run, tmp_path):
    write_json(tmp_path / "failed.json", [])
    fewscan.predict(run, [dataset / "imagesTr" / "case_03_0000.nii.gz"], output=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"case_03.nii.gz", "quality.csv", "volumes.csv"}


def test_evaluate_of_the_predictions(dataset, run, tmp_path):
    fewscan.predict(run, [dataset / "imagesTr" / "case_03_0000.nii.gz"], output=tmp_path / "out")
    summary = fewscan.evaluate(
        tmp_path / "out", dataset / "labelsTr", output=tmp_path / "summary.json", missing="skip"
    ).summary
    assert read_json(tmp_path / "summary.json") == summary
    assert (tmp_path / "summary.csv").read_text().startswith("case,class,dice")
    validated = read_json(run / "validation" / "summary.json")
    assert summary["cases"]["case_03"]["disc"] == validated["cases"]["case_03"]["disc"]


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "fewscan", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_exit_codes(dataset, tmp_path):
    assert command("check", dataset).returncode == 0
    root = shutil.copytree(dataset, tmp_path / "set")
    (root / "labelsTr" / "case_00.nii.gz").write_bytes(b"")
    checked = command("check", root)
    assert checked.returncode == 1
    assert "case_00.nii.gz: the file is empty. Copy it again from its source." in checked.stdout
    trained = command("train", root, "-o", tmp_path / "run")
    assert trained.returncode == 2
    assert "error: " in trained.stderr
    assert "Traceback" not in trained.stderr
    assert command("convert", "msd", tmp_path / "none", tmp_path / "new").returncode == 2


@pytest.mark.parametrize("name", ["train", "benchmark"])
def test_help_imports_nothing_heavy(name):
    code = f"import sys; sys.argv = ['fewscan', '{name}', '--help']\nfrom fewscan.cli import main\ntry: main()\n"
    code += "except SystemExit: print(sorted({'torch', 'numpy', 'SimpleITK', 'scipy'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"
    assert "--labelled" in shown
