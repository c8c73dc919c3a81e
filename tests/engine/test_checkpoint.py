"""Training that is stopped and gone on with is the training that never stopped; damage is noticed."""

import os
import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch

from fewscan.config import CheckpointSettings
from fewscan.engine.callbacks import Callback, UpdateInfo
from fewscan.engine.checkpoint import (
    FORMAT,
    Checkpoint,
    Checkpoints,
    checkpoint_files,
    read_checkpoint,
    write_checkpoint,
)
from fewscan.engine.interrupt import watch_signals
from fewscan.engine.log import read_log
from fewscan.engine.records import NetworkReading, Record
from fewscan.errors import ConfigError, DamagedError, DataError, Interrupted
from fewscan.methods.base import Method
from fewscan.networks.segmenter import NetworkSettings
from fewscan.testing.methods import SMALL_NETWORK
from support.known import known
from support.steps import DEEP_NETWORK, TRAINED, build
from support.trainings import Stopper, config_of, told
from support.trainings import train as train_small

TOTAL = 6
# Within stages of two updates, and at the end of one.
STOPS = (1, 3, 4, 5)
NEVER = CheckpointSettings(every=0, minutes=0)


def validate(method: Method) -> dict[str, NetworkReading]:
    return {"student": {"dice": 0.5, "classes": {}}}


def train(
    folder: Path,
    name: str,
    callback: Callback,
    settings: CheckpointSettings = NEVER,
    seed: int = 0,
    network: NetworkSettings = SMALL_NETWORK,
) -> tuple[Method, list[Record]]:
    """A training in a folder, from its newest checkpoint on; the method and the records."""
    folder.mkdir(exist_ok=True)
    config = config_of(every=2, validate_every=3)
    torch.manual_seed(seed)
    method = build(name, seed=seed, network=network)
    checkpoints = Checkpoints(folder / "checkpoints", settings)
    saved = checkpoints.newest(print)
    callbacks = told(folder / "metrics.jsonl", validate, callback)
    return method, train_small(method, config, callbacks, checkpoints=checkpoints, resume=saved)


def stop_and_go_on(
    folder: Path, name: str, at: int, network: NetworkSettings = SMALL_NETWORK
) -> tuple[Method, list[Record]]:
    with pytest.raises(Interrupted) as stopped:
        train(folder, name, Stopper(at), network=network)
    assert stopped.value.code == 143
    assert f"after update {at} of {TOTAL}" in stopped.value.message
    # What a new process would draw must not matter.
    return train(folder, name, Stopper(), seed=at, network=network)


def timeless(records: Iterable[Record]) -> list[dict[str, object]]:
    return [{key: value for key, value in record.items() if key != "images_per_second"} for record in records]


@pytest.mark.parametrize("name", TRAINED)
def test_every_method_goes_on_exactly_from_every_stage(tmp_path: Path, name: str) -> None:
    whole, records = train(tmp_path / "whole", name, Stopper())
    for at in STOPS:
        folder = tmp_path / str(at)
        resumed, resumed_records = stop_and_go_on(folder, name, at)
        for key, value in whole.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[key]), (at, key)
        assert timeless(resumed_records) == timeless(records)
        assert read_log(folder / "metrics.jsonl") == resumed_records


def test_heads_of_coarser_maps_go_on(tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole", "mean_teacher", Stopper(), network=DEEP_NETWORK)
    resumed, _ = stop_and_go_on(tmp_path / "broken", "mean_teacher", 3, network=DEEP_NETWORK)
    state = whole.state_dict()
    assert {"student.coarse_heads.0.weight", "teacher.coarse_heads.0.weight"} <= state.keys()
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in state.items())


def test_momentum_goes_on(tmp_path: Path) -> None:
    train(tmp_path / "whole", "supervised", Stopper())
    stop_and_go_on(tmp_path / "broken", "supervised", 5)
    whole, broken = (
        read_checkpoint(checkpoint_files(tmp_path / name / "checkpoints")[-1]) for name in ("whole", "broken")
    )
    momenta = [c.parts["optimiser"]["state"][0]["momentum_buffer"] for c in (whole, broken)]
    assert torch.equal(*momenta)
    assert momenta[0].abs().sum() > 0
    assert whole.parts["batches"] == broken.parts["batches"]


class Saves(Callback):
    """Notes after which updates the state is saved."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def on_checkpoint(self, info: UpdateInfo) -> None:
        self.done.append(info.done)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("action", NEVER, [2, 4, 6]),
        ("supervised", CheckpointSettings(every=4, minutes=0), [4, 6]),
        ("supervised", CheckpointSettings(every=0, minutes=1e-9), [1, 2, 3, 4, 5, 6]),
    ],
)
def test_checkpoints_are_saved_by_count_by_clock_and_at_stage_ends(
    tmp_path: Path, name: str, settings: CheckpointSettings, expected: list[int]
) -> None:
    saves = Saves()
    train(tmp_path, name, saves, settings)
    assert saves.done == expected
    assert [int(path.stem) for path in checkpoint_files(tmp_path / "checkpoints")] == expected[-2:]


def test_two_checkpoints_are_kept_and_removed_at_the_end(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", NEVER)
    for done in range(4):
        checkpoints.save(Checkpoint(0, 0, done, done, [], {"method": {"weight": torch.full((3,), float(done))}}))
    assert [path.name for path in sorted(checkpoints.folder.iterdir())] == ["000000002.ckpt", "000000003.ckpt"]
    newest = known(checkpoints.newest(print))
    assert newest.done == 3
    assert torch.equal(newest.parts["method"]["weight"], torch.full((3,), 3.0))
    checkpoints.remove()
    assert not checkpoints.folder.exists()


@pytest.fixture
def two(tmp_path: Path) -> Checkpoints:
    checkpoints = Checkpoints(tmp_path / "checkpoints", NEVER)
    for done in (1, 2):
        checkpoints.save(Checkpoint(0, 0, done, done, [], {"method": {"weight": torch.ones(100)}}))
    return checkpoints


def damage(path: Path, kind: str) -> None:
    content = bytearray(path.read_bytes())
    if kind == "torn":
        content = content[: len(content) // 2]
    elif kind == "flipped":
        content[-50] ^= 1
    elif kind == "empty":
        content = bytearray()
    else:
        content = bytearray(b"nonsense")
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["torn", "flipped", "empty", "nonsense"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(two: Checkpoints, kind: str) -> None:
    older, newer = checkpoint_files(two.folder)
    damage(newer, kind)
    said: list[str] = []
    assert known(two.newest(said.append)).done == 1
    assert len(said) == 1
    assert str(newer) in said[0]
    assert checkpoint_files(two.folder) == [older]
    damage(older, kind)
    with pytest.raises(DamagedError, match=rf"{older.name}: the checkpoint is damaged .* Remove it"):
        two.newest(said.append)


def test_what_is_written_badly_is_noticed_and_the_older_ones_stay(
    two: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_badly(path: Path, checkpoint: Checkpoint) -> None:
        write_checkpoint(path, checkpoint)
        damage(path, "flipped")

    monkeypatch.setattr("fewscan.engine.checkpoint.write_checkpoint", write_badly)
    with pytest.raises(DataError, match="checksum is wrong"):
        two.save(Checkpoint(0, 0, 3, 3, [], {}))
    assert [int(path.stem) for path in checkpoint_files(two.folder)] == [1, 2, 3]
    assert known(two.newest(print)).done == 2


def test_another_format_is_refused_by_name(two: Checkpoints) -> None:
    newer = checkpoint_files(two.folder)[-1]
    newer.write_bytes(newer.read_bytes().replace(b'"format": %d' % FORMAT, b'"format": 99', 1))
    with pytest.raises(
        DataError, match=rf"000000002\.ckpt: a checkpoint of format 99, .* reads format {FORMAT}\. Go on"
    ):
        two.newest(print)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    path = tmp_path / "000000001.ckpt"
    write_checkpoint(path, Checkpoint(0, 0, 1, 1, [], {"method": {"trap": Trap()}}))
    with pytest.raises(DamagedError):
        read_checkpoint(path)
    assert not (tmp_path / "sprung").exists()


def test_a_checkpoint_of_another_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, "supervised", Stopper(1))
    (path,) = checkpoint_files(tmp_path / "checkpoints")
    saved = read_checkpoint(path)
    saved.parts["generators"]["device"] = "cuda"
    write_checkpoint(path, saved)
    with pytest.raises(ConfigError, match=r"--device cpu: the run was started on cuda\. Go on with --device cuda"):
        train(tmp_path, "supervised", Stopper())


def test_the_second_signal_leaves_at_once_and_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with watch_signals() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.signal == signal.SIGTERM
        with pytest.raises(Interrupted) as left:
            os.kill(os.getpid(), signal.SIGINT)
    assert left.value.code == 130
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_other_threads_leave_signals_alone() -> None:
    found = []

    def look() -> None:
        with watch_signals():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
