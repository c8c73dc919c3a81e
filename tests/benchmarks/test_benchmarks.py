"""Every part of the benchmarks runs at a tiny size and says something sane."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

import fewscan
from benchmarks import augmentation, evaluation, memory, prediction, reading, reliability, scale, steps, volumes
from benchmarks.__main__ import report
from benchmarks.measure import Stopwatch, alone, interleave, memory_bytes
from benchmarks.options import Options
from benchmarks.results import Measured, Target
from benchmarks.slices import write_volumes
from fewscan.data.index import read_dataset
from fewscan.losses.anatomical import select_pixels
from fewscan.terminal.console import Reporter
from support.known import known
from support.steps import TRAINED

QUIET = Reporter(quiet=True)
SIZE = 32
MIB = 2**20


@pytest.fixture
def options(tmp_path: Path) -> Options:
    settings = (
        "network.channels=[4,6,8]",
        "network.dropout=[0,0,0]",
        "methods.action.queries=8",
        "methods.action.negatives=8",
        "methods.action.representation=8",
    )
    # A fresh process takes seconds to import PyTorch; here the numbers do not matter.
    return Options(
        tmp_path, (SIZE,), warm_up=0, repetitions=2, threads=1, cases=2, settings=settings, own_process=False
    )


def check(measured: list[Measured]) -> dict[str, Measured]:
    assert measured
    for row in measured:
        assert all(seconds > 0 for seconds in row.seconds)
        assert row.peak_bytes is None or 20 * MIB < row.peak_bytes < 8192 * MIB
        assert all(np.isfinite(value) and value > 0 for value in row.figures.values())
    return {row.what: row for row in measured}


def test_steps(options: Options) -> None:
    options = replace(options, repetitions=1)
    rows = check(steps.measure(options, QUIET))
    assert {name.split()[0] for name in rows} == set(TRAINED)
    assert {"action global 32² ours", "action local 32² ours", "action anatomical 32² dense"} < set(rows)
    assert rows["action anatomical 32² floor"].to_floor == 1
    assert known(rows["action anatomical 32² ours"].to_floor) > 0
    assert [target.what for target in rows["action anatomical 32² ours"].targets] == ["ours / floor"]
    json.dumps(report(list(rows.values()), options), allow_nan=False)


def test_dense_and_floor_steps_are_other_steps(options: Options) -> None:
    terms = {}
    for kind in ("ours", "floor", "dense"):
        training = steps.Variant("action", "anatomical", SIZE, kind).train(options)
        training.checked_step()
        terms[kind] = {name: float(term) for name, term in training.step().items()}
    assert set(terms["floor"]) == {"sup", "unsup"}
    assert terms["ours"]["anco"] != terms["dense"]["anco"]
    # ln(1 + negatives · e^((cos − cos⁺)/τ)) of fresh weights: all cosines are alike.
    assert terms["ours"]["anco"] == pytest.approx(np.log(9), rel=0.3)
    assert terms["dense"]["anco"] == pytest.approx(terms["ours"]["anco"], rel=0.2)


def test_volumes(options: Options) -> None:
    options = replace(options, repetitions=1)
    rows = check(volumes.measure(options, QUIET, patch=(8, 24, 16)))
    assert {name.split()[0] for name in rows} == {*volumes.STEPS, "augmentation,"}
    ours = rows["action anatomical 8×24×16 ours"]
    assert [target.what for target in ours.targets] == ["time", "peak memory", "head and L_anco"]
    assert set(ours.figures) == {"dense / ours"}
    json.dumps(report(list(rows.values()), options), allow_nan=False)


def test_every_class_has_hard_queries_in_every_batch(options: Options) -> None:
    training = steps.Variant("action", "anatomical", SIZE).train(options)
    for _ in range(10):
        batch = training.batches.draw(training.stage)
        probs = training.method.student(batch.images_labelled).softmax(1)
        hard = select_pixels(probs, batch.labels, torch.ones_like(batch.labels, dtype=torch.bool), 0.97).hard
        assert hard.any(1).all()


def test_classes_are_imbalanced_as_in_acdc(options: Options) -> None:
    training = steps.Variant("action", "anatomical", 128).train(options)
    labels = training.store.labels(training.store.labelled[:])
    shares = torch.bincount(labels.flatten()) / labels.numel()
    assert shares[0] > 0.9
    assert ((shares[1:] > 0.003) & (shares[1:] < 0.04)).all()


def test_augmentation(options: Options) -> None:
    rows = check(augmentation.measure(options, QUIET))
    assert len(rows) == 4
    share = rows[f"all of a fine-tuning step {SIZE}²"].figures["% of the step"]
    assert 0 < share < 100


def test_prediction(options: Options, tmp_path: Path) -> None:
    data = write_volumes(tmp_path / "data", 2, (36, 40))
    (row,) = check(prediction.measure(replace(options, data=data), QUIET)).values()
    assert 0 < row.figures["% in the network"] < 100
    model = tmp_path / "model32"
    (row,) = check(prediction.measure(replace(options, data=data, run=model), QUIET)).values()
    assert row.what == "2 volumes, model32"


def test_evaluation(options: Options) -> None:
    (row,) = check(evaluation.measure(options, QUIET, shape=(50, 36, 40))).values()
    assert [target.what for target in row.targets] == ["CPU", "peak"]
    summary = json.loads((options.folder / "summary.json").read_text())
    assert len(summary["classes"]) == 30
    assert 0.5 < summary["mean"]["dice"] < 1


def test_memory(options: Options) -> None:
    few, many = check(memory.measure(options, QUIET)).values()
    assert many.figures["cache GiB"] > 2 * few.figures["cache GiB"]
    assert few.figures["anonymous GiB"] == pytest.approx(many.figures["anonymous GiB"], rel=0.1)
    assert [target.what for target in many.targets] == ["anonymous, 10 N / N"]


def test_reliability(options: Options) -> None:
    rows = check(reliability.measure(options, QUIET))
    assert set(rows) == {f"{name} {SIZE}²" for name in ("step", "deterministic step", "checkpoint", "alarms")}
    saved = rows[f"checkpoint {SIZE}²"]
    assert [target.what for target in saved.targets] == ["checkpoints and alarms"]
    assert saved.figures["every s"] <= 600


def test_tasks_take_turns_and_the_warm_up_does_not_count() -> None:
    calls = []
    tasks = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = interleave(tasks, 1, 2, lambda: None)
    assert "".join(calls) == "abbaab"
    assert [len(values) for values in seconds.values()] == [2, 2]


def test_stopwatch_counts_nested_calls_once() -> None:
    class Work:
        def outer(self) -> None:
            time.sleep(0.01)
            self.inner()

        def inner(self) -> None:
            time.sleep(0.02)

    watch = Stopwatch(lambda: None)
    with watch.over(Work, "outer", "inner"):
        Work().outer()
    Work().outer()
    assert 0.03 <= watch.seconds < 0.06


def test_peak_of_another_process_is_its_own() -> None:
    held = np.ones(400 * MIB // 8)
    assert alone(1, memory_bytes, "VmHWM") < memory_bytes("VmHWM") - 200 * MIB
    assert held.all()


@pytest.mark.parametrize(
    ("sense", "value", "met"), [("at most", 2, True), ("at most", 2.1, False), ("at least", 1.9, False)]
)
def test_targets(sense: Literal["at most", "at least"], value: float, met: bool) -> None:
    assert Target("time", value, sense, 2, "s").met is met


def test_scale(options: Options) -> None:
    rows = check(scale.measure(replace(options, scans=(8, 4)), QUIET))
    assert set(rows) == {f"{step.what}, {count} scans" for step in scale.STEPS for count in (4, 8)}
    assert [target.what for target in rows["check, 8 scans"].targets] == ["slope"]
    assert not rows["check, 4 scans"].targets


def test_scans_of_the_scale_part_are_a_data_set_without_faults(tmp_path: Path) -> None:
    folder = scale.write_scans(tmp_path / "scans", 12)
    assert [fault for fault in fewscan.check(folder, executor="serial") if fault.fatal] == []
    index = read_dataset(folder)
    assert len(index.cases) == 12
    assert len([case for case in index.cases if case.label is not None]) == scale.LABELLED


def test_the_slope_of_time_in_proportion_is_one() -> None:
    few = Measured("scale", "few", [0.5], figures={"scans": 10.0})
    (target,) = scale.with_slope(few, Measured("scale", "many", [5.0], figures={"scans": 100.0})).targets
    assert target.value == pytest.approx(1.0)
    assert target.met
    (target,) = scale.with_slope(few, Measured("scale", "many", [50.0], figures={"scans": 100.0})).targets
    assert target.value == pytest.approx(2.0)
    assert not target.met


def test_reading(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SHAPE", (6, 40, 40))
    rows = check(reading.measure(options, QUIET))
    readers = {name.split(",")[1].strip() for name in rows if name.startswith("reader")}
    assert readers == set(reading.ENDINGS)
    assert {name for name in rows if not name.startswith("reader")} == {
        f"{way}, {kind}" for way in ("to the canvas", "back") for kind in ("slices", "volumes")
    }
