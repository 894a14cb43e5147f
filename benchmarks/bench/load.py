"""Whether the machine has the cores that the jobs count on. No torch."""

from __future__ import annotations

import os
from collections.abc import Callable

from rrsis_zoo import processors

_AGAIN_S = 600.0  # seconds until it is said again
_OTHERS = 0.75  # load of others that delays nothing much
_SETTLED_S = 120.0  # the load is a mean over a minute: what ran before is in it


class Load:
    """Watches the load of the machine: processes that want a core, a mean over the last minute.

    Args:
        used: cores that the jobs use.
        cores: of the machine; None to count those that this process may use.
        read: returns the load.
    """

    def __init__(self, used: int, cores: int | None = None, read: Callable[[], float] | None = None) -> None:
        self._used, self._cores = used, int(processors.cores()) if cores is None else cores
        self._read = read or (lambda: os.getloadavg()[0])
        self._next: float | None = None

    def at_start(self) -> str:
        """Return a warning if other programs leave too few cores; empty if all is well."""
        load = self._load()
        if load is None or load + self._used <= max(self._cores, self._used) + _OTHERS:
            return ""
        return (
            f"warning: the machine is busy (load {load:.1f} before any job runs, on {_counted(self._cores)}; the jobs "
            f"use {self._used}): they take longer than expected, and profiles show a higher latency"
        )

    def news(self, now: float) -> str:
        """Return a warning if there are more running processes than cores, at most every ten minutes; else empty.

        Args:
            now: current time in seconds.
        """
        if self._next is None:
            self._next = now + _SETTLED_S
        if now < self._next:
            return ""
        load = self._load()
        if load is None or load <= max(self._cores, self._used) + _OTHERS:
            return ""
        self._next = now + _AGAIN_S
        return (
            f"warning: the machine is busy (load {load:.1f} on {_counted(self._cores)}; the jobs use {self._used}): "
            "they take longer"
        )

    def _load(self) -> float | None:
        try:
            return self._read()
        except (OSError, AttributeError):  # a system without it
            return None


def _counted(cores: int) -> str:
    return f"{cores} core{'s' if cores != 1 else ''}"
