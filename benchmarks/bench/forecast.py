"""When the jobs of a suite will be done, revised with every job that ends. No torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from bench.suites import Job


class Forecast:
    """Expects of each job the minutes that the suite says, at the pace of those that have ended in this run.

    A job of a model and dataset that has been seen is expected to take as long as that took; one of which nothing is
    known, the mean of all.

    Args:
        jobs: that are to run, in order.
        at_once: how many run side by side.
    """

    def __init__(self, jobs: Sequence[Job], at_once: int) -> None:
        self._waiting = {job.name: job for job in jobs}
        self._number, self._at_once = len(jobs), at_once
        self._took: list[tuple[Job, float]] = []

    @property
    def done(self) -> tuple[int, int]:
        """How many jobs have ended, of how many."""
        return self._number - len(self._waiting), self._number

    def ended(self, job: Job, minutes: float | None) -> None:
        """Note a job that has ended.

        Args:
            job: that has ended.
            minutes: that it took; None if that says nothing, because it failed.
        """
        self._waiting.pop(job.name, None)
        if minutes is not None:
            self._took.append((job, minutes))

    def waiting(self, running: Collection[str]) -> bool:
        """Return whether any job is still running or to come."""
        return bool(running) or bool(self._waiting)

    def expected(self, job: Job) -> float | None:
        """Return how many minutes a whole job takes; None if nothing is known."""
        same = [took for other, took in self._took if (other.model, other.dataset) == (job.model, job.dataset)]
        if same:
            return math.fsum(same) / len(same)
        known = [(other.cpu_minutes, took) for other, took in self._took if other.cpu_minutes]
        if job.cpu_minutes:
            pace = math.fsum(took for _, took in known) / math.fsum(said for said, _ in known) if known else 1.0
            return pace * job.cpu_minutes
        return math.fsum(took for _, took in self._took) / len(self._took) if self._took else None

    def left(self, running: Mapping[str, tuple[float, float | None]]) -> float | None:
        """Return the minutes until all jobs are done; None if a job's time is not known.

        Args:
            running: name -> minutes since its start, and minutes that it still takes by its own pace, if known.
        """
        ends: list[float] = []
        for name, (since, rest) in running.items():
            whole = self.expected(self._waiting[name])
            if rest is None and whole is None:
                return None
            ends.append(rest if rest is not None else max(0.0, (whole or 0.0) - since))
        ends += [0.0] * (self._at_once - len(ends))
        for name, job in self._waiting.items():
            if name in running:
                continue
            whole = self.expected(job)
            if whole is None:
                return None
            first = ends.index(min(ends))
            ends[first] += whole
        return max(ends)
