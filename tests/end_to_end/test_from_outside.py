"""A method, a network and a plan from outside fewscan, one file each, from the command line to masks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import fewscan
from fewscan.inference.model import FORMAT
from fewscan.io.files import read_json
from support.scans import TINY, make_held_out

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
METHOD, NETWORK, PLAN = "self_training:SelfTraining", "dilated:Dilated", "block:Block"
SHORT = (
    "plan.size=32",
    "training.updates=6",
)


def write_file(page: str, path: Path) -> None:
    """The file that a page tells to write."""
    block = re.search(r"^```python\n(.*?)^```$", (HOW_TO / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert block is not None
    path.write_text(block[1], encoding="utf-8")


def run(folder: Path, *arguments: object, launcher: tuple[str, ...] = ("-m",)) -> subprocess.CompletedProcess[str]:
    """The script `fewscan`, which does not have the current folder on its path."""
    environment = {**os.environ, "PYTHONPATH": str(Path(fewscan.__file__).parents[1]), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, *launcher, "fewscan", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return make_held_out(tmp_path / "set")


def settings(*texts: str) -> list[str]:
    return [part for text in texts for part in ("--set", text)]


def test_a_method_is_trained_resumed_and_predicted_with(dataset: Path, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    write_file("add-a-method.md", code / "self_training.py")
    own = f"methods.{METHOD}.lambda_unsup"
    train = ("train", dataset, "-o", tmp_path / "run", "--method", METHOD, "--recipe", "quick", "--device", "cpu")
    done = run(code, *train, *settings(*TINY, f"{own}=0.25"))
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text("utf-8"))
    assert config["method"] == METHOD
    assert config["methods"] == {METHOD: {"lambda_unsup": 0.25, "ramp_up": 1.0}}
    assert METHOD in (tmp_path / "run" / "report.html").read_text("utf-8")
    again = run(code, *train, *settings(*TINY, f"{own}=0.25"), "--resume")
    assert "nothing left to do" in again.stderr + again.stdout
    misspelt = run(code, *train, *settings(f"{own}_=1"))
    assert misspelt.returncode == 2
    assert f"Did you mean {own}?" in misspelt.stderr
    # The model names the method and does not need it.
    scan = dataset / "imagesTr" / "case_00_0000.nii.gz"
    predicted = run(tmp_path, "predict", tmp_path / "run", scan, "-o", tmp_path / "masks", "--device", "cpu")
    assert predicted.returncode == 0, predicted.stderr
    assert (tmp_path / "masks" / "case_00.nii.gz").is_file()
    reported = run(tmp_path, "report", tmp_path / "run", tmp_path / "masks")
    assert reported.returncode == 0, reported.stderr


def test_a_network_is_trained_by_a_method_and_predicts_where_it_is_named(dataset: Path, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    write_file("add-a-network.md", code / "dilated.py")
    train = (
        "train",
        dataset,
        "-o",
        tmp_path / "run",
        "--method",
        "mean_teacher",
        "--recipe",
        "paper",
        "--device",
        "cpu",
    )
    batch = [f"training.{kind}=2" for kind in ("labelled", "unlabelled")]
    # The recipe's settings of the U-Net are not this network's.
    chosen = settings("network.width=4", f"network.kind={NETWORK}", *SHORT, *batch, "report.page=false")
    done = run(code, *train, *chosen)
    assert done.returncode == 0, done.stderr
    expected = {"kind": NETWORK, "width": 4, "dropout": 0.1}
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text("utf-8"))["network"] == expected
    card = read_json(tmp_path / "run" / "model.json")
    assert (card["format"], card["ndim"], card["network"]) == (FORMAT, 2, expected)
    scan = dataset / "imagesTr" / "case_00_0000.nii.gz"
    predict = ("predict", tmp_path / "run", scan, "-o", tmp_path / "masks", "--device", "cpu")
    refused = run(code, *predict)
    assert refused.returncode == 2
    assert f"say --network {NETWORK}" in refused.stderr
    assert not (tmp_path / "masks").exists()
    predicted = run(code, *predict, "--network", NETWORK)
    assert predicted.returncode == 0, predicted.stderr
    assert (tmp_path / "masks" / "case_00.nii.gz").is_file()
    suggested = run(code, "suggest", tmp_path / "run", "-n", 1, "--device", "cpu", "--network", NETWORK)
    assert suggested.returncode == 0, suggested.stderr


def test_a_plan_is_trained_with_resumed_and_predicts_where_it_is_named(dataset: Path, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    write_file("add-a-plan.md", code / "block.py")
    # Ends the process after the third update, as a cut of power does.
    (code / "cut.py").write_text(
        "import os, sys\nimport fewscan\n\n\nclass Cut(fewscan.Callback):\n"
        "    def on_update(self, info):\n        if info.update == 2:\n            os._exit(9)\n\n\n"
        "fewscan.train(sys.argv[1], sys.argv[2], method='mean_teacher', recipe='quick', device='cpu',\n"
        "    settings=sys.argv[3:], callbacks=[Cut()])\n",
        encoding="utf-8",
    )
    texts = [f"plan.kind={PLAN}", "plan.side=16", "network.channels=[4,8]", "network.dropout=[0,0]"]
    texts += ["training.updates=5", "training.labelled=2", "training.unlabelled=2", "checkpoint.every=2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(fewscan.__file__).parents[1])}
    command = [sys.executable, "cut.py", str(dataset), str(tmp_path / "run"), *texts]
    assert subprocess.run(command, cwd=code, env=environment, check=False).returncode == 9
    train = ("train", dataset, "-o", tmp_path / "run", "--method", "mean_teacher", "--recipe", "quick")
    done = run(code, *train, "--device", "cpu", "--resume", *settings(*texts))
    assert done.returncode == 0, done.stderr
    assert "update 2" in done.stdout + done.stderr
    assert read_json(tmp_path / "run" / "model.json")["plan"]["kind"] == PLAN
    scan = dataset / "imagesTr" / "case_00_0000.nii.gz"
    predict = ("predict", tmp_path / "run", scan, "-o", tmp_path / "masks", "--device", "cpu")
    refused = run(code, *predict)
    assert refused.returncode == 2
    assert f"--plan {PLAN}" in refused.stderr
    predicted = run(code, *predict, "--plan", PLAN)
    assert predicted.returncode == 0, predicted.stderr
    assert (tmp_path / "masks" / "case_00.nii.gz").is_file()


def test_a_method_is_compared_in_a_benchmark(dataset: Path, tmp_path: Path) -> None:
    write_file("add-a-method.md", tmp_path / "self_training.py")
    out = tmp_path / "out"
    variant = f"loud={METHOD},methods.{METHOD}.lambda_unsup=1"
    options = ("--labelled", 1, "--seeds", 0, "--methods", METHOD, "--variant", variant, "--recipe", "quick")
    done = run(tmp_path, "benchmark", dataset, "-o", out, *options, "--device", "cpu", *settings(*TINY))
    assert done.returncode == 0, done.stderr
    names = {"supervised-01-s0", "self_training.SelfTraining-01-s0", "loud-01-s0"}
    assert {path.name for path in (out / "runs").iterdir()} == names
    table = (out / "results.md").read_text("utf-8")
    assert METHOD in table
    assert "loud" in table


def test_every_process_of_a_training_knows_what_the_options_name(dataset: Path, tmp_path: Path) -> None:
    write_file("add-a-method.md", tmp_path / "self_training.py")
    write_file("add-a-network.md", tmp_path / "dilated.py")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")
    train = ("train", dataset, "-o", tmp_path / "run", "--method", METHOD, "--recipe", "quick", "--device", "cpu")
    batch = [f"training.{kind}=2" for kind in ("labelled", "unlabelled")]
    chosen = settings(f"network.kind={NETWORK}", "network.width=4", *SHORT, *batch, "report.page=false")
    done = run(tmp_path, *train, *chosen, launcher=torchrun)
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "run" / "model.json")["network"]["kind"] == NETWORK
