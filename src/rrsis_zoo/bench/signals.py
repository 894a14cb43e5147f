"""A runner that is asked to end by a signal ends in order: with its processes, and with the status that says so."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that ask a program to end: a scheduler's, Ctrl-C, a terminal that is closed."""

INTERRUPTIONS = frozenset({*ENDING, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU, signal.SIGALRM})
"""Signals by which a process ends through no fault of its own: others asked it to end, or its time was up."""


class Stopped(BaseException):
    """Raised where the program is when a signal asks it to end; no `Exception`, as KeyboardInterrupt is none."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def status(self) -> int:
        """Exit status that says so: 143 for SIGTERM, 130 for SIGINT, 129 for SIGHUP."""
        return 128 + self.number


@contextmanager
def stoppable() -> Iterator[None]:
    """Let `ENDING` raise `Stopped` in the block, each of them every time; what is ignored (``nohup``) stays ignored."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Stopped(number)

    earlier = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in earlier.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def interruption(status: int) -> signal.Signals | None:
    """Return the signal of `INTERRUPTIONS` that an exit status tells of, None if it tells of none.

    Args:
        status: minus the signal's number where the signal itself ended the process, 128 more than it where the process
            caught it and ended in order.
    """
    number = -status if status < 0 else status - 128
    return next((one for one in INTERRUPTIONS if one == number), None)
