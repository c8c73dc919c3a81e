"""The command line: exit codes, what is printed, what is imported."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fewscan.io.files import read_json
from support.commands import command, printed
from support.models import save_untrained
from support.scans import TINY, make_held_out


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_held_out(tmp_path_factory.mktemp("data") / "set")


def test_exit_codes(dataset: Path, tmp_path: Path) -> None:
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
def test_help_imports_nothing_heavy(name: str) -> None:
    code = f"import sys; sys.argv = ['fewscan', '{name}', '--help']\nfrom fewscan.cli import main\ntry: main()\n"
    code += "except SystemExit: print(sorted({'torch', 'numpy', 'SimpleITK', 'scipy'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"
    assert "--labelled" in shown


def test_a_check_needs_no_pytorch(dataset: Path) -> None:
    code = f"import sys; sys.argv = ['fewscan', 'check', {str(dataset)!r}, '--executor', 'serial', '--quiet']\n"
    code += "from fewscan.cli import main\ntry: main()\n"
    code += "except SystemExit: print(sorted({'torch', 'SimpleITK', 'pydicom'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_json_is_all_that_standard_output_holds(dataset: Path, tmp_path: Path) -> None:
    model = save_untrained(tmp_path)
    assert printed("check", dataset) == []
    masks = printed("predict", model, dataset / "imagesTr" / "case_03_0000.nii.gz", "-o", tmp_path / "masks")
    assert masks == {"folder": str(tmp_path / "masks"), "masks": [str(tmp_path / "masks" / "case_03.nii.gz")]}
    scores = printed("evaluate", tmp_path / "masks" / "case_03.nii.gz", dataset / "labelsTr" / "case_03.nii.gz")
    assert scores["n_cases"] == 1
    changes = [part for setting in TINY for part in ("--set", setting)]
    options = ["--method", "supervised", "--recipe", "quick", "--device", "cpu", *changes]
    trained = printed("train", dataset, "-o", tmp_path / "run", *options)
    assert trained["validation"] == read_json(tmp_path / "run" / "validation" / "summary.json")["mean"]
