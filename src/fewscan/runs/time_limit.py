"""The time that a run may take: how much of it is used, and how long a training may be in what is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fewscan.durations import parse_duration, say_duration, write_duration
from fewscan.engine.course import Course, Place
from fewscan.engine.forecast import Forecast
from fewscan.engine.pace import Pace
from fewscan.errors import ConfigError
from fewscan.io.files import read_json, write_json
from fewscan.run_folder import RunFolder
from fewscan.terminal.console import Reporter

# Share of the limit that is planned for.
AIM = 0.98
# Seconds until Python and PyTorch have started, which nobody counts: 3.5 and 4.4 on two busy cores.
START = 4.0
# Fewer updates teach nothing: with 4 to 8 labelled scans networks take hundreds to find the smallest class.
FEWEST = 100
# A choice is said where it differs so much from the last one that was.
WORTH_SAYING = 0.1


class TimeLimit:
    """A limit of the seconds that a run may take in all, however often it is interrupted.

    What is used is written down in the run once training has begun: what was only prepared is there the next time.

    Args:
        run: Folder of the run.
        seconds: Seconds that it may take, above 0.
        clock: Function that gives the time in s; what passes from here on is used.
    """

    def __init__(self, run: RunFolder, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.run = run
        self.seconds = seconds
        self.clock = clock
        self.begun = clock()
        self.before = START
        self.shared_from = 0.0
        self.is_training = False

    def __str__(self) -> str:
        return write_duration(self.seconds)

    @property
    def used(self) -> float:
        """Seconds that the run has taken so far."""
        return self.before + self.clock() - self.begun

    def count(self, seconds: float) -> None:
        """Count as used what something would take, or has taken elsewhere.

        Args:
            seconds: Seconds of it.
        """
        self.before += seconds

    def write(self) -> None:
        """Write the limit down in the run, with what is used of it once training has begun."""
        used = round(self.used, 3) if self.is_training else 0.0
        write_json(self.run.time_limit, {"seconds": self.seconds, "used": used, "shared_from": self.shared_from})

    def go_on(self) -> None:
        """Count what the run has used before."""
        found = read_json(self.run.time_limit)
        self.shared_from = found["shared_from"]
        self.is_training = found["used"] > 0
        self.count(found["used"])

    def begin_training(self) -> None:
        """What is used counts from now on, whatever happens."""
        self.is_training = True
        self.keep()

    def keep(self) -> None:
        """Write down what is used, if training has begun."""
        if self.is_training:
            self.write()

    def shares(self, count: int) -> list[Share]:
        """Shares of several trainings, which have what is left after what is used by now, or was when they began.

        Args:
            count: Number of the trainings.
        """
        if self.shared_from == 0:
            self.shared_from = self.used
        return [Share(self, number, count) for number in range(count)]

    def to_json(self) -> dict[str, Any]:
        """The limit and what is used of it, as plain values."""
        return {"seconds": self.seconds, "used": round(self.used, 1)}


@dataclass(frozen=True)
class Share:
    """What one training has of the time of its run.

    Attributes:
        limit: Limit of the run.
        number: Number of the training, from 0.
        count: Number of the trainings that share the time evenly.
    """

    limit: TimeLimit
    number: int = 0
    count: int = 1

    def until(self, finale: float) -> float:
        """Seconds used by the run when this training must be done.

        Args:
            finale: Seconds of what follows the last training of several.
        """
        begun = self.limit.shared_from
        return begun + (AIM * self.limit.seconds - finale - begun) * (self.number + 1) / self.count

    def keep_to_it(self, course: Course, pace: Pace, reporter: Reporter) -> None:
        """Let a course be no longer than the time allows.

        Args:
            course: Course of the training.
            pace: Pace of the training.
            reporter: Reporter that is told of large changes.
        """
        said = 0

        def choose(place: Place, update: int) -> int:
            nonlocal said
            self.limit.keep()
            chosen = pace.most_updates(place, update, self.until(pace.costs_at(place, update).finale) - self.limit.used)
            total = sum(map(sum, course.at(chosen, place, update)))
            if said == 0 or abs(total - said) > WORTH_SAYING * said:
                if said:
                    reporter.say(f"{total} updates in place of {said} keep to --max-time {self.limit}")
                said = total
            return chosen

        course.limit(choose)

    def check(self, course: Course, pace: Pace) -> None:
        """Refuse a first training that would be too short to teach anything, before its first update.

        Args:
            course: Course of the training.
            pace: Pace of the training.

        Raises:
            ConfigError: The limit leaves time for fewer than 100 updates, and than the recipe has.
        """
        fewest, beginning = min(FEWEST, course.most), (0, 0)
        alone = pace.forecast(beginning, 0, course.at(fewest, beginning, 0)).seconds
        begun, used, finale = self.limit.shared_from, self.limit.used, pace.costs.finale
        needed = (begun + self.count * (used - begun + alone) + finale) / AIM
        if self.number > 0 or needed <= self.limit.seconds:
            return
        of_each = f" for each of the {self.count} folds" if self.count > 1 else ""
        training = f"{fewest} updates{of_each}, fewer of which teach nothing, and what follows them"
        if fewest == 0:
            training = f"what there is to do{of_each}"
        raise ConfigError(
            f"--max-time {self.limit}: too short. What comes before training has taken {say_duration(used)}; with "
            f"{training} it would be {write_duration(needed)} at least. Give it that; with --resume what is prepared "
            "is used again."
        )

    def sentence(self, course: Course, whole: Forecast) -> str:
        """Say in a line what the limit means for a training.

        Args:
            course: Course of the training.
            whole: Forecast of all that is ahead.
        """
        if course.total < course.most:
            of_each = " in this fold" if self.count > 1 else ""
            return f"--max-time {self.limit}: {course.total} of the recipe's {course.most} updates{of_each}"
        return f"the recipe needs {say_duration(self.limit.used + whole.seconds)}, less than --max-time {self.limit}"


def read_limit(run: RunFolder, text: str | None) -> TimeLimit | None:
    """The limit that a text asks for; it counts from here on.

    Args:
        run: Folder of the run.
        text: Length of time such as 45m; None: there is no limit.

    Raises:
        ConfigError: The text is no length of time.
    """
    if text is None:
        return None
    try:
        return TimeLimit(run, parse_duration(text))
    except ValueError as error:
        raise ConfigError(f"--max-time: {error}.") from None


def go_on_with_limit(run: RunFolder, limit: TimeLimit | None) -> None:
    """Count what a run has used before; a limit may be another one than before, but not be new, or gone.

    Args:
        run: Folder of the run.
        limit: Limit that is asked for; None: there is none.

    Raises:
        ConfigError: The run was started with a limit and has none now, or the other way round.
    """
    was_limited = run.time_limit.is_file()
    if was_limited and limit is None:
        before = write_duration(read_json(run.time_limit)["seconds"])
        raise ConfigError(f"{run}: the run was made with --max-time {before}, now without. Give it, or another time.")
    if limit is not None and not was_limited:
        raise ConfigError(
            f"{run}: the run was made without --max-time, now with {limit}. Leave it out, or choose another folder."
        )
    if limit is not None:
        limit.go_on()


@contextmanager
def timed(limit: TimeLimit | None) -> Iterator[None]:
    """Inside, a run trains; however that ends, what was used is written down.

    Args:
        limit: Limit of its time; None: there is none.
    """
    try:
        yield
    finally:
        if limit is not None:
            limit.keep()


def begin_limit(run: RunFolder, limit: TimeLimit | None) -> None:
    """Write down the limit of a run that begins.

    Args:
        run: Folder of the run.
        limit: Limit of its time; None: there is none.
    """
    # A start that was killed before all was written down may have left another one.
    run.time_limit.unlink(missing_ok=True)
    if limit is not None:
        limit.write()
