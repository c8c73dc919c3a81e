"""The callbacks of a run: what it writes, shows, draws and measures while it trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from fewscan.config import LoggingSettings
from fewscan.engine.alarms import Alarms
from fewscan.engine.callbacks import Callback, UpdateInfo, check_callbacks
from fewscan.engine.gallery import Gallery
from fewscan.engine.log import RunLog
from fewscan.engine.own_scans import OwnScans
from fewscan.engine.pace import Pace
from fewscan.engine.records import Record
from fewscan.engine.running_means import RunningMeans
from fewscan.engine.validation import Validation
from fewscan.reporting.curves import save_progress
from fewscan.run_folder import RunFolder
from fewscan.terminal.console import Reporter
from fewscan.terminal.dashboard import TrainingView


class Dashboard(Callback):
    """Shows training where the view shows it.

    Args:
        view: View to show it in, opened and closed by whoever made it.
        pace: Pace that knows how long it will take; None: nobody does.
    """

    def __init__(self, view: TrainingView, pace: Pace | None = None) -> None:
        self.view = view
        self.pace = pace

    def on_start(self, records: Sequence[Record]) -> None:
        """Begin with the curves so far."""
        self.view.remember(records)

    def on_update(self, info: UpdateInfo) -> None:
        """Show how far training is."""
        left = self.pace.seconds_left if self.pace is not None else None
        self.view.show_update(info.done, info.total, info.stage.name, left)

    def on_record(self, record: Record) -> None:
        """Show losses, a validation or an alarm."""
        self.view.show_record(record)


class ProgressPicture(Callback):
    """Draws the curves of losses and validation after every validation, and at the end.

    Args:
        path: File of the picture.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []

    def on_start(self, records: Sequence[Record]) -> None:
        """Begin with the records so far."""
        self.records = list(records)

    def on_record(self, record: Record) -> None:
        """Remember it, and draw when there is a validation."""
        self.records.append(record)
        if "validation" in record:
            save_progress(self.path, self.records)

    def on_end(self) -> None:
        """Draw what training came to; where nothing was trained there is nothing to draw."""
        if any("terms" in record or "validation" in record for record in self.records):
            save_progress(self.path, self.records)


# Whose names the callbacks of a user cannot have: their states would be taken for those of the run's own.
OWN = (RunLog, Pace, Dashboard, ProgressPicture, Alarms, RunningMeans, Validation, Gallery, OwnScans)


def check_users(callbacks: Sequence[Callback]) -> None:
    """Refuse callbacks of a user that cannot stand beside the run's own.

    Args:
        callbacks: Callbacks given to `fewscan.train`.

    Raises:
        ConfigError: Something is no callback, or two callbacks have one name.
    """
    check_callbacks(callbacks, [own.name for own in OWN])


@contextmanager
def first_callbacks(
    run: RunFolder,
    logging: LoggingSettings,
    reporter: Reporter,
    measuring: Sequence[Callback],
    pace: Pace | None = None,
) -> Iterator[list[Callback]]:
    """Open the callbacks of the first process, in the order in which they are called.

    The log comes first, so that nothing is shown that is not written; the alarms come before whatever tells losses and
    validations: those of an update that is not finite are never told.

    Args:
        run: Files of the run.
        logging: Whether TensorBoard's events are written.
        reporter: Reporter that shows the training.
        measuring: Callbacks that look at the method after the losses were told, in their order.
        pace: Pace of the training, for the time left; None: it is not shown.

    Raises:
        ConfigError: TensorBoard is wanted and not installed.
    """
    board = run.tensorboard if logging.tensorboard else None
    with closing(RunLog(run.metrics, board)) as log, TrainingView(reporter) as view:
        paces = [pace] if pace is not None else []
        shown = [Dashboard(view, pace), ProgressPicture(run.progress)]
        yield [log, *paces, *shown, Alarms(), RunningMeans(), *measuring]


def worker_callbacks() -> list[Callback]:
    """The callbacks of a process beside the first: all of them stop after the same update."""
    return [Alarms(), RunningMeans()]
