"""What predict leaves alone, whom it lets in, and what it says of files that it passes over."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import nibabel
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import fewscan
from fewscan.classes import Region
from fewscan.data.cases import Case
from fewscan.data.checked import CheckedScan, Examine, load_checked
from fewscan.data.plans.base import Plan
from fewscan.data.strangers import passed_over
from fewscan.errors import DataError
from fewscan.inference.model import ModelCard, save_model
from fewscan.io.endings import scan_ending
from fewscan.io.files import read_json, write_json
from fewscan.io.formats import register_format
from fewscan.io.geometry import Geometry
from fewscan.io.nifti import Nifti
from fewscan.io.scans import is_ours, read_scan, write_scan
from fewscan.io.tables import read_table
from fewscan.networks.unet import UNet, UNetSettings
from fewscan.registry import FORMATS
from fewscan.runs.lock import add_holders
from fewscan.runs.results import Predictions
from fewscan.terminal.console import Reporter
from support.commands import command
from support.models import save_untrained
from support.odd_scans import ODD
from support.scans import PLAN, disc, geometry, make_held_out
from support.terminals import StopsAt


class Listener(Reporter):
    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def say(self, what: object) -> None:
        self.said.append(str(what))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_held_out(tmp_path_factory.mktemp("data") / "set")


def scan(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_scan(path, np.random.default_rng(seed).normal(100, 9, (4, 20, 24)).astype(np.float32), geometry())
    return path


def label(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_scan(path, disc((4, 20, 24)), geometry())
    return path


# What lies beside the masks.
TABLES = ("itksnap_labels.txt", "quality.csv", "volumes.csv")


def names(folder: Path) -> list[str]:
    """What a user sees there."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def predict(run: Path, inputs: list[Path], output: Path, **options: Any) -> Predictions:
    return fewscan.predict(run, inputs, output=output, device="cpu", **options)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_second_call_writes_over_the_masks_of_the_first(run: Path, tmp_path: Path, ending: str) -> None:
    scan(tmp_path / f"in/a_0000{ending}")
    (mask,) = predict(run, [tmp_path / "in"], tmp_path / "out")
    assert is_ours(mask)
    before = mask.stat().st_mtime_ns
    predict(run, [tmp_path / "in"], tmp_path / "out")
    assert mask.stat().st_mtime_ns > before


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_labels_and_scans_are_neither_written_over_nor_removed(run: Path, tmp_path: Path, ending: str) -> None:
    scan(tmp_path / f"in/a_0000{ending}")
    scan(tmp_path / f"in/b_0000{ending}").write_bytes(b"not readable")
    kept = [label(tmp_path / f"labelsTr/a{ending}"), scan(tmp_path / f"labelsTr/b{ending}", 3)]
    before = [path.read_bytes() for path in kept]
    with pytest.raises(DataError, match=rf"no `fewscan predict` wrote, .*: a\{ending}, b\{ending}\. Choose another"):
        predict(run, [tmp_path / "in"], tmp_path / "labelsTr")
    assert [path.read_bytes() for path in kept] == before
    assert names(tmp_path / "labelsTr") == [path.name for path in kept]


def test_links_folders_and_archives_at_a_masks_place_are_not_touched(run: Path, tmp_path: Path) -> None:
    scan(tmp_path / "in/a_0000.nii.gz")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.nii.gz").symlink_to(label(tmp_path / "labels/a.nii.gz"))
    with pytest.raises(DataError, match="no `fewscan predict` wrote"):
        predict(run, [tmp_path / "in"], out)
    (tmp_path / "labels/a.nii.gz").unlink()
    with pytest.raises(DataError, match="no `fewscan predict` wrote"):
        predict(run, [tmp_path / "in"], out)
    (out / "a.nii.gz").unlink()
    (out / "a.nii.gz").mkdir()
    with pytest.raises(DataError, match="no `fewscan predict` wrote"):
        predict(run, [tmp_path / "in"], out)
    (out / "a.nii.gz").rmdir()
    np.savez(out / "a.npz", probabilities=np.zeros(3))
    predict(run, [tmp_path / "in"], out)
    with pytest.raises(DataError, match=r"no `fewscan predict` wrote, .*: a\.npz"):
        predict(run, [tmp_path / "in"], out, save_probabilities=True)
    (tmp_path / "in/a_0000.nii.gz").write_bytes(b"x")
    with pytest.raises(DataError, match="no mask for 1"):
        predict(run, [tmp_path / "in"], out)
    assert names(out) == ["a.npz", "failed.json", *TABLES]
    assert list(np.load(out / "a.npz")) == ["probabilities"]


def test_no_table_of_an_earlier_call_stays_where_one_is_stopped(run: Path, tmp_path: Path) -> None:
    scan(tmp_path / "in/a_0000.nii.gz")
    (tmp_path / "in/b_0000.nii.gz").write_bytes(b"x")
    with pytest.raises(DataError, match="no mask for 1"):
        predict(run, [tmp_path / "in"], tmp_path / "out")
    assert names(tmp_path / "out") == ["a.nii.gz", "failed.json", *TABLES]

    with pytest.raises(KeyboardInterrupt):
        predict(run, [tmp_path / "in"], tmp_path / "out", reporter=StopsAt("predicting", KeyboardInterrupt()))
    assert names(tmp_path / "out") == ["a.nii.gz"]


def test_two_predictions_do_not_work_in_one_folder(run: Path, tmp_path: Path) -> None:
    scan(tmp_path / "in/a_0000.nii.gz")
    (tmp_path / "out").mkdir()
    add_holders(tmp_path / "out" / "predict.lock")
    with pytest.raises(DataError, match=r"out: another prediction is at work there \(process \d+ on .*\)\."):
        predict(run, [tmp_path / "in"], tmp_path / "out")
    assert names(tmp_path / "out") == ["predict.lock"]
    dead = read_json(tmp_path / "out" / "predict.lock")["host"]
    (tmp_path / "out" / "predict.lock").write_text(f'{{"host": "{dead}", "pids": [999999999]}}')
    predict(run, [tmp_path / "in"], tmp_path / "out")
    assert names(tmp_path / "out") == ["a.nii.gz", *TABLES]


@pytest.fixture
def narrow() -> Iterator[None]:
    """While it lasts, files .narrow are read as NIfTI; none can be written."""

    class Narrow(Nifti):
        endings = (".narrow",)

        def check_geometry(self, path: Path, geometry: Geometry) -> NoReturn:
            del geometry
            raise DataError.of(path, "its axes cannot be held", "Save the scan as .nii.gz")

    register_format(Narrow)
    yield
    FORMATS.unregister(".narrow")


@pytest.mark.usefixtures("narrow")
def test_a_mask_that_cannot_be_written_leaves_out_its_scan_alone(run: Path, tmp_path: Path) -> None:
    for name in "ac":
        scan(tmp_path / f"in/{name}_0000.nii.gz")
    scan(tmp_path / "in/b_0000.nii").rename(tmp_path / "in/b_0000.narrow")
    with pytest.raises(DataError, match="no mask for 1 of the scans"):
        predict(run, [tmp_path / "in"], tmp_path / "out")
    assert names(tmp_path / "out") == ["a.nii.gz", "c.nii.gz", "failed.json", *TABLES]
    (row,) = read_json(tmp_path / "out" / "failed.json")
    assert row["case"] == "b"
    assert "axes cannot be held" in row["problem"]


def test_a_scan_that_memory_does_not_suffice_for_leaves_out_itself_alone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(case: Case, plan: Plan, examine: Examine) -> CheckedScan:
        if case.images[0].name.startswith("b"):
            np.empty(2**60, np.uint8)
        return load_checked(case, plan, examine)

    for name in "abc":
        scan(tmp_path / f"in/{name}_0000.nii.gz")
    monkeypatch.setattr("fewscan.runs.predicting.load_checked", load)
    with pytest.raises(DataError, match=r"b_0000\.nii\.gz: memory does not suffice for this scan\. Crop it"):
        predict(run, [tmp_path / "in"], tmp_path / "out")
    assert names(tmp_path / "out") == ["a.nii.gz", "c.nii.gz", "failed.json", *TABLES]


def test_a_scan_whose_name_is_not_utf_8_is_left_out_and_the_rest_is_finished(run: Path, tmp_path: Path) -> None:
    shutil.copy(scan(tmp_path / "in/z_0000.nii.gz"), tmp_path / "in" / os.fsdecode(b"caf\xe9_0000.nii.gz"))
    with pytest.raises(DataError, match="its name is not UTF-8"):
        predict(run, [tmp_path / "in"], tmp_path / "out")
    assert names(tmp_path / "out") == ["failed.json", *TABLES, "z.nii.gz"]
    assert read_json(tmp_path / "out/failed.json")[0]["case"] == os.fsdecode(b"caf\xe9")
    with pytest.raises(DataError, match="its name is not UTF-8"):
        predict(run, [tmp_path / "in/z_0000.nii.gz"], tmp_path / os.fsdecode(b"\xe9t\xe9"))


def test_files_that_are_no_scans_are_counted_by_kind_with_what_to_do(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    scan(folder / "a_0000.nii.gz")
    for name in ("b.mgz", "I1.ima", "I2.IMA", "c.hdr", "c.img", ".hidden", "1.2.840.10008", "d.nii.gz.part", "e.png"):
        (folder / name).touch()
    (folder / "sub").mkdir()
    listener = Listener()
    predict(run, [folder], tmp_path / "out", reporter=listener)
    (note,) = [line for line in listener.said if "passed over" in line]
    for words in (
        "2 .ima", "1 .mgz", "1 .hdr", "1 .img", "1 .png", "1 folder", "1 file without ending", "1 .part",
        "do not begin as DICOM files do", "mri_convert", "as one .nii.gz",
        "pictures count where there are no other scans", "name each folder itself",
    ):  # fmt: skip
        assert words.lower() in note.lower()
    assert "hidden" not in note
    assert read_scan(tmp_path / "out/a.nii.gz").array.shape == (4, 20, 24)


def test_a_folder_of_scans_alone_needs_no_word(tmp_path: Path) -> None:
    assert passed_over(tmp_path, [scan(tmp_path / "a.nii.gz")]) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("IM1.dcm", "the file is empty"),
        ("IM1.ima", "do not begin as DICOM"),
        ("a.bmp", "Save pictures as .png"),
        ("a.mhd", "as one .nii.gz"),
        ("a.xyz", "Scans end in"),
    ],
)
def test_one_file_that_is_no_scan_says_what_to_do(run: Path, tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).touch()
    for inputs in ([tmp_path / name], [tmp_path]):
        with pytest.raises(DataError, match=words):
            predict(run, inputs, tmp_path / "out")


def test_what_check_says_of_headers_predict_says_too_once_for_all_scans_alike(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number in range(7):
        image = nibabel.Nifti1Image(
            np.random.default_rng(number).normal(size=(24, 20, 4)).astype(np.float32), np.eye(4)
        )
        image.set_sform(np.diag([-1.0, -1, 1, 1]), code=2)
        image.set_qform(np.eye(4), code=1)
        folder.mkdir(exist_ok=True)
        nibabel.save(image, folder / f"odd{number}.nii")
    listener = Listener()
    predict(run, [folder], tmp_path / "out", reporter=listener, quality=False)
    (note,) = [text for text in listener.said if "disagree" in text]
    assert note.startswith("worth a look: sform and qform disagree; the sform is believed: odd0.nii, odd1.nii")
    assert "and 2 more" in note


def test_scans_whose_anatomy_the_field_of_view_does_not_hold_are_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    where = geometry((4, 64, 64), (5.0, 1.0, 1.0))
    write_scan(tmp_path / "in" / "wide.nii.gz", np.random.default_rng(0).normal(100, 9, where.shape), where)
    listener = Listener()
    predict(run, [tmp_path / "in"], tmp_path / "out", reporter=listener, quality=False)
    assert any("the whole scan was looked at: wide" in text for text in listener.said)


@pytest.mark.parametrize("part", ["running_mean", "running_var", "weight"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_and_statistics_must_be_finite(run: Path, tmp_path: Path, part: str, value: float) -> None:
    other = shutil.copytree(run, tmp_path / "run")
    weights = load_file(other / "model.safetensors")
    changed = {name: torch.full_like(v, value) if part in name else v for name, v in weights.items()}
    save_file(changed, other / "model.safetensors")
    scan(tmp_path / "in/a_0000.nii.gz")
    with pytest.raises(DataError, match=rf"{part} holds no finite float32 numbers"):
        predict(other, [tmp_path / "in"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_may_not_be_read_is_refused_by_name(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.stat

    def stat(path: Path, **options: Any) -> os.stat_result:
        if "closed" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **options)

    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(DataError, match=r"a\.nii\.gz: cannot be read: Permission denied\. Check the path"):
        predict(run, [tmp_path / "closed" / "a.nii.gz"], tmp_path / "out")
    with pytest.raises(DataError, match=r"closed.folds\.json: cannot be read: Permission denied"):
        predict(tmp_path / "closed", [tmp_path], tmp_path / "out")


def test_no_connection_is_opened(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    scan(tmp_path / "in/a_0000.nii.gz")
    (mask,) = predict(run, [tmp_path / "in"], tmp_path / "out")
    label(tmp_path / "labels/a.nii.gz")
    assert fewscan.evaluate(tmp_path / "out", tmp_path / "labels").summary["n_cases"] == 1
    assert mask.is_file()


def test_volumes_are_those_of_the_masks_in_ml(tmp_path: Path) -> None:
    settings = UNetSettings(channels=(4, 8), dropout=(0.0, 0.0))
    regions = (Region("all", (2, 5)), Region("=core", (5,)))
    names = ("background", "rim", "core")
    plan = PLAN.model_copy(update={"class_names": names, "class_numbers": (0, 2, 5), "regions": regions})
    card = ModelCard(method="supervised", network_name="student", network=settings, plan=plan, flips=False)
    torch.manual_seed(0)
    save_model(tmp_path, UNet(1, 3, 2, settings), card)
    for seed, name in enumerate("ab"):
        scan(tmp_path / f"in/{name}_0000.nii.gz", seed)
    predict(tmp_path, [tmp_path / "in"], tmp_path / "out", quality=False)
    rows = [(row["case"], row["class"], float(row["ml"])) for row in read_table(tmp_path / "out/volumes.csv")]
    masks = {name: read_scan(tmp_path / f"out/{name}.nii.gz").array for name in "ab"}
    voxel_ml = 5.0 * 1.5 * 1.2 / 1000
    expected: list[tuple[object, ...]] = [
        (case, region.name, pytest.approx(np.isin(mask, region.numbers).sum() * voxel_ml, rel=1e-5))
        for case, mask in masks.items()
        for region in regions
    ]
    assert rows == expected
    assert any(volume > 0 for _, _, volume in rows)
    assert "'=core" in (tmp_path / "out/volumes.csv").read_text()
    (tmp_path / "in/a_0000.nii.gz").unlink()
    predict(tmp_path, [tmp_path / "in"], tmp_path / "out", quality=False)
    assert {row["case"] for row in read_table(tmp_path / "out/volumes.csv")} == {"b"}


def test_predictions_keep_names_and_grid(dataset: Path, run: Path, tmp_path: Path) -> None:
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


@pytest.fixture(scope="module")
def mixed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every odd scan that is refused, and two sound ones."""
    folder = tmp_path_factory.mktemp("mixed")
    for odd in ODD:
        if isinstance(odd.expected, tuple) and odd.name != "missing.nii":
            name = Path(odd.name)
            odd.make(folder / f"{name.name.replace('.', '-', 1)}{''.join(name.suffixes)}")
    for sound in ("case_00_0000.nii.gz", "case_05_0000.nii.gz"):
        shutil.copy(dataset / "imagesTr" / sound, folder)
    return folder


def test_bad_scans_are_left_out_and_the_rest_is_finished(run: Path, mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command("predict", run, mixed, "-o", out)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    scans = {path.name for path in mixed.iterdir() if scan_ending(path)}
    bad = scans - {"case_00_0000.nii.gz", "case_05_0000.nii.gz"}
    assert f"error: no mask for {len(bad)} of the scans, see {out / 'failed.json'}:" in done.stderr
    assert all(name in done.stderr for name in bad)
    tables = {"failed.json", *TABLES}
    assert set(names(out)) == {"case_00.nii.gz", "case_05.nii.gz", *tables}
    rows = read_json(out / "failed.json")
    assert {Path(row["file"]).name for row in rows} == bad
    assert all(row["problem"] and row["remedy"] for row in rows)


def test_a_mask_of_an_earlier_call_does_not_stay_for_a_scan_that_is_refused(
    dataset: Path, run: Path, tmp_path: Path
) -> None:
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


def test_a_mask_is_never_written_over_a_scan(dataset: Path, run: Path, tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    shutil.copy(dataset / "imagesTr" / "case_03_0000.nii.gz", scan)
    before = scan.read_bytes()
    with pytest.raises(
        DataError, match=r"scan\.nii\.gz: is a scan, its mask would be written over it\. Choose another"
    ):
        fewscan.predict(run, [scan], output=tmp_path)
    assert scan.read_bytes() == before


def test_a_list_of_failures_goes_when_nothing_fails(dataset: Path, run: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "failed.json", [])
    fewscan.predict(run, [dataset / "imagesTr" / "case_03_0000.nii.gz"], output=tmp_path)
    assert names(tmp_path) == ["case_03.nii.gz", *TABLES]
