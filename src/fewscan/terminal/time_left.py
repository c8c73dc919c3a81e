"""A column of progress bars: the time left, said as everywhere else. Imports rich, which takes time."""

from __future__ import annotations

from rich.progress import ProgressColumn, Task
from rich.text import Text

from fewscan.durations import say_duration


class TimeLeftColumn(ProgressColumn):
    """What the task's field `seconds_left` says; without it, what is left at the pace so far."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Say it; nothing is known at the start, and nothing is left at the end."""
        seconds = task.fields.get("seconds_left")
        if seconds is None and not task.finished:
            seconds = task.time_remaining
        return Text("" if seconds is None else f"{say_duration(seconds)} left")
