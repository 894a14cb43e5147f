"""Schemas of the files of jobs, profiles, galleries and sweeps. No torch.

`rrsis_zoo.tables.records` has those for the tables, and the function that reads all of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from rrsis_zoo.schema import Strict
from rrsis_zoo.tables.records import Count, Seconds, Spent

# -- while a job runs --------------------------------------------------------------------------------------------------


class Point(Strict):
    """``resume.json``: where a training can be resumed, see `rrsis_zoo.training.resume.ResumePoint`.

    Attributes:
        epoch: epochs done.
        batch: batches done in the next one.
        step: optimiser steps done.
        finished: whether the training is complete.
        cpu_s: processor time of the attempt so far.
        wall_s: wall-clock time of the attempt so far; None if not recorded.
        time: Unix time of writing.
    """

    epoch: Count
    batch: Count = 0
    step: Count
    finished: bool = False
    cpu_s: Seconds
    wall_s: Seconds | None = None
    time: float


class Times(Strict):
    """Seconds of the attempts that count."""

    wall_s: Seconds
    cpu_s: Seconds


class State(Strict):
    """``state.json``: the progress of a job.

    Attributes:
        key: of the job when it started.
        place: path of its folder.
        spent: time of earlier attempts that still counts.
        started: Unix time at which the current attempt started.
        point: content of ``resume.json`` at that time; a different file is from this attempt.
        resumed: how often it was resumed.
        fit: the training, after its end.
    """

    key: str
    place: str
    spent: Times
    started: float
    point: dict[str, Any] | None
    resumed: Count
    fit: Spent | None


# -- others ------------------------------------------------------------------------------------------------------------


class Owner(Strict):
    """The runner that holds a folder of runs."""

    pid: int
    host: str
    since: str


class ProfileEntry(Strict):
    """A profile to make, and the exit status afterwards."""

    arguments: list[str]
    log: str
    status: int | None = None


class ProfileList(Strict):
    """``profiles.json``."""

    profiles: list[ProfileEntry]


class Picture(Strict):
    """A sample of a gallery; four fields are paths of files in its folder."""

    sample_id: str
    expression: str
    category: str | None
    kind: str | None
    image: str
    truth: str
    mask: str
    heatmap: str
    no_target: bool = False


class GalleryFile(Strict):
    """``gallery.json``."""

    samples: Annotated[list[Picture], Field(max_length=1000)]


class TrialFile(Strict):
    """A run of a sweep; its folder has the same name."""

    name: Annotated[str, Field(pattern=r"^run-\d{3,9}$")]
    parameters: dict[str, Any]
    state: Literal["running", "finished", "stopped", "failed"]
    history: list[Annotated[float, Field(allow_inf_nan=True)]]
    minutes: Seconds
    end: list[str]


class SweepFile(Strict):
    """``sweep.json``."""

    sweep: dict[str, Any]
    runs: list[TrialFile]
