"""Lines about long work, for logs and terminals: how much is done, how long the rest takes. No torch here."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rrsis_zoo.durations import duration

T = TypeVar("T")

FIRST_S = 10.0
"""Seconds without a line: shorter work says nothing."""
EVERY_S = 30.0
"""Seconds from one line to the next."""


def counted(items: Iterable[T], number: int, what: str, clock: Callable[[], float] = time.monotonic) -> Iterator[T]:
    """Yield the items; say on standard error how many are done, at most twice a minute.

    Args:
        items: what is worked on; the caller has done one when it asks for the next.
        number: how many there are.
        what: the work, at the beginning of each line; empty to say nothing.
        clock: seconds.
    """
    start = clock()
    due = start + FIRST_S
    for done, item in enumerate(items):
        now = clock()
        if what and now >= due and done:
            rest = (now - start) / done * (number - done)
            print(f"{what}: {done:,} of {number:,}, about {duration(rest)} left", file=sys.stderr, flush=True)
            due = now + EVERY_S
        yield item
