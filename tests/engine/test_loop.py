import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fewscan.engine.batches import Batches
from fewscan.engine.callbacks import Callback, UpdateInfo
from fewscan.engine.loop import check_batches, weighted_sum
from fewscan.engine.records import NetworkReading, Record
from fewscan.engine.validation import Measure
from fewscan.errors import ConfigError, FewscanError
from fewscan.methods.base import Method, Stage, TrainingSettings
from fewscan.methods.supervised import Supervised
from fewscan.testing.methods import SIZES
from support.steps import Store, build
from support.trainings import config_of, told, train


class Listener(Callback):
    def __init__(self) -> None:
        self.updates: list[tuple[int, int, str]] = []
        self.records: list[Record] = []

    def on_update(self, info: UpdateInfo) -> None:
        self.updates.append((info.done, info.total, info.stage.name))

    def on_record(self, record: Record) -> None:
        self.records.append(record)


class Undemanding(Supervised):
    """Needs no image at all."""

    def stages(self) -> tuple[Stage]:
        return (Stage("idle", 2, 0, 0),)


def run(
    tmp_path: Path, method: str = "action", store: Store | None = None, validate: Measure | None = None, **logging: int
) -> tuple[Any, Listener, list[dict[str, Any]]]:
    torch.manual_seed(0)
    built, listener = build(method), Listener()
    train(built, config_of(**logging), told(tmp_path / "metrics.jsonl", validate, listener), store=store)
    return built, listener, [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]


def test_stages_follow_each_other_and_are_logged(tmp_path: Path) -> None:
    _, listener, lines = run(tmp_path, every=1)
    assert [stage for _, _, stage in listener.updates] == ["global"] * 2 + ["local"] * 2 + ["anatomical"] * 2
    assert [done for done, total, _ in listener.updates if total == 6] == [1, 2, 3, 4, 5, 6]
    assert [set(line["terms"]) for line in lines[::2]] == [
        {"global"},
        {"sup", "global", "local"},
        {"sup", "unsup", "anco"},
    ]
    assert lines == listener.records
    # Every stage starts at the full rate.
    assert [line["lr"] for line in lines[::2]] == [0.01] * 3
    assert all(line["images_per_second"] > 0 for line in lines)


def test_validation_is_called_in_time_and_at_the_end(tmp_path: Path) -> None:
    def validate(method: Method) -> dict[str, NetworkReading]:
        return {"student": {"dice": 0.5, "classes": {}}}

    _, _, lines = run(tmp_path, validate=validate, validate_every=4)
    assert [line["update"] for line in lines if "validation" in line] == [4, 6]


@pytest.mark.parametrize("method", ["action", "supervised"])
def test_same_seed_same_weights(tmp_path: Path, method: str) -> None:
    first, _, _ = run(tmp_path, method)
    second, _, _ = run(tmp_path, method)
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_training_moves_the_student_and_the_teacher_after_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    fresh = build("action")
    trained, _, _ = run(tmp_path)
    for name in ("student", "teacher"):
        before, after = getattr(fresh, name).classifier.weight, getattr(trained, name).classifier.weight
        assert not torch.equal(before, after)


def test_a_loss_that_is_not_finite_stops_training_by_name(tmp_path: Path) -> None:
    with pytest.raises(FewscanError, match=r"not finite at update 1: .*sup.* of the cases case_0\d, case_"):
        run(tmp_path, "supervised", Store(broken=True), every=1)


def test_labelled_slices_stand_in_where_nothing_is_unlabelled() -> None:
    batches = Batches(Store(unlabelled=0), seed=0)
    drawn = batches.draw(build("action").stages()[2])
    assert drawn.images_unlabelled.shape == (2, 1, *SIZES[0])


def test_batches_that_cannot_work_are_refused() -> None:
    lonely = build("action", pretraining={"global": {"updates": 2, "unlabelled": 1}})
    with pytest.raises(
        ConfigError, match=r"^methods\.mine\.pretraining\.global\.unlabelled: 1 is too few: stage global"
    ):
        check_batches(lonely, "mine")
    without_labels = TrainingSettings(updates=2, labelled=0, unlabelled=4)
    for name in ("supervised", "fixmatch"):
        with pytest.raises(ConfigError, match=r"^training\.labelled: 0 is too few.*Set it to 1 or more"):
            check_batches(build(name, training=without_labels), name)
    with pytest.raises(ConfigError, match=r"^training: labelled and unlabelled are both 0"):
        check_batches(Undemanding(lonely.spec, Undemanding.Settings()), "mine")


def test_batches_of_stages_without_updates_may_be_any() -> None:
    check_batches(build("action", pretraining={"global": {"updates": 0, "unlabelled": 0}}), "action")


def test_weights_multiply_their_terms_and_others_count_as_they_are() -> None:
    terms = {"sup": torch.tensor(2.0), "unsup": torch.tensor(10.0)}
    assert float(weighted_sum(terms, {"unsup": 0.1, "anco": 5.0})) == pytest.approx(3.0)
