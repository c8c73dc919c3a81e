"""Scans, masks and runs that lie in object stores: the same bytes as in folders."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewscan
from fewscan.errors import ConfigError, DataError, WriteError
from fewscan.io import elsewhere
from fewscan.io.scans import write_scan
from fewscan.runs import prediction
from fewscan.work import staged
from support import stores
from support.commands import command
from support.models import save_untrained
from support.scans import TINY, geometry, make_dataset

NAMES = [f"scan_{number:02d}" for number in range(10)]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with stores.s3_server() as url:
        yield url


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest) -> str:
    """The URL of a folder that is empty."""
    if request.param == "memory":
        return stores.memory()
    return f"{request.getfixturevalue('bucket')}/{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("run"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Small shards, no waiting, and a folder for scratch that has to be empty at the end."""
    monkeypatch.setattr(prediction, "SCANS_OF_A_SHARD", 3)
    monkeypatch.setattr(elsewhere, "SECONDS_TO_WAIT", (0.0,))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield scratch
    assert not list(scratch.glob("fewscan-*"))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for seed, name in enumerate(NAMES):
        values = np.random.default_rng(seed).normal(100, 9, (4, 20, 24)).astype(np.float32)
        write_scan(tmp_path / "in" / f"{name}_0000.nii.gz", values, geometry())
    return tmp_path / "in"


def local(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[!.]*"))}


def predict(run: str | Path, scans: str | Path, output: str | Path, **options: Any) -> fewscan.Predictions:
    return fewscan.predict(run, [scans], output=output, device="cpu", **options)


def test_masks_and_tables_are_those_of_folders_byte_for_byte(
    run: Path, scans: Path, store: str, tmp_path: Path
) -> None:
    predict(run, scans, tmp_path / "out", tta=True)
    there, images = stores.put(run, f"{store}/run"), stores.put(scans, f"{store}/in")
    masks = predict(there, images, f"{store}/out", tta=True)
    assert stores.contents(f"{store}/out") == local(tmp_path / "out")
    assert [str(mask) for mask in masks] == [f"{store}/out/{name}.nii.gz" for name in NAMES]
    assert str(masks.folder) == f"{store}/out"
    # Scans from there with masks here, and the other way round.
    predict(run, images, tmp_path / "here", tta=True)
    predict(run, scans, f"{store}/there", tta=True)
    assert local(tmp_path / "here") == stores.contents(f"{store}/there") == local(tmp_path / "out")


def test_what_is_finished_stays_and_what_changed_or_went_is_made_anew(
    run: Path, scans: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = stores.put(scans, f"{store}/in")
    predict(run, images, f"{store}/out")
    uploaded: list[str] = []

    def upload(path: Path, url: str) -> None:
        uploaded.append(url)
        elsewhere.upload(path, url)

    monkeypatch.setattr(staged, "upload", upload)
    predict(run, images, f"{store}/out", go_on=True)
    assert uploaded == []
    (scans / "scan_07_0000.nii.gz").write_bytes((scans / "scan_01_0000.nii.gz").read_bytes())
    stores.write(f"{images}/scan_07_0000.nii.gz", (scans / "scan_07_0000.nii.gz").read_bytes())
    stores.take(f"{store}/out/scan_02.nii.gz")
    predict(run, images, f"{store}/out", go_on=True)
    assert {f"{store}/out/scan_02.nii.gz", f"{store}/out/scan_07.nii.gz"} <= set(uploaded)
    assert len(uploaded) < len(NAMES)
    predict(run, scans, tmp_path / "out")
    assert stores.contents(f"{store}/out") == local(tmp_path / "out")
    with pytest.raises(ConfigError, match=rf"^{store}/out: what is there was made with other choices: --tta"):
        predict(run, images, f"{store}/out", go_on=True, tta=True)


def test_masks_of_an_earlier_call_in_another_format_go(run: Path, scans: Path, store: str) -> None:
    predict(run, scans, f"{store}/out")
    predict(run, scans, f"{store}/out", format="nrrd", quality=False)
    names = set(stores.contents(f"{store}/out"))
    assert {name for name in names if name.startswith("scan_")} == {f"{name}.seg.nrrd" for name in NAMES}
    assert "quality.csv" not in names


def test_what_nobody_predicted_is_never_written_over(run: Path, scans: Path, store: str) -> None:
    stores.write(f"{store}/out/scan_04.nii.gz", b"a mask that somebody drew")
    stores.write(f"{store}/out/notes.txt", b"of somebody")
    with pytest.raises(DataError, match=rf"^{store}/out: files there would be written over .*scan_04\.nii\.gz"):
        predict(run, scans, f"{store}/out")
    assert set(stores.contents(f"{store}/out")) == {"scan_04.nii.gz", "notes.txt"}
    stores.take(f"{store}/out/scan_04.nii.gz")
    predict(run, scans, f"{store}/out")
    # Masks whose records are gone are looked into.
    for name in stores.hidden(f"{store}/out"):
        stores.take(f"{store}/out/{name}")
    predict(run, scans, f"{store}/out")
    assert stores.contents(f"{store}/out")["notes.txt"] == b"of somebody"


def test_a_scan_that_cannot_be_read_is_listed_by_its_url(run: Path, scans: Path, store: str) -> None:
    images = stores.put(scans, f"{store}/in")
    predict(run, images, f"{store}/out")
    stores.write(f"{images}/scan_05_0000.nii.gz", b"damaged")
    with pytest.raises(DataError, match=rf"no mask for 1 of the scans, see {store}/out/failed\.json") as refused:
        predict(run, images, f"{store}/out", go_on=True)
    assert refused.value.faults[0].file == f"{images}/scan_05_0000.nii.gz"
    found = stores.contents(f"{store}/out")
    assert b"/scratch/" not in b"".join(value for name, value in found.items() if not name.endswith(".gz"))
    assert f'"file": "{images}/scan_05_0000.nii.gz"'.encode() in found["failed.json"]
    # The mask of before is of another scan.
    assert {name for name in found if name.endswith(".gz")} == {f"{name}.nii.gz" for name in NAMES if name != "scan_05"}
    # Another call has another scratch; what it takes over still names the URL.
    with pytest.raises(DataError, match=rf"{images}/scan_05_0000\.nii\.gz: "):
        predict(run, images, f"{store}/out", go_on=True)


def test_a_scan_that_cannot_be_had_is_tried_twice_and_again_by_continue(
    run: Path, scans: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = stores.put(scans, f"{store}/in")
    tries: list[str] = []

    real = elsewhere._system

    class CutOff:
        """A store whose line is cut when one scan is asked for."""

        def __init__(self, system: Any) -> None:
            self._system = system

        def __getattr__(self, name: str) -> Any:
            return getattr(self._system, name)

        def get_file(self, there: str, here: str) -> None:
            if "scan_03" in there:
                tries.append(there)
                raise ConnectionError("the line is cut")
            self._system.get_file(there, here)

    def systems(url: str) -> tuple[Any, str]:
        system, path = real(url)
        return CutOff(system), path

    with monkeypatch.context() as patch:
        patch.setattr(elsewhere, "_system", systems)
        with pytest.raises(DataError, match=rf"{images}/scan_03_0000\.nii\.gz: .*the line is cut.*Check the network"):
            predict(run, images, f"{store}/out")
    assert len(tries) == 2
    assert len([name for name in stores.contents(f"{store}/out") if name.endswith(".nii.gz")]) == 9
    predict(run, images, f"{store}/out", go_on=True)
    predict(run, scans, tmp_path / "out")
    assert stores.contents(f"{store}/out") == local(tmp_path / "out")


def test_an_upload_that_fails_stops_all_and_names_the_url(
    run: Path, scans: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.core import url_to_fs

    system, _ = url_to_fs(store)
    monkeypatch.setattr(system, "put_file", _denied)
    with pytest.raises(WriteError, match=rf"{store}/out/\S+: cannot be written: access is denied"):
        predict(run, scans, f"{store}/out")


def _denied(*_: Any, **__: Any) -> None:
    raise PermissionError(13, "AccessDenied")


def test_check_and_evaluate_say_what_they_say_of_folders(store: str, tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=3, unlabelled=1)
    (root / "imagesTr/case_01_0000.nii.gz").write_bytes(b"damaged")
    there = stores.put(root, f"{store}/set")
    ours, theirs = fewscan.check(root), fewscan.check(there)
    assert [fault.file.replace(there, str(root)) for fault in theirs] == [fault.file for fault in ours]
    assert any(fault.file == f"{there}/imagesTr/case_01_0000.nii.gz" for fault in theirs)
    assert [fault.problem for fault in theirs] == [fault.problem for fault in ours]
    scores = fewscan.evaluate(f"{there}/labelsTr", f"{there}/labelsTr")
    assert scores.summary == fewscan.evaluate(root / "labelsTr", root / "labelsTr").summary
    assert scores.dice == 1
    # Names of classes are those of dataset.json above.
    assert "1" not in scores.classes


def test_training_brings_a_data_set_beside_the_run(store: str, tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "set", labelled=4, unlabelled=1)
    there = stores.put(root, f"{store}/set")
    run = fewscan.train(there, tmp_path / "run", method="supervised", recipe="quick", settings=TINY, device="cpu")
    assert run.model.is_file()
    brought = tmp_path / "run-dataset"
    assert (brought / "labelsTr/case_00.nii.gz").read_bytes() == (root / "labelsTr/case_00.nii.gz").read_bytes()
    with pytest.raises(ConfigError, match=rf"{store}/run: a training needs a folder of this machine"):
        fewscan.train(root, f"{store}/run")
    with pytest.raises(ConfigError, match=rf"{there}: this has to be a folder of this machine"):
        fewscan.train(there, tmp_path / "dry", dry_run=True)


def test_what_is_not_there_is_named(run: Path, scans: Path, store: str) -> None:
    for action in (
        lambda: predict(run, f"{store}/nothing", f"{store}/out"),
        lambda: predict(f"{store}/nothing", scans, f"{store}/out"),
        lambda: fewscan.check(f"{store}/nothing"),
        lambda: fewscan.evaluate(f"{store}/nothing", scans),
    ):
        with pytest.raises(DataError, match=rf"{store}/nothing(/model\.json)?: (there is no such bucket|not there)"):
            action()


def test_dicom_and_shared_folders_are_refused(run: Path, scans: Path, store: str) -> None:
    stores.write(f"{store}/in/slice_1.dcm", b"")
    with pytest.raises(DataError, match=rf"{store}/in: holds DICOM files.*Convert them first"):
        predict(run, f"{store}/in", f"{store}/out")
    with pytest.raises(ConfigError, match=r"--executor shared with .*Say --executor ray:ADDRESS, or --workers N"):
        predict(run, scans, f"{store}/out", executor="shared")


def test_other_commands_say_that_they_want_folders_of_this_machine(tmp_path: Path) -> None:
    for action in (
        lambda: fewscan.report("s3://bucket/run"),
        lambda: fewscan.suggest("s3://bucket/run"),
        lambda: fewscan.benchmark("s3://bucket/set", tmp_path, methods=["action"], labelled=[1], seeds=[0]),
        lambda: fewscan.evaluate(tmp_path, tmp_path, output="s3://bucket/scores.json"),
    ):
        with pytest.raises(ConfigError, match=r"aws s3 sync s3://bucket/\S+ FOLDER"):
            action()


# What only a store has that other processes see.


def fewscan_in_a_process(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "fewscan", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stderr=subprocess.PIPE,
    )


def test_after_a_kill_the_same_command_goes_on(run: Path, bucket: str, tmp_path: Path, quick: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(60):
        values = np.random.default_rng(number).normal(100, 9, (4, 20, 24)).astype(np.float32)
        write_scan(tmp_path / "in" / f"scan_{number:03d}_0000.nii.gz", values, geometry())
    base = f"{bucket}/{secrets.token_hex(4)}"
    images, out = stores.put(tmp_path / "in", f"{base}/in"), f"{base}/out"
    line = ["predict", str(run), images, "-o", out, "--device", "cpu", "--tta", "--workers", "2"]
    with fewscan_in_a_process(*line) as stopped:
        deadline = time.monotonic() + 120
        while sum(name.endswith(".json") for name in stores.hidden(out)) < 1:
            assert time.monotonic() < deadline
            assert stopped.poll() is None, stopped.communicate()
            time.sleep(0.05)
        stopped.kill()
    for left in quick.glob("fewscan-*"):
        # A process that is killed cannot clear up.
        _remove_tree(left)
    assert "quality.csv" not in stores.contents(out)
    with fewscan_in_a_process(*line, "--continue") as goes_on:
        said = goes_on.communicate()[1]
        assert goes_on.returncode == 0, said
    assert b"very-secret" not in said
    predict(run, tmp_path / "in", tmp_path / "out", tta=True)
    assert stores.contents(out) == local(tmp_path / "out")


def _remove_tree(folder: Path) -> None:
    import shutil

    # Its workers end a moment later, and may be writing.
    deadline = time.monotonic() + 30
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(1)


def test_the_command_line_takes_urls_and_names_missing_buckets(run: Path, bucket: str, scans: Path) -> None:
    base = f"{bucket}/{secrets.token_hex(4)}"
    images = stores.put(scans, f"{base}/in")
    done = command("predict", run, images, "-o", f"{base}/out", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert f"10 masks written to {base}/out" in done.stderr
    missing = command("predict", run, "s3://no-such-bucket/in", "-o", f"{base}/out", "--device", "cpu")
    assert missing.returncode == 2
    assert missing.stderr.startswith("error: s3://no-such-bucket/in: there is no such bucket, folder or file.")
    to_nowhere = command("predict", run, scans, "-o", "s3://no-such-bucket/out", "--device", "cpu")
    assert "error: s3://no-such-bucket/out: there is no such bucket" in to_nowhere.stderr


def test_without_credentials_it_says_so(
    run: Path, bucket: str, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    done = command("predict", run, f"{bucket}/in", "-o", tmp_path / "out", "--device", "cpu")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {bucket}/in: there are no credentials for it. Give them as")


def test_a_store_that_does_not_answer_is_named(
    run: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    done = command("predict", run, f"{bucket}/in", "-o", tmp_path / "out", "--device", "cpu")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {bucket}/in: the store does not answer as it should: ")


def test_a_model_that_was_not_brought_names_its_url(store: str, scans: Path, tmp_path: Path) -> None:
    stores.write(f"{store}/run/notes.json", b"{}")
    with pytest.raises(DataError, match=rf"{store}/run"):
        predict(f"{store}/run", scans, tmp_path / "out")
