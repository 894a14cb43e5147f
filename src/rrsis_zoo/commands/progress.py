"""A line on standard error about long work: renewed in place on a terminal, now and then in a log. No heavy imports."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

_APART = 30.0
"""Seconds between two lines in a log."""


class Progress:
    """Says what a command does; nothing of it remains on a terminal afterwards.

    Args:
        command: whose progress it is.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self._in_place = sys.stderr.isatty()
        self._shown, self._last = False, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def now(self, text: str) -> None:
        """Say what is being done."""
        if self._in_place:
            self._clear()
            print(f"{self.command}: {text[:100]}", end="", file=sys.stderr, flush=True)
            self._shown = True
        elif time.monotonic() - self._last >= _APART:
            self._last = time.monotonic()
            print(f"{self.command}: {text}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Say something that stays."""
        self._clear()
        print(f"{self.command}: {text}", file=sys.stderr, flush=True)

    def out(self, text: str) -> None:
        """Print a result to standard output."""
        self._clear()
        print(text, flush=True)

    def _clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = False
