"""What the command line says and shows: options that everybody tries, logs of any encoding, names that look odd."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fewscan
from fewscan.devices import choose_device
from fewscan.errors import ConfigError
from fewscan.evaluation.selection import Suggestion
from fewscan.io.scans import write_scan
from fewscan.losses.sampling import draw_classes, draw_true, finest
from fewscan.runs.suggestions import suggestion_table
from fewscan.terminal.console import plain_console
from support.scans import disc, geometry


def command(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fewscan", *map(str, arguments)],
        capture_output=True, text=True, check=False, env=os.environ | environment, encoding="utf-8", errors="replace",
    )  # fmt: skip


def test_version_and_short_help() -> None:
    assert command("--version").stdout == f"fewscan {fewscan.__version__}\n"
    for arguments in (["-h"], ["predict", "-h"], ["train", "--help"]):
        done = command(*arguments)
        assert done.returncode == 0
        assert "Usage" in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict"])
def test_a_log_of_any_encoding_ends_with_exit_code_0(tmp_path: Path, encoding: str) -> None:
    for folder in ("masks", "references"):
        (tmp_path / folder).mkdir()
        write_scan(tmp_path / folder / "größe→.nii.gz", disc((4, 20, 24)), geometry())
    done = command("evaluate", tmp_path / "masks", tmp_path / "references", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "1.000" in done.stdout
    done = command("evaluate", tmp_path / "masks", tmp_path / "references", "--json", PYTHONIOENCODING=encoding)
    assert list(json.loads(done.stdout)["cases"]) == ["größe→"]


@pytest.mark.parametrize("name", ["[/x]", "a[bold]b", ":smile:", "[link=http://x]y"])
def test_names_that_look_like_markup_are_shown_as_they_are(name: str) -> None:
    console = plain_console()
    suggestion = Suggestion(patient=name, cases=("a",), score=1.0, uncertainty=1.0, distance=1.0, reason="")
    with console.capture() as shown:
        console.print(suggestion_table([suggestion]))
        console.print(name)
    assert shown.get().count(name) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [("mps", "no GPU of Apple's"), ("cuda:7", "NVIDIA GPUs on this machine"), ("abacus", "knows no such device")],
)
def test_a_device_that_is_not_there_is_refused_in_words_of_ones_own(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"--device {name}: not to be had here: .*{words}.* Try --device cpu"):
        choose_device(name)


def test_a_device_without_doubles_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert finest(torch.device("cpu")) == torch.float64
    assert finest(torch.device("mps")) == torch.float32
    # Such a device is not to be had here.
    monkeypatch.setattr("fewscan.losses.sampling.finest", lambda _: torch.float32)
    drawn = draw_true(torch.tensor([[False, True, True, False]]), 200, torch.Generator().manual_seed(0))
    assert set(drawn.flatten().tolist()) == {1, 2}
    weights = torch.tensor([[0.0, 1.0, 3.0]])
    classes = draw_classes(weights, 4000, torch.Generator().manual_seed(0)).flatten()
    assert abs((classes == 2).float().mean() - 0.75) < 0.03
