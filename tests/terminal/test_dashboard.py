import pytest

from fewscan.engine.records import Record
from fewscan.terminal.dashboard import TrainingView, sparkline
from support.terminals import reporter_on, shown


def terms_record(update: int, loss: float = 1.25) -> Record:
    terms: dict[str, float | None] = {"global": loss}
    return {"update": update, "stage": "global", "loss": loss, "terms": terms, "images_per_second": 31.4}


def dice_record(update: int, dice: float = 0.5) -> Record:
    return {"update": update, "stage": "local", "validation": {"teacher": {"dice": dice, "classes": {}}}}


def train_with(view: TrainingView, updates: int = 1000, every: int = 10) -> None:
    with view:
        for update in range(1, updates + 1):
            view.show_update(update, updates, "global", 60.0 * (updates - update))
            if update % every == 0:
                view.show_record(terms_record(update))


def drawn(view: TrainingView) -> list[str]:
    """The board's lines, without colours."""
    console = view.reporter.console
    with console.capture() as capture:
        console.print(view.board())
    return capture.get().splitlines()


def test_plain_lines_now_and_then_where_there_is_no_terminal() -> None:
    reporter = reporter_on(terminal=False)
    train_with(TrainingView(reporter))
    lines = shown(reporter).splitlines()
    assert 40 <= len(lines) <= 51
    assert lines[1] == "global 30/1000: global 1.250 · 31 images/s · 16 h 10 min left"


def test_a_board_on_a_terminal_and_nothing_when_quiet() -> None:
    reporter = reporter_on(terminal=True)
    train_with(TrainingView(reporter), updates=20)
    assert "20/20" in shown(reporter)
    assert "global 1.250" in shown(reporter)
    assert "under 1 s left" in shown(reporter)
    quiet = reporter_on(terminal=True, quiet=True)
    train_with(TrainingView(quiet), updates=20)
    assert shown(quiet) == ""


def test_what_is_left_is_not_said_where_nobody_knows_and_the_bar_follows_the_plan() -> None:
    reporter = reporter_on(terminal=False)
    with TrainingView(reporter) as view:
        view.show_update(10, 1000, "global")
        view.show_record(terms_record(10))
        view.show_update(40, 800, "global", 89.0)
        view.show_record(terms_record(40))
    assert [line.rpartition(" · ")[2] for line in shown(reporter).splitlines()] == ["31 images/s", "89 s left"]
    assert view.progress.tasks[0].total == 800
    view.show_update(790, 700, "global", 3.0)
    assert "3 s left" in drawn(view)[-1]


def test_a_validation_is_said_and_what_a_user_measures_is_not() -> None:
    reporter = reporter_on(terminal=False)
    with TrainingView(reporter) as view:
        view.show_record(dice_record(5))
        view.show_record({"update": 6, "stage": "local", "values": {"entropy": 0.5}})
    assert len(shown(reporter).splitlines()) == 1
    assert "update 5: validation at the network's resolution: Dice: teacher 0.500" in shown(reporter)


def test_what_a_task_watches_is_said_beside_dice_and_has_a_curve() -> None:
    reporter = reporter_on(terminal=False)
    record = dice_record(5)
    record["validation"]["teacher"]["scores"] = {"AP@0.5": 0.25}
    with TrainingView(reporter) as view:
        view.show_record(record)
    assert (
        shown(reporter)
        == "update 5: validation at the network's resolution: Dice: teacher 0.500; AP@0.5: teacher 0.250\n"
    )
    assert "validation AP@0.5, teacher: 0.250, best 0.250" in drawn(view)


def test_the_board_shows_losses_and_validation_of_a_resumed_training_too() -> None:
    records = [terms_record(10, 2.0), dice_record(10, 0.7), terms_record(20, 1.0), dice_record(20, 0.6)]
    view = TrainingView(reporter_on(terminal=False))
    view.remember(records)
    terms, dice, *_ = drawn(view)
    assert terms == "loss 1.000 █▁ · global 1.000 · 31 images/s"
    assert dice == "validation Dice, teacher: 0.600, best 0.700 █▁"


@pytest.mark.parametrize("width", [12, 20, 40, 59])
def test_on_a_narrow_terminal_lines_are_broken_and_nothing_is_lost(width: int) -> None:
    records = [terms_record(10), terms_record(20), dice_record(20)]
    view = TrainingView(reporter_on(terminal=False, width=width))
    view.remember(records)
    view.show_update(20, 100, "global")
    lines = drawn(view)
    assert all(len(line) <= width for line in lines)
    text = " ".join(" ".join(lines).split())
    assert "loss 1.250 · global 1.250 · 31 images/s" in text
    assert "validation Dice, teacher: 0.500" in text


def test_an_alarm_is_said_as_it_is() -> None:
    reporter = reporter_on(terminal=False)
    with TrainingView(reporter) as view:
        view.show_record({"update": 7, "stage": "local", "alarm": "not_finite", "message": "Stopped: [/case] is odd."})
    assert shown(reporter) == "update 7: Stopped: [/case] is odd.\n"


def test_a_sparkline_runs_from_the_lowest_to_the_highest_value() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 0, 7, 7], 2) == "▁█"
    assert sparkline([3, 3, 3], 8) == "▅▅▅"
    assert sparkline([0, float("nan"), 7], 8) == "▁ █"
    assert sparkline([float("inf")], 8) == " "
    assert len(sparkline(range(1000), 24)) == 24
