"""What the files of jobs, profiles, galleries and sweeps must look like, one schema for each. No torch.

`rrsis_zoo.tables.records` has those that the tables read, and how all of them are read.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from rrsis_zoo.schema import Strict
from rrsis_zoo.tables.records import Count, Seconds, Spent

# -- while a job is under way ------------------------------------------------------------------------------------------


class Point(Strict):
    """``resume.json``: where a training can go on, see `rrsis_zoo.training.resume.ResumePoint`.

    Attributes:
        epoch: epochs done.
        batch: batches done of the next one.
        step: optimiser steps done.
        finished: whether the training came to its end.
        cpu_s: processor time of the attempt up to here.
        wall_s: time on the clock of the attempt up to here, None where it does not say.
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
    """Seconds of attempts that count."""

    wall_s: Seconds
    cpu_s: Seconds


class State(Strict):
    """``state.json``: how far a job is.

    Attributes:
        key: of the job that began.
        place: where its folder lay.
        spent: what earlier attempts did that still counts.
        started: Unix time at which the attempt under way began.
        point: content of ``resume.json`` when it began; a file that says something else is of this attempt.
        resumed: how often it was taken up again.
        fit: the training, once it has ended.
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
    """Who holds a folder of runs."""

    pid: int
    host: str
    since: str


class ProfileEntry(Strict):
    """A profile to be made, and the exit status once it is."""

    arguments: list[str]
    log: str
    status: int | None = None


class ProfileList(Strict):
    """``profiles.json``."""

    profiles: list[ProfileEntry]


class Picture(Strict):
    """A sample of a gallery; the last four are files, as paths in its folder."""

    sample_id: str
    expression: str
    category: str | None
    kind: str | None
    image: str
    truth: str
    mask: str
    heatmap: str


class GalleryFile(Strict):
    """``gallery.json``."""

    samples: Annotated[list[Picture], Field(max_length=1000)]


class TrialFile(Strict):
    """A run of a sweep; its name is that of its folder."""

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
