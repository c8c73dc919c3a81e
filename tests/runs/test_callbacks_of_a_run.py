"""The callbacks of a run beside those of a user: what is written and shown, what is refused, what goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fewscan
from fewscan.data.store import Store
from fewscan.engine.callbacks import Callback, UpdateInfo
from fewscan.engine.gallery import Gallery
from fewscan.engine.records import Record
from fewscan.errors import ConfigError
from fewscan.run_folder import RunFolder
from fewscan.runs.callbacks import OWN, Dashboard, ProgressPicture, check_users, first_callbacks, worker_callbacks
from fewscan.terminal.console import Reporter
from fewscan.terminal.dashboard import TrainingView
from fewscan.testing.callbacks import CallbackContract
from support.scans import TINY, make_held_out
from support.terminals import reporter_on, shown
from support.trainings import config_of


class TestGallery(CallbackContract):
    # It saves pictures at three moments.
    may_wait = 3

    def make(self, store: Store, folder: Path) -> Callback:
        return Gallery(folder / "gallery", store)

    def outcome(self, callback: Callback, folder: Path) -> object:
        del callback
        return {path.name: path.read_bytes() for path in (folder / "gallery").iterdir()}


class TestProgressPicture(CallbackContract):
    def make(self, store: Store, folder: Path) -> Callback:
        del store
        return ProgressPicture(folder / "progress.png")

    def outcome(self, callback: Callback, folder: Path) -> object:
        assert isinstance(callback, ProgressPicture)
        assert (folder / "progress.png").is_file()
        return [(record["update"], record.get("loss")) for record in callback.records]


class TestDashboard(CallbackContract):
    def make(self, store: Store, folder: Path) -> Callback:
        del store, folder
        return Dashboard(TrainingView(Reporter(quiet=True)))

    def outcome(self, callback: Callback, folder: Path) -> object:
        del folder
        assert isinstance(callback, Dashboard)
        return callback.view.losses, callback.view.curves


class Heard(Callback):
    """Notes updates and records, and how many of them the file had when it heard of one."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.updates: list[int] = []
        self.records: list[Record] = []

    def on_update(self, info: UpdateInfo) -> None:
        self.updates.append(info.done)

    def on_record(self, record: Record) -> None:
        self.records.append(record)
        assert len((self.run / "metrics.jsonl").read_text().splitlines()) == len(self.records)


class Broken(Callback):
    """Raises at an update; its state is what it has heard of."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.updates: list[int] = []

    def on_update(self, info: UpdateInfo) -> None:
        self.updates.append(info.done)
        if info.done == self.at:
            raise OSError("the line is dead")

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        self.updates = list(state_dict["updates"])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_held_out(tmp_path_factory.mktemp("data") / "set")


def train(dataset: Path, run: Path, *callbacks: Callback, resume: bool = False) -> fewscan.Run:
    settings = (*TINY, "checkpoint.every=2", "report.page=false")
    return fewscan.train(
        dataset, run, method="supervised", recipe="quick", settings=settings, callbacks=callbacks, resume=resume
    )


def test_a_user_s_callback_hears_of_every_update_and_of_records_that_are_written_already(
    dataset: Path, tmp_path: Path
) -> None:
    heard = Heard(tmp_path / "run")
    run = train(dataset, tmp_path / "run", heard)
    assert heard.updates == list(range(1, len(heard.updates) + 1))
    assert heard.records == run.records


def test_a_callback_that_fails_ends_the_run_and_with_it_mended_the_run_goes_on_to_the_same_weights(
    dataset: Path, tmp_path: Path
) -> None:
    whole = train(dataset, tmp_path / "whole")
    with pytest.raises(OSError, match="the line is dead"):
        train(dataset, tmp_path / "run", Broken(at=4))
    assert not (tmp_path / "run" / "train.lock").exists()
    with pytest.raises(ConfigError, match="the run was started with Broken"):
        train(dataset, tmp_path / "run", resume=True)
    mended = Broken(at=0)
    run = train(dataset, tmp_path / "run", mended, resume=True)
    assert mended.updates == list(range(1, len(mended.updates) + 1))
    assert run.model.read_bytes() == whole.model.read_bytes()


def test_names_of_the_run_s_own_are_refused_before_anything_is_read_or_written(tmp_path: Path) -> None:
    taken = Heard(tmp_path)
    for own in OWN:
        taken.name = own.name
        with pytest.raises(ConfigError, match=f"two of the name {own.name}"):
            check_users([taken])
    with pytest.raises(ConfigError, match=f"two of the name {taken.name}"):
        train(tmp_path / "no data set", tmp_path / "run", taken)
    assert not (tmp_path / "run").exists()


def test_all_of_a_run_s_own_have_names_that_users_cannot_take(tmp_path: Path) -> None:
    own = {kind.name for kind in OWN}
    with first_callbacks(RunFolder(tmp_path), config_of().logging, Reporter(quiet=True), []) as callbacks:
        assert {callback.name for callback in (*callbacks, *worker_callbacks())} < own
    assert own - {callback.name for callback in callbacks} == {"Validation", "OwnScans", "Gallery", "Pace"}


def test_what_is_shown_of_a_training_that_goes_on_begins_with_its_records() -> None:
    reporter = reporter_on(terminal=True)
    with TrainingView(reporter) as view:
        dashboard = Dashboard(view)
        terms: dict[str, float | None] = {"sup": 2.0}
        losses: Record = {
            "update": 1,
            "stage": "semi",
            "lr": 0.1,
            "loss": 2.0,
            "terms": terms,
            "images_per_second": 9.0,
        }
        dashboard.on_start([losses])
    assert "loss 2.000" in shown(reporter)
