"""Which runs of a benchmark are made, which are there, and whose they are; nothing is trained here."""

import errno
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise

import pytest

import fewscan
from fewscan.benchmarking.grid import Costs, Grid, RunSpec, make_grid, parse_variant
from fewscan.benchmarking.queue import RunQueue, Worker, time_left
from fewscan.benchmarking.test_split import score_test
from fewscan.benchmarking.test_split import test_text as text_of_test
from fewscan.data.index import read_dataset
from fewscan.errors import ConfigError, DataError
from fewscan.io.files import read_json, write_json
from fewscan.runs.lock import acquire, acquired, add_holders, release
from fewscan.terminal.console import Reporter
from support.scans import make_dataset

COSTS = Costs(90.0, 1.5, "cpu")


@pytest.fixture
def dataset(tmp_path):
    root = make_dataset(tmp_path / "set", labelled=5, unlabelled=1)
    names = [f"case_{i:02d}" for i in range(5)]
    write_json(root / "splits.json", {"train": names[:3], "val": names[3:4], "test": names[4:]})
    return root


def grid_of(dataset, settings=("a=1",), labelled=(1, 2), methods=("supervised", "action")) -> Grid:
    index = read_dataset(dataset)
    grid = make_grid(
        index,
        dataset.parent / "out",
        methods=methods,
        labelled=labelled,
        seeds=(0, 1, 0),
        recipe="quick",
        settings=settings,
        cache=None,
    )
    (grid.output / "runs").mkdir(parents=True, exist_ok=True)
    return grid


def pretend(grid, spec, finished="2026-01-02T03:04:05+00:00"):
    """The files of a finished run."""
    run = grid.folder(spec)
    run.validation.path.mkdir(parents=True)
    for path in (run.config, run.weights, run.card):
        path.touch()
    write_json(run.validation.summary, {})
    write_json(run.plan, {"size": 32})
    run.metrics.write_text(
        '{"update": 1, "slices_per_second": 10.0}\n{"update": 1, "validation": {}}\n'
        '{"update": 2, "slices_per_second": 30.0}\n'
    )
    grid.finish(spec, COSTS, "0.1.0", finished)


def test_every_combination_once_and_one_seed_after_the_other(dataset):
    grid = grid_of(dataset)
    assert [spec.name for spec in grid.specs] == [
        *("supervised-01-s0", "action-01-s0", "supervised-02-s0", "action-02-s0"),
        *("supervised-01-s1", "action-01-s1", "supervised-02-s1", "action-02-s1"),
    ]
    arguments = grid.arguments(grid.specs[1], "cuda:1")
    for pair in (["--method", "action"], ["--labelled", "1"], ["--device", "cuda:1"], ["--set", "a=1"]):
        assert any(arguments[i : i + 2] == pair for i in range(len(arguments)))
    assert arguments[arguments.index("--cache") + 1] == str(grid.output / "cache" / "01")


def test_a_variant_is_trained_as_its_method_with_its_settings(dataset):
    variant = parse_variant("no_anco=action,methods.action.use_anco=false,c=[1]")
    grid = make_grid(
        read_dataset(dataset),
        dataset.parent / "out",
        methods=["supervised"],
        labelled=[1],
        seeds=[0],
        recipe="quick",
        settings=("a=1",),
        cache=None,
        variants=[variant],
    )
    plain, changed = grid.specs
    assert (plain.name, changed.name) == ("supervised-01-s0", "no_anco-01-s0")
    assert grid.request(plain)["settings"] == ["a=1"]
    arguments = grid.arguments(changed, "cpu")
    assert arguments[arguments.index("--method") + 1] == "action"
    wanted = ["a=1", "methods.action.use_anco=false", "c=[1]"]
    assert grid.request(changed)["settings"] == wanted
    assert [b for a, b in pairwise(arguments) if a == "--set"] == ["report.page=false", *wanted]
    assert grid.request(changed)["method"] == "action"


@pytest.mark.parametrize("text", ["no_anco", "=action", "a-b=action", "../a=action", "a=action,use_anco", "a=b=c", ""])
def test_a_variant_that_cannot_be_understood_is_refused(text):
    with pytest.raises(ConfigError, match="NAME=METHOD"):
        parse_variant(text)


def test_two_rows_of_one_name_are_refused(dataset):
    variants = [parse_variant("action=action,a=2")]
    with pytest.raises(ConfigError, match="another name"):
        make_grid(
            read_dataset(dataset),
            dataset,
            methods=["action"],
            labelled=[1],
            seeds=[0],
            recipe="quick",
            settings=(),
            cache=None,
            variants=variants,
        )


def test_finished_is_what_has_its_record_its_model_and_its_scores(dataset):
    grid = grid_of(dataset)
    spec = grid.specs[0]
    run = grid.folder(spec)
    assert grid.state(spec) == "new"
    for needed in (run.record, run.weights, run.card, run.config, run.validation.summary):
        pretend(grid, spec)
        assert grid.state(spec) == "finished"
        needed.unlink()
        assert grid.state(spec) == "unfinished"
        grid.clear(spec)
    assert grid.state(spec) == "new"
    record = (pretend(grid, spec), grid.record(spec))[1]
    assert record["request"]["method"] == "supervised"
    assert (record["seconds"], record["memory_gib"], record["slices_per_second"]) == (90.0, 1.5, 20.0)
    assert grid.done() == [spec]


def test_a_run_of_something_else_is_refused_and_left_alone(dataset):
    grid = grid_of(dataset)
    pretend(grid, grid.specs[0])
    with pytest.raises(ConfigError, match=r"settings \['a=1'\] instead of \['a=2'\]\. Choose another folder"):
        grid_of(dataset, settings=("a=2",)).done()
    with pytest.raises(ConfigError, match="recipe quick instead of paper"):
        replace(grid, recipe="paper").state(grid.specs[0])
    write_json(dataset / "splits.json", {"train": ["case_00", "case_01"], "val": ["case_03"]})
    with pytest.raises(ConfigError, match="holds a run with split"):
        grid_of(dataset).done()
    assert grid.folder(grid.specs[0]).record.is_file()


def test_what_cannot_be_scored_is_refused(dataset):
    (dataset / "labelsTr" / "case_04.nii.gz").unlink()
    with pytest.raises(DataError, match=r"test cases without a label: case_04\. Add their labels"):
        grid_of(dataset)
    write_json(dataset / "splits.json", {"train": ["case_00"]})
    with pytest.raises(DataError, match="no held-out cases to score"):
        grid_of(dataset, labelled=(1,))
    with pytest.raises(ConfigError, match="Nothing to run"):
        grid_of(dataset, labelled=())


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_lock_belongs_to_one(tmp_path):
    lock = tmp_path / "run.lock"
    with acquired(lock) as mine:
        assert mine
        assert read_json(lock) == {"host": socket.gethostname(), "pids": [os.getpid()]}
        assert not acquire(lock)
        with acquired(lock) as second:
            assert not second
        assert lock.exists()
    assert not lock.exists()
    with pytest.raises(DataError, match="cannot be written"):
        acquire(tmp_path / "nowhere" / "run.lock")


def test_a_dead_lock_is_taken_over_on_this_machine_alone(tmp_path):
    lock = tmp_path / "run.lock"
    write_json(lock, {"host": "elsewhere", "pids": [dead_pid()]})
    assert not acquire(lock)
    write_json(lock, {"host": socket.gethostname(), "pids": [dead_pid(), os.getpid()]})
    assert not acquire(lock)
    lock.write_text("")
    assert not acquire(lock)
    write_json(lock, {"host": socket.gethostname(), "pids": [dead_pid()]})
    assert acquire(lock)
    assert read_json(lock)["pids"] == [os.getpid()]
    add_holders(lock, 1)
    assert read_json(lock)["pids"] == [os.getpid(), 1]
    release(lock)
    assert list(tmp_path.iterdir()) == []


def test_a_process_killed_while_it_takes_a_dead_lock_over_leaves_the_lock_to_the_next(tmp_path):
    lock = tmp_path / "run.lock"
    write_json(lock, {"host": socket.gethostname(), "pids": [dead_pid()]})
    code = f"""
import time
from pathlib import Path
from fewscan.runs import lock
lock.write_json = lambda path, holders: (print("taking", flush=True), time.sleep(60))
lock.acquire(Path({str(lock)!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "taking\n"
    process.kill()
    process.communicate()
    assert acquire(lock)
    assert list(tmp_path.iterdir()) == [lock]


def test_one_of_many_takes_a_dead_lock_over(tmp_path):
    lock = tmp_path / "run.lock"
    write_json(lock, {"host": socket.gethostname(), "pids": [dead_pid()]})
    code = f"""
import sys
from pathlib import Path
from fewscan.runs.lock import acquire
sys.stdin.readline()
print(acquire(Path({str(lock)!r})), flush=True)
sys.stdin.readline()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(4)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.stdout.readline().strip() for process in processes]
    for process in processes:
        process.communicate("end\n")
    assert sorted(said) == ["False", "False", "False", "True"]


def test_a_lock_is_made_with_its_holders_where_files_cannot_be_linked_too(tmp_path, monkeypatch):
    def refuse(source, destination):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    lock = tmp_path / "run.lock"
    assert acquire(lock)
    assert not acquire(lock)
    assert read_json(lock)["pids"] == [os.getpid()]
    assert list(tmp_path.iterdir()) == [lock]


@pytest.fixture
def refusing(monkeypatch):
    """Every run ends at once, for want of an option."""
    monkeypatch.setattr(Grid, "arguments", lambda *_: ["--nonsense"])


def test_a_failing_run_is_reported_with_its_log_and_the_others_go_on(dataset, refusing):
    grid = grid_of(dataset, labelled=(1,))
    failed = RunQueue(grid, ["cpu", "cuda:0"], Reporter(quiet=True), lambda: None).run()
    assert sorted(spec.name for spec in failed) == sorted(spec.name for spec in grid.specs)
    for spec in grid.specs:
        assert "--nonsense" in grid.folder(spec).log.read_text()
        assert grid.state(spec) == "unfinished"
    assert not list((grid.output / "runs").glob("*.lock"))


def test_runs_of_another_process_are_left_to_it(dataset, refusing):
    grid = grid_of(dataset, labelled=(1,))
    for spec in grid.specs[1:]:
        assert acquire(grid.lock(spec))
    queue = RunQueue(grid, ["cpu"], Reporter(quiet=True), lambda: None)
    # Another process finishes the first one after this one has looked.
    pretend(grid, grid.specs[0])
    assert queue.run() == []
    assert [spec for spec in grid.specs if grid.folder(spec).path.exists()] == [grid.specs[0]]
    assert not grid.lock(grid.specs[0]).exists()
    assert all(grid.lock(spec).exists() for spec in grid.specs[1:])


def test_a_run_that_another_process_gave_up_is_made_after_all(dataset, refusing, monkeypatch):
    grid = grid_of(dataset, labelled=(1,))
    held = grid.lock(grid.specs[0])
    assert acquire(held)
    queue = RunQueue(grid, ["cpu"], Reporter(quiet=True), lambda: None)
    say_failure = queue._say_failure
    monkeypatch.setattr(queue, "_say_failure", lambda *failure: (say_failure(*failure), release(held)))
    assert [spec.name for spec in queue.run()] == [spec.name for spec in (*grid.specs[1:], grid.specs[0])]


def test_without_validation_cases_no_validation_is_wanted(dataset):
    names = [f"case_{i:02d}" for i in range(5)]
    write_json(dataset / "splits.json", {"train": names[:3], "test": names[4:]})
    grid = grid_of(dataset)
    pretend(grid, grid.specs[0])
    grid.folder(grid.specs[0]).validation.summary.unlink()
    assert grid.state(grid.specs[0]) == "finished"


def test_the_memory_of_a_run_is_its_own(tmp_path):
    held = bytearray(b"x" * (300 << 20))
    code = "import time; held = bytearray(b'x' * (100 << 20)); time.sleep(0.5)"
    process = subprocess.Popen([sys.executable, "-c", code])
    worker = Worker(RunSpec("a", 1, 0), "cpu", process, tmp_path / "log", tmp_path / "lock", time.monotonic())
    while (costs := worker.poll()) is None:
        time.sleep(0.05)
    assert 0.1 < costs.memory_gib < 0.25 < len(held) / 2**30
    assert 0.5 < costs.seconds < 30


def test_time_left_goes_by_the_method_and_is_shared_by_the_devices(dataset):
    grid = grid_of(dataset)
    assert time_left(grid, grid.specs, 1) is None
    pretend(grid, grid.specs[0])
    grid.finish(grid.specs[0], replace(COSTS, seconds=10.0), "0.1.0", "now")
    pretend(grid, grid.specs[1])
    grid.finish(grid.specs[1], replace(COSTS, seconds=30.0), "0.1.0", "now")
    coming = [RunSpec("supervised", 2, 1), RunSpec("action", 2, 1), RunSpec("other", 2, 1)]
    assert time_left(grid, coming, 2) == (10 + 30 + 20) / 2


def test_the_test_split_is_touched_once_by_a_run_and_every_touch_is_recorded(dataset, monkeypatch):
    scored = []

    def validate(run, cases, device, reporter, folder):
        assert (run.path.parents[1] / "test_used.json").is_file()
        assert [case.name for case in cases] == ["case_04"]
        assert folder == run.test
        scored.append(run.path.name)
        folder.path.mkdir()
        write_json(folder.summary, {})

    monkeypatch.setattr("fewscan.benchmarking.test_split.validate_model", validate)
    grid = replace(grid_of(dataset), specs=(RunSpec("supervised", 1, 0), RunSpec("action", 1, 0)))
    for spec in grid.specs:
        pretend(grid, spec)
    for _ in range(2):
        assert score_test(grid, "cpu", Reporter(quiet=True))
        assert scored == ["supervised-01-s0", "action-01-s0"]
    assert text_of_test(grid.output).startswith("test (touched once, on 20")
    grid.clear(grid.specs[0])
    pretend(grid, grid.specs[0], finished="later")
    with acquired(grid.output / "test.lock"):
        assert not score_test(grid, "cpu", Reporter(quiet=True))
    assert score_test(grid, "cpu", Reporter(quiet=True))
    assert scored[2:] == ["supervised-01-s0"]
    assert [len(touch["runs"]) for touch in read_json(grid.output / "test_used.json")] == [2, 1]
    assert text_of_test(grid.output).startswith("test (touched 2 times: on 20")


def test_wrong_arguments_are_refused_before_anything_is_written(dataset, tmp_path):
    for arguments, message in (
        ({"methods": ["actoin"]}, "no method named 'actoin'"),
        ({"settings": ["optimiser.speed=3"]}, r"optimiser\.speed: Extra inputs"),
        ({"labelled": [9]}, "--labelled 9: must be 1 to 3"),
        ({"reference": "ict"}, "--reference ict: is not one of the methods supervised, action"),
        ({"device": "abacus"}, "--device abacus"),
        ({"device": "cpu,cpu"}, "names a device twice"),
        ({"device": "cuda:99"}, "--device cuda:99: there are"),
    ):
        with pytest.raises(ConfigError, match=message):
            fewscan.benchmark(dataset, tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()
