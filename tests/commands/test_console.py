import io

from rich.console import Console

from fewscan.commands.console import Reporter, TrainingView


def reporter_on(terminal, quiet=False, width=100):
    reporter = Reporter(quiet)
    reporter._console = Console(file=io.StringIO(), force_terminal=terminal, width=width, quiet=quiet, highlight=False)
    return reporter


def shown(reporter):
    return reporter.console.file.getvalue()


def train_with(view, updates=1000, every=10):
    with view:
        for update in range(1, updates + 1):
            view.on_update(update, updates, "global")
            if update % every == 0:
                terms = {"global": 1.25}
                record = {"update": update, "stage": "global", "terms": terms, "slices_per_second": 31.4}
                view.on_record(record)


def test_plain_lines_now_and_then_where_there_is_no_terminal():
    reporter = reporter_on(terminal=False)
    train_with(TrainingView(reporter, lambda: None))
    lines = shown(reporter).splitlines()
    assert 40 <= len(lines) <= 51
    assert lines[1].startswith("global 30/1000: global 1.250 · 31 slices/s")
    assert lines[1].endswith("left")


def test_a_bar_on_a_terminal_and_nothing_when_quiet():
    reporter = reporter_on(terminal=True)
    train_with(TrainingView(reporter, lambda: None), updates=20)
    assert "20/20" in shown(reporter)
    assert "global 1.250" in shown(reporter)
    quiet = reporter_on(terminal=True, quiet=True)
    train_with(TrainingView(quiet, lambda: None), updates=20)
    with quiet.bar("checking", 3) as step:
        step()
    assert shown(quiet) == ""


def test_validation_redraws_the_curves_and_is_said():
    reporter, redrawn = reporter_on(terminal=False), []
    with TrainingView(reporter, lambda: redrawn.append(1)) as view:
        view.on_record({"update": 5, "stage": "local", "validation": {"teacher": {"dice": 0.5, "classes": {}}}})
    assert redrawn == [1]
    assert "update 5: validation Dice on the canvas: teacher 0.500" in shown(reporter)


def test_an_alarm_is_said_as_it_is():
    reporter = reporter_on(terminal=False)
    with TrainingView(reporter, lambda: None) as view:
        view.on_record({"update": 7, "stage": "local", "alarm": "not_finite", "message": "Stopped: [/case] is odd."})
    assert shown(reporter) == "update 7: Stopped: [/case] is odd.\n"


def test_bars_say_when_they_are_done_where_there_is_no_terminal():
    reporter = reporter_on(terminal=False)
    with reporter.bar("checking scans", 3) as step:
        for _ in range(3):
            step()
    assert shown(reporter) == "checking scans: 3 done\n"
