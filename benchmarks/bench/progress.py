"""How running jobs are doing, as lines of a log: one for every epoch, and one where nothing was said for a while.

Everything is read from the files that a training writes anyway: ``metrics.csv``, and its resume point. No torch.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.forecast import Forecast
from bench.jobs import JobRun
from bench.load import Load
from bench.suites import Job
from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.files import read_text

Say = Callable[[str], None]

SILENT_S = 90.0
"""Seconds after which a running job says where it is."""

_LOOK_S = 1.0  # seconds between two looks at the logs
_LOSS = "train/loss"
_SCORES = {"val/miou": "val mIoU", "val/oiou": "val oIoU"}
_AFTER = 1.15
"""Validation and test take about 15 % of the time of the steps, in the suites here."""


@dataclass
class Epoch:
    """What the log of a training says of one epoch.

    Attributes:
        number: from 1.
        step: optimiser steps up to the last one that is logged, from the start of the training.
        losses: those logged.
        scores: of its validation, name -> percent.
    """

    number: int
    step: int = 0
    losses: list[float] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)

    def text(self) -> str:
        """Return mean loss and scores; empty if nothing is logged."""
        parts = [f"loss {math.fsum(self.losses) / len(self.losses):.3g}"] if self.losses else []
        parts += [f"{title} {self.scores[name]:.1f}" for name, title in _SCORES.items() if name in self.scores]
        return ", ".join(parts)


def read_epochs(path: Path) -> list[Epoch]:
    """Return the epochs in a ``metrics.csv``; none if there is none yet. A row that is being written is left out."""
    try:
        text = read_text(path)
    except (MissingDataError, DataFormatError):
        return []
    epochs: dict[int, Epoch] = {}
    for row in csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline="")):
        number, step = _number(row, "epoch"), _number(row, "step")
        if number is None or step is None:
            continue
        epoch = epochs.setdefault(int(number) + 1, Epoch(int(number) + 1))
        epoch.step = max(epoch.step, int(step) + 1)
        if (loss := _number(row, _LOSS)) is not None:
            epoch.losses.append(loss)
        epoch.scores |= {name: value for name in _SCORES if (value := _number(row, name)) is not None}
    return [epochs[number] for number in sorted(epochs)]


def _number(row: Mapping[str, Any], name: str) -> float | None:
    try:
        value = float(row[name])
    except (KeyError, TypeError, ValueError):  # another kind of row, or an empty field
        return None
    return value if math.isfinite(value) else None


class _Watched:
    """A running job.

    Args:
        run: the job.
        now: current time in seconds.
    """

    def __init__(self, run: JobRun, now: float) -> None:
        self.job: Job = run.planned.job
        self.begun = self.stage_begun = self.heard = now
        self.testing = run.stage != "fit"
        self._run = run
        self._told = run.epochs_done
        self._changed: tuple[int, int] | None = None
        self._epochs: list[Epoch] = []
        self._first: tuple[float, int] | None = None  # when the first step of this process was seen, and which

    def news(self, now: float, over: bool = False) -> Iterator[str]:
        """Yield a line for every epoch that has ended since the last call; with ``over``, also for the last one."""
        if self.testing:
            return
        self._read(now)
        ended = self._epochs if over else self._epochs[:-1]
        for epoch in ended:
            if epoch.number > self._told:
                self._told = epoch.number
                yield self._said(f"epoch {epoch.number}{self._of()}", epoch.text(), None if over else now)
                self.heard = now

    def sign(self, now: float) -> str:
        """Return where it is, if it has said nothing for `SILENT_S`; else an empty text."""
        if now - self.heard < SILENT_S:
            return ""
        self.heard = now
        so_far = f"{(now - self.stage_begun) / 60:.1f} min so far"
        if self.testing:
            return f"{self.job.name}: still testing, {so_far}"
        if not self._epochs or self._first is None:
            return f"{self.job.name}: no step is logged yet, {so_far}"
        epoch, total = self._epochs[-1], self._run.planned.steps
        steps = f"step {epoch.step:,}{f' of {total:,}' if total else ''}"
        return self._said(f"epoch {epoch.number}{self._of()}, {steps}", epoch.text(), now)

    def left(self, now: float) -> float | None:
        """Return the minutes that it still takes, from the pace of its own steps; None if that is not known yet."""
        total = self._run.planned.steps
        if self.testing or not total or self._first is None or not self._epochs:
            return None
        since, first = self._first
        done = self._epochs[-1].step
        if done <= first or now <= since:
            return None
        pace = (now - since) / (done - first)
        return (max(0, total - done) * pace + (_AFTER - 1) * total * pace) / 60

    def test_begins(self, now: float) -> None:
        self.testing, self.stage_begun, self.heard = True, now, now

    def _read(self, now: float) -> None:
        path = self._run.metrics
        try:
            stat = path.stat()
        except OSError:
            return
        if (stat.st_size, stat.st_mtime_ns) == self._changed:
            return
        self._changed = stat.st_size, stat.st_mtime_ns
        # a resumed training drops what is later than its resume point only when it begins
        self._epochs = [epoch for epoch in read_epochs(path) if epoch.step]
        if self._epochs and stat.st_mtime >= self._run.attempt_started:
            self._first = self._first or (now, self._epochs[-1].step)

    def _of(self) -> str:
        epochs = self._run.epochs
        return f" of {epochs}" if epochs else ""

    def _said(self, where: str, what: str, now: float | None) -> str:
        left = None if now is None else self.left(now)
        rest = "" if left is None else f"; about {minutes(left)} left"
        return f"{self.job.name}: {where}{f': {what}' if what else ''}{rest}"


class Progress:
    """Says how the running jobs are doing, when all of them will be done, and when others need the machine too.

    Args:
        jobs: that are to run.
        at_once: how many run side by side.
        load: of the machine; None where jobs run on GPUs.
        say: gets the lines.
        clock: seconds.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        at_once: int,
        load: Load | None,
        say: Say,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._forecast = Forecast(jobs, at_once)
        self._load, self._say, self._clock = load, say, clock
        self._running: dict[str, _Watched] = {}
        self._looked = -math.inf

    def begins(self, run: JobRun) -> None:
        """Note that a job begins."""
        self._running[run.planned.job.name] = _Watched(run, self._clock())

    def test_begins(self, name: str) -> None:
        """Say what is left to say of a training that has ended."""
        one, now = self._running[name], self._clock()
        for line in one.news(now, over=True):
            self._say(line)
        one.test_begins(now)

    def ends(self, name: str, finished: bool) -> None:
        """Note that a job has ended, and say when the others will be done."""
        one, now = self._running.pop(name), self._clock()
        self._forecast.ended(one.job, (now - one.begun) / 60 if finished else None)
        if not self._forecast.waiting(self._running):
            return
        done, number = self._forecast.done
        left = self._forecast.left(self._times(now))
        when = "" if left is None else f"; the others in about {minutes(left)}, at {_time_of_day(left)}"
        self._say(f"{done} of {number} jobs done{when}")

    def look(self) -> None:
        """Say what is new; to be called often."""
        now = self._clock()
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        for one in self._running.values():
            for line in one.news(now):
                self._say(line)
            if line := one.sign(now):
                self._say(line)
        if self._load is not None and (line := self._load.news(now)):
            self._say(line)

    def _times(self, now: float) -> dict[str, tuple[float, float | None]]:
        return {name: ((now - one.begun) / 60, one.left(now)) for name, one in self._running.items()}


def minutes(value: float) -> str:
    """Return a duration: ``40 s``, ``3.5 min``, ``25 min``, ``2 h 10 min``."""
    if value < 1:
        return f"{max(1, round(60 * value))} s"
    if value < 10:
        return f"{value:.1f} min"
    whole = round(value)
    return f"{whole} min" if whole < 120 else f"{whole // 60} h {whole % 60} min"


def _time_of_day(after_minutes: float) -> str:
    """Return the local time after some minutes, with the date if that is another day."""
    now, then = time.localtime(), time.localtime(time.time() + 60 * after_minutes)
    return time.strftime("%H:%M" if then.tm_yday == now.tm_yday else "%H:%M on %d %B", then)
