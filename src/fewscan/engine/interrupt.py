"""Ctrl-C and SIGTERM while training: the first is remembered until the update is done, the second leaves at once.

Of several ranks one may hear the first signal while another has not, and none must leave before all have agreed: there
the second changes nothing, and it is torchrun that ends those that do not leave in time.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fewscan.distributed.collectives import count
from fewscan.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Which signal asked training to stop; None: none has."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal.

        Raises:
            Interrupted: A second signal came, and there is one rank.
        """
        del frame
        if self.signal is not None and count() == 1:
            raise Interrupted(number, f"Left at once by {signal.Signals(number).name}.")
        self.signal = signal.Signals(number)


@contextmanager
def watch_signals() -> Iterator[Interrupt]:
    """Watch for signals; the handlers that were there come back at the end. Only a main thread can watch."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            # None: set by something other than Python, which Python cannot set again.
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
