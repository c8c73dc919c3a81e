"""Predictions that go on, that several processes make, and that find their scans in folders of folders."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewscan
from fewscan.data.cases import Case
from fewscan.data.checked import load_checked
from fewscan.errors import ConfigError, DataError
from fewscan.io.files import read_json
from fewscan.io.scans import write_scan
from fewscan.io.tables import read_table
from fewscan.runs import predicting, prediction
from fewscan.work.leases import Leases
from support.models import save_untrained
from support.scans import geometry, make_dataset

NAMES = [f"scan_{number:02d}" for number in range(16)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("run"))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "SCANS_OF_A_SHARD", 3)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for seed, name in enumerate(NAMES):
        write(tmp_path / "in" / f"{name}_0000.nii.gz", seed)
    return tmp_path / "in"


def write(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_scan(path, np.random.default_rng(seed).normal(100, 9, (4, 20, 24)).astype(np.float32), geometry())
    return path


def predict(run: Path, scans: Path, output: Path, **options: Any) -> fewscan.Predictions:
    return fewscan.predict(run, [scans], output=output, device="cpu", **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[!.]*"))}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.nii.gz")}


def test_shards_change_only_where_scans_are_added() -> None:
    cases = [Case(name, (Path(f"{name}.nii.gz"),), None, name) for name in NAMES]
    whole = [tuple(case.name for case in shard.items) for shard in prediction.shards_of(cases)]
    assert sum(whole, ()) == tuple(NAMES)
    assert len(whole) > 3
    without = [tuple(case.name for case in shard.items) for shard in prediction.shards_of(cases[:6] + cases[7:])]
    assert len(set(whole) - set(without)) <= 2


def test_what_is_finished_is_not_done_again_and_a_scan_that_changed_is(run: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(run, scans, out)
    before, written = contents(out), times(out)
    predict(run, scans, out, go_on=True)
    assert (contents(out), times(out)) == (before, written)
    write(scans / "scan_07_0000.nii.gz", 99)
    write(scans / "scan_99_0000.nii.gz", 100)
    predict(run, scans, out, go_on=True)
    anew = {name for name, changed in times(out).items() if written.get(name) != changed}
    assert {"scan_07.nii.gz", "scan_99.nii.gz"} <= anew
    assert len(anew) < 12
    predict(run, scans, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_mask_that_was_removed_is_made_again(run: Path, scans: Path, tmp_path: Path) -> None:
    predict(run, scans, tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "out/scan_03.nii.gz").unlink()
    predict(run, scans, tmp_path / "out", go_on=True)
    assert contents(tmp_path / "out") == before


def test_without_being_told_to_go_on_it_begins_anew(run: Path, scans: Path, tmp_path: Path) -> None:
    predict(run, scans, tmp_path / "out")
    written = times(tmp_path / "out")
    predict(run, scans, tmp_path / "out")
    assert all(changed > written[name] for name, changed in times(tmp_path / "out").items())


def test_other_choices_and_another_model_are_refused_by_name(run: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "other").mkdir()
    predict(run, scans, out)
    with pytest.raises(
        ConfigError, match=r"other choices: --tta False instead of True, --quality True instead of False"
    ):
        predict(run, scans, out, go_on=True, tta=True, quality=False)
    other = save_untrained(tmp_path / "other", seed=5) if "seed" in save_untrained.__code__.co_varnames else None
    if other is not None:
        with pytest.raises(ConfigError, match=r"choices: the files of the model\."):
            predict(other, scans, out, go_on=True)
    predict(run, scans, out, tta=True, quality=False)
    assert not (out / "quality.csv").exists()


@pytest.mark.parametrize("how", [{"workers": 2}, {"executor": "shared"}, {"executor": "processes", "workers": 1}])
def test_masks_and_tables_are_the_same_bytes_whoever_makes_them(
    run: Path, scans: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    (scans / "scan_05_0000.nii.gz").write_bytes(b"damaged")
    for output, options in ((tmp_path / "alone", {}), (tmp_path / "together", how)):
        with pytest.raises(DataError, match="no mask for 1 of the scans"):
            predict(run, scans, output, save_probabilities=True, tta=True, **options)
    ours, theirs = contents(tmp_path / "alone"), contents(tmp_path / "together")
    assert {name: value for name, value in ours.items() if not name.endswith(".npz")} == {
        name: value for name, value in theirs.items() if not name.endswith(".npz")
    }
    # An archive holds the time at which it was made.
    for name in NAMES[:5]:
        with np.load(tmp_path / "alone" / f"{name}.npz") as a, np.load(tmp_path / "together" / f"{name}.npz") as b:
            assert np.array_equal(a["probabilities"], b["probabilities"])


def command(run: Path, scans: Path, output: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "fewscan", "predict", run, scans, "-o", output, "--device", "cpu", "--tta", *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("options", [[], ["--workers", "2"], ["--executor", "shared"]])
def test_after_a_kill_the_same_command_goes_on(run: Path, tmp_path: Path, options: list[str]) -> None:
    scans, out = tmp_path / "in", tmp_path / "out"
    for number in range(90):
        write(scans / f"scan_{number:03d}_0000.nii.gz", number)
    with command(run, scans, out, *options) as stopped:
        deadline = time.monotonic() + 120
        while len(list((out / ".progress").glob("*.json"))) < 2:
            assert time.monotonic() < deadline
            assert stopped.poll() is None
            time.sleep(0.02)
        stopped.kill()
    done = {record["mask"] for path in (out / ".progress").glob("[!.]*.json") for record in read_json(path)}
    assert 0 < len(done) < 90
    assert not (out / "quality.csv").exists()
    written = times(out)
    with command(run, scans, out, "--continue", *options) as goes_on:
        assert goes_on.wait(240) == 0
    assert {name for name, changed in times(out).items() if changed == written.get(name)} >= done
    rows = [row["case"] for row in read_table(out / "quality.csv")]
    assert rows == [f"scan_{number:03d}" for number in range(90)]


def test_two_machines_share_one_prediction(run: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "in", tmp_path / "out"
    for number in range(60):
        write(scans / f"scan_{number:03d}_0000.nii.gz", number)
    machines = [command(run, scans, out, "--executor", "shared") for _ in range(2)]
    assert [machine.wait(240) for machine in machines] == [0, 0]
    for machine in machines:
        machine.communicate()
    fewscan.predict(run, [scans], output=tmp_path / "alone", device="cpu", tta=True)
    assert contents(out) == contents(tmp_path / "alone")


def test_a_prediction_that_is_shared_lets_no_other_in(run: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Leases(out / ".progress" / "leases") as leases:
        leases.take("anything")
        with pytest.raises(DataError, match=r"a prediction that is shared is at work there \(process \d+ on .*Join it"):
            predict(run, scans, out)
        predict(run, scans, out, executor="shared")


def test_a_scan_that_kills_whoever_reads_it_is_listed_once(
    run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python imports it before anything else, in every worker; it looks for the scan when the model is loaded.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, builtins\n"
        "if os.environ.get('FEWSCAN_DEADLY') and 'fewscan.work.worker' in ' '.join(__import__('sys').orig_argv):\n"
        "    import fewscan.runs.predicting as predicting\n"
        "    load = predicting.load_checked\n"
        "    def deadly(case, plan, examine):\n"
        "        if case.name == os.environ['FEWSCAN_DEADLY']: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return load(case, plan, examine)\n"
        "    predicting.load_checked = deadly\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("FEWSCAN_DEADLY", "scan_05")
    out = tmp_path / "out"
    with pytest.raises(DataError, match="no mask for 1 of the scans"):
        predict(run, scans, out, workers=2)
    (row,) = read_json(out / "failed.json")
    assert row["case"] == "scan_05"
    assert "was killed by SIGKILL" in row["problem"]
    assert len(list(out.glob("*.nii.gz"))) == 15
    # With more memory it may be another one's, and nothing else is done again.
    monkeypatch.delenv("FEWSCAN_DEADLY")
    predict(run, scans, out, go_on=True)
    assert not (out / "failed.json").exists()
    assert len(list(out.glob("*.nii.gz"))) == 16


def test_folders_below_are_looked_through_and_name_their_masks(run: Path, tmp_path: Path) -> None:
    for number, path in enumerate(("top", "site_a/p1/ct", "site_a/p2/ct", "site_b/ct")):
        write(tmp_path / "in" / f"{path}_0000.nii.gz", number)
    masks = predict(run, tmp_path / "in", tmp_path / "out", recursive=True)
    found = sorted(mask.name for mask in masks)
    assert found == ["site_a__p1__ct.nii.gz", "site_a__p2__ct.nii.gz", "site_b__ct.nii.gz", "top.nii.gz"]
    assert [mask.name for mask in predict(run, tmp_path / "in", tmp_path / "flat")] == ["top.nii.gz"]


def test_a_data_set_is_all_of_its_images(run: Path, tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=2, unlabelled=1)
    (root / "imagesTs").mkdir()
    shutil.copy(root / "imagesTr/case_00_0000.nii.gz", root / "imagesTs/other_0000.nii.gz")
    masks = predict(run, root, tmp_path / "out")
    assert sorted(mask.name for mask in masks) == [
        "case_00.nii.gz", "case_01.nii.gz", "case_02.nii.gz", "other.nii.gz",
    ]  # fmt: skip


def test_a_scan_is_read_once(run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = load_checked

    def load(case: Any, *rest: Any) -> Any:
        read.append(case.name)
        return real(case, *rest)

    monkeypatch.setattr(predicting, "load_checked", load)
    predict(run, scans, tmp_path / "out")
    assert read == NAMES
