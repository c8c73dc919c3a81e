"""Three sites after a first one, each training killed and gone on with: the same bytes, and whose pixels there are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import fewscan
from fewscan.data.cache import read_cache
from fewscan.data.exemplars import Exemplars
from fewscan.engine.checkpoint import updates_done
from fewscan.io.files import read_json
from fewscan.io.scans import read_scan, write_scan
from support.known import known
from support.pixels import contents, telling_rows
from support.scans import make_dataset

NETWORK = ("network.channels=[4,8]", "network.dropout=[0,0.1]", "plan.size=32", "plan.kind=slices")
LONG = ("training.updates=40", "checkpoint.every=2", "logging.every=1", "logging.validate_every=0", "report.page=false")
# The third of four comes without labels.
SITES, BARE = ("A", "B", "C", "D"), "C"
RESULT = ("model.safetensors", "quality.json", "splits.json", "config.yaml", "gallery/100.npz")


class Chain(NamedTuple):
    """Runs by site, with the contents of those that were killed as they were then."""

    runs: dict[str, Path]
    torn: dict[str, bytes]


def make_site(root: Path, name: str) -> Path:
    """Scans that no other site has: its noise is its own."""
    make_dataset(root, labelled=3, unlabelled=1)
    (root / "splits.json").write_text(json.dumps({"train": ["case_00", "case_01"], "val": ["case_02"]}))
    (root / "dataset.json").write_text(json.dumps(read_json(root / "dataset.json") | {"name": name}))
    generator = np.random.default_rng(SITES.index(name))
    for path in sorted((root / "imagesTr").iterdir()):
        scan = read_scan(path)
        write_scan(path, (scan.array + generator.normal(size=scan.array.shape)).astype(np.float32), scan.geometry)
    return root


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sites")
    return {name: make_site(folder / name, name) for name in SITES}


def options_of(site: str, memory: int) -> dict[str, Any]:
    chosen = {"settings": (*LONG, f"export.memory={memory}"), "recipe": "quick", "device": "cpu"}
    if site == SITES[0]:
        return chosen | {"method": "supervised", "settings": (*chosen["settings"], *NETWORK)}
    return chosen | {"method": "itl"} | ({"labelled": 0} if site == BARE else {})


@pytest.fixture(scope="module", params=[2, 0], ids=["exemplars", "none"])
def whole(
    request: pytest.FixtureRequest, sites: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, Chain]:
    """The unbroken trainings, with as many patches kept of each site."""
    folder, before, runs = tmp_path_factory.mktemp("whole"), None, {}
    for name, site in sites.items():
        options = options_of(name, request.param)
        runs[name] = before = fewscan.train(site, folder / name, continue_from=before, **options).folder
    return request.param, Chain(runs, {})


@pytest.fixture(scope="module")
def broken(whole: tuple[int, Chain], sites: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The same from the same first run, every later one killed, and continued from what was killed before."""
    folder, memory, before = tmp_path_factory.mktemp("broken"), whole[0], whole[1].runs["A"]
    chain = Chain({}, {})
    for name in SITES[1:]:
        run, options = folder / name, options_of(name, memory)
        kill(sites[name], run, before, options)
        chain.torn[name] = contents(run)
        fewscan.train(sites[name], run, continue_from=before, resume=True, **options)
        chain.runs[name] = before = run
    return chain


def kill(site: Path, run: Path, before: Path, options: dict[str, Any]) -> None:
    """Start a training as a user does, and kill it when some checkpoints are there."""
    changes = [part for setting in options["settings"] for part in ("--set", setting)]
    more = ["--labelled", "0"] if "labelled" in options else []
    command = [sys.executable, "-m", "fewscan", "train", str(site), "-o", str(run), "--continue", str(before)]
    command += ["--method", options["method"], "--recipe", "quick", "--device", "cpu", *changes, *more]
    # Another number of threads adds in another order: other last bits.
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | threads
    )
    until = time.monotonic() + 240
    while updates_done(run / "checkpoints") < 5:
        assert process.poll() is None, known(process.stderr).read()
        assert time.monotonic() < until
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert not (run / "model.safetensors").exists()


def history(run: Path) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


def test_killed_runs_that_continue_each_other_end_as_unbroken_ones(whole: tuple[int, Chain], broken: Chain) -> None:
    memory, unbroken = whole
    for name, run in broken.runs.items():
        other = unbroken.runs[name]
        assert history(run) == history(other), name
        assert all((run / file).read_bytes() == (other / file).read_bytes() for file in RESULT), name
        assert read_json(run / "start.json")["sha256"] == read_json(other / "start.json")["sha256"]
        assert (run / "memory.safetensors").is_file() == bool(memory)
        if memory:
            assert (run / "memory.safetensors").read_bytes() == (other / "memory.safetensors").read_bytes()
    assert len({run.joinpath("model.safetensors").read_bytes() for run in unbroken.runs.values()}) == len(SITES)


def test_what_is_kept_is_of_all_sites_with_labels_or_of_none(whole: tuple[int, Chain]) -> None:
    memory, unbroken = whole
    last = unbroken.runs["D"] / "memory.safetensors"
    if memory:
        assert Exemplars.load(last).sites == ("A",) * 2 + ("B",) * 2 + ("D",) * 2
    else:
        assert not last.exists()


def test_no_later_run_holds_pixels_of_the_first_site_where_none_were_kept(
    whole: tuple[int, Chain], broken: Chain, sites: dict[str, Path]
) -> None:
    """Neither as its files have them nor as networks are given them, neither of a finished run nor of a torn one."""
    memory, unbroken = whole
    first = unbroken.runs["A"]
    cached = read_cache(first / "cache" / "train")
    prepared = telling_rows([cached.images.reshape(-1, cached.cases[0].shape[-1])])
    raw = telling_rows(read_scan(path).array for path in sorted((sites["A"] / "imagesTr").iterdir()))
    assert len(prepared) > 100
    assert len(raw) > 100
    own = contents(first)
    assert all(row in own for row in prepared), "the search does not find what is there"
    later = [
        *broken.torn.values(),
        *map(contents, broken.runs.values()),
        *map(contents, list(unbroken.runs.values())[1:]),
    ]
    found = [sum(row in held for row in (*prepared, *raw)) for held in later]
    assert all(found) if memory else not any(found)
