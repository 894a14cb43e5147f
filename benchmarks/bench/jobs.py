"""One job: what to do with it, its processes one after another, and its record.

The job of a training-free method has no training, and its test no checkpoint.

Its folder has ``job.json`` (written at the end), ``fit.log``, ``test.log``, ``calibrate.log`` if the suite calibrates,
``diagnose.log`` if it diagnoses, and the folders of training, test and diagnosis. While it runs, ``state.json`` records
its progress, so that it can be resumed after a kill.

An exit status of 0 proves nothing: a training counts as finished if its last resume point is at the planned end, and a
test if its record covers the whole split.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.parts import changed
from bench.processes import Usage
from bench.records import Point, State
from bench.suites import Job
from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.files import cannot_write, make_folder, write_json
from rrsis_zoo.schema import Strict
from rrsis_zoo.tables.records import JobFile, Result, read_record, unfit
from rrsis_zoo.tables.runs import DIAGNOSIS

SCHEMA = 1
RECORD, STATE = "job.json", "state.json"

PROGRAM = "rrsis_zoo.cli"
"""Module of the command that jobs run."""

_METRICS = Path("fit/version_0/metrics.csv")
_CHECKPOINTS = Path("fit/version_0/checkpoints")
_RESUME = _CHECKPOINTS / "resume.ckpt"
_POINT = _CHECKPOINTS / "resume.json"
_BEST = _CHECKPOINTS / "best.ckpt"
_PRESENCE = _CHECKPOINTS / "best.presence.json"
_RESULT = Path("test/version_0/test.json")
_CALLBACK = "rrsis_zoo.training.resume.ResumePoint"


@dataclass(frozen=True)
class Goal:
    """The goal of a job.

    Attributes:
        epochs, steps: of the training, which ends with whichever is reached first; None for no limit.
        may_stop: whether the training may end earlier: early stopping, a time limit.
        protocol, split: of the test.
        samples: number of samples in the test.
        annotations: SHA-256 of the split's samples.
    """

    epochs: int | None
    steps: int | None
    may_stop: bool
    protocol: str
    split: str
    samples: int
    annotations: str

    def short_of(self, point: Point) -> str:
        """Return what is missing if a training ended here, as text; empty if it is complete."""
        return short_of(point, self.epochs, self.steps, self.may_stop)

    def fault(self, result: Mapping[str, Any]) -> str:
        """Return why a ``test.json`` is not the result of this job; empty if it is."""
        if why := unfit(result):
            return why
        for name, wanted in (
            ("protocol", self.protocol),
            ("split", self.split),
            ("n", self.samples),
            ("annotations_sha256", self.annotations),
        ):
            if result[name] != wanted:
                return f"its {name} is {result[name]!r}, expected {wanted!r}"
        return ""


def ends_of(trainer: Mapping[str, Any]) -> tuple[int | None, int | None, bool]:
    """Return when a training ends: epochs, steps, and whether it may end earlier, as in `Goal`.

    Args:
        trainer: its section of a configuration.
    """
    epochs, steps = (None if n is None or n < 0 else n for n in (trainer["max_epochs"], trainer["max_steps"]))
    timed = trainer.get("max_time") is not None
    if trainer["max_epochs"] is None and steps is None and not timed:
        epochs = 1000  # Lightning's default
    callbacks = trainer.get("callbacks") or []
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    return epochs, steps, timed or any(_may_stop(callback["class_path"]) for callback in callbacks)


def _may_stop(class_path: str) -> bool:
    """Return whether a callback may end a training early: by a score, by time, or because it is unknown."""
    package, _, name = class_path.rpartition(".")
    known = package.partition(".")[0] in ("lightning", "pytorch_lightning", "rrsis_zoo")
    return not known or name in ("EarlyStopping", "Timer")


def short_of(point: Point, epochs: int | None, steps: int | None, may_stop: bool) -> str:
    """Return how far a training got, as text, if it is not where it should have ended; else empty.

    Args:
        point: its last resume point.
        epochs, steps: its planned end, see `Goal`.
        may_stop: whether it may have ended earlier.
    """
    there = (epochs is not None and point.epoch >= epochs) or (steps is not None and point.step >= steps)
    if point.finished and (there or may_stop):
        return ""
    done = f"it ended after {_counted(point.epoch, 'epoch')} and {_counted(point.step, 'step')}"
    ends = [_counted(n, what) for n, what in ((epochs, "epoch"), (steps, "step")) if n is not None]
    return f"{done}, and should have done {' or '.join(ends)}" if ends else f"{done}, and nothing had stopped it"


@dataclass(frozen=True)
class Planned:
    """A job with its key.

    Attributes:
        job: of the suite.
        arguments: of ``rrsis fit`` and ``rrsis test``.
        parts: of the key; empty if there is none.
        key: empty if the job cannot start.
        goal: None if the job cannot start.
        fault: why it cannot start: missing data or weights, an unknown option.
        on_gpu: whether its configuration uses an accelerator.
        steps: optimiser steps of the whole training, to say how far it is; None if that is not known.
        trained: whether there is a training; the job of a training-free method is a test alone.
    """

    job: Job
    arguments: tuple[str, ...]
    parts: Mapping[str, str]
    key: str
    goal: Goal | None
    fault: str = ""
    on_gpu: bool = False
    steps: int | None = None
    trained: bool = True


Action = Literal["skip", "leave", "blocked", "start", "resume", "test"]
"""``skip``: finished. ``leave``: failed earlier, no retry requested. ``blocked``: cannot start. ``start``: from the
beginning. ``resume``: from its last checkpoint. ``test``: it is trained."""


@dataclass(frozen=True)
class Decision:
    """What to do with a job, and a short reason."""

    action: Action
    why: str

    @property
    def runs(self) -> bool:
        """Whether there is anything to run."""
        return self.action in ("start", "resume", "test")


def decide(planned: Planned, folder: Path, retry: bool) -> Decision:
    """Decide what to do with a job from its folder.

    Args:
        planned: the job as currently planned.
        folder: of the job.
        retry: whether to retry a failed job.
    """
    if planned.fault:
        return Decision("blocked", planned.fault)
    try:
        record = read_job(folder, planned.job.name)
    except (
        DataFormatError
    ) as error:  # possibly the only trace of days of training, which are not repeated without a request
        if not retry:
            return Decision("leave", f"{error}; --retry does the job again")
        record = None
    state, damage = _read_state(folder)
    same = record is not None and record["key"] == planned.key
    if record is not None and same:
        if record["status"] == "finished":
            return Decision("skip", "finished earlier")
        if not retry:
            return Decision("leave", f"failed earlier: {record['reason']}; --retry tries it again")
    again = "failed earlier; " if same else ""
    # the resume point contains the paths of the best checkpoints, which would be lost in another place
    if state is not None and state["key"] == planned.key and state["place"] == str(folder.resolve()):
        if state["fit"] is not None:
            return Decision("test", f"{again}it is trained")
        if os.path.isfile(folder / _RESUME):
            point = _read_point(folder)
            done = "some epochs" if point is None else _counted(point["epoch"], "epoch")
            if point is not None and not point["epoch"]:
                done = _counted(point["step"], "step")
            return Decision("resume", f"{again}goes on after {done}")
    if damage:
        return Decision("start", f"from the beginning: {damage}")
    if record is None or not record.get("key_parts"):
        return Decision("start", f"{again}from the beginning" if again or state else "new")
    if same:
        return Decision("start", f"{again}from the beginning")
    return Decision("start", f"changed since then: {', '.join(changed(record['key_parts'], planned.parts))}")


def read_job(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the content of a folder's ``job.json``; None if there is none.

    Args:
        folder: of the job.
        name: of the job.

    Raises:
        DataFormatError: it is damaged, or the record of a job with another name.
    """
    path = folder / RECORD
    record = _read(path, JobFile, "run the suite again")
    if record is not None and record["name"] != name:
        raise DataFormatError(f"{path} is the record of {record['name']}: another job's folder was copied here")
    return record


def _read_state(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """Return ``state.json``, None if there is no usable one, and the reason."""
    try:
        return _read(folder / STATE, State, "it was cut short"), ""
    except DataFormatError as error:
        return None, str(error)


def _read_point(folder: Path) -> dict[str, Any] | None:
    """Return the content of ``resume.json``; None if it is missing or damaged: only the checkpoint counts."""
    try:
        return _read(folder / _POINT, Point, "it was cut short")
    except DataFormatError:
        return None


def _read(path: Path, schema: type[Strict], advice: str) -> dict[str, Any] | None:
    try:
        return read_record(path, schema, advice)
    except MissingDataError:
        return None


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'s' if n != 1 else ''}"


@dataclass(frozen=True)
class Command:
    """A process to run: ``python -m MODULE ARGUMENTS``."""

    module: str
    arguments: tuple[str, ...]
    log: Path


class JobRun:
    """A running job.

    Args:
        planned: the job.
        folder: of the job.
        decision: ``start``, ``resume`` or ``test``.

    Raises:
        OutputError: its folder cannot be created or emptied.
    """

    def __init__(self, planned: Planned, folder: Path, decision: Decision) -> None:
        assert planned.goal is not None  # ensured by decide()
        self.planned, self.folder, self._goal = planned, folder, planned.goal
        self._fit: Usage | None = None
        self._test: Usage | None = None
        self._result: dict[str, Any] | None = None
        self._fault = ""
        self._calibrated = self._diagnosed = False
        self.interrupted = ""
        """Why a process ended early, so that the job must be resumed later; empty if none did."""
        if decision.action == "start":
            _remove(folder)
            make_folder(folder)
            self._state: dict[str, Any] = {
                "key": planned.key,
                "place": str(folder.resolve()),
                "spent": {"wall_s": 0.0, "cpu_s": 0.0},
                "started": 0.0,
                "point": None,
                "resumed": 0,
                "fit": None,
            }
        else:
            state, _ = _read_state(folder)
            assert state is not None  # checked by decide()
            self._state = state
            with cannot_write(folder / RECORD):
                (folder / RECORD).unlink(missing_ok=True)  # of the failed attempt
        if decision.action == "resume":
            self._go_on()

    @property
    def stage(self) -> Literal["fit", "calibrate", "test", "diagnose", "over"]:
        """The next stage."""
        if self._fault or self.interrupted:
            return "over"
        if self._test is not None:
            wanted = self.planned.job.diagnose and self.planned.trained  # a diagnosis takes a checkpoint
            return "diagnose" if wanted and not self._diagnosed else "over"
        if not self.planned.trained:
            return "test"  # and no calibration, which is stored beside a checkpoint
        if self._state["fit"] is None:
            return "fit"
        return "calibrate" if self.planned.job.calibrate and not self._calibrated else "test"

    @property
    def train_cpu_s(self) -> float:
        """Processor time of the complete training in seconds, without work lost by interruptions."""
        return self._state["fit"]["cpu_s"]

    @property
    def metrics(self) -> Path:
        """The log of its training, a row for every few steps; it does not exist before the first."""
        return self.folder / _METRICS

    @property
    def epochs(self) -> int | None:
        """Number of epochs of its training; None if they do not limit it."""
        return self._goal.epochs

    @property
    def epochs_done(self) -> int:
        """Number of epochs up to the resume point."""
        point = _read_point(self.folder)
        return 0 if point is None else point["epoch"]

    @property
    def attempt_started(self) -> float:
        """Unix time at which its training was last started."""
        return self._state["started"]

    def command(self) -> Command:
        """Return the next process; called just before its start."""
        folder = self.folder
        if self.stage == "calibrate":
            return Command(PROGRAM, ("calibrate", "--ckpt", str(folder / _BEST)), folder / "calibrate.log")
        if self.stage == "diagnose":
            out, best = folder / DIAGNOSIS, self.planned.job.diagnose // 4 or 1
            scope = ("--out", str(out), "--limit", str(self.planned.job.diagnose), "--best", str(best))
            model = ("--ckpt", str(folder / _BEST), "--data.num_workers", "0")
            return Command(PROGRAM, ("diagnose", *model, *scope), folder / "diagnose.log")
        places = [
            "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(folder), "--trainer.logger.version", "0",
            "--trainer.logger.name", self.stage, "--trainer.enable_progress_bar", "false",
        ]  # fmt: skip
        arguments = [self.stage, *self.planned.arguments, *places]
        if self.stage == "fit":
            arguments += ["--trainer.callbacks+", _CALLBACK]
            if os.path.isfile(folder / _RESUME):
                arguments += ["--ckpt_path", str(folder / _RESUME)]
            self._state |= {"started": time.time(), "point": _read_point(folder)}
            self._save()
        else:
            _remove(folder / "test")  # of an unfinished test
            arguments += ["--ckpt_path", str(folder / _BEST)] if self.planned.trained else []
        return Command(PROGRAM, tuple(arguments), folder / f"{self.stage}.log")

    def ended(self, usage: Usage) -> None:
        """Record how the process ended.

        Raises:
            OutputError: the state cannot be written.
        """
        if self.stage == "test":
            self._test_ended(usage)
        elif self.stage == "calibrate":
            self._calibration_ended(usage)
        elif self.stage == "diagnose":
            self._diagnosis_ended(usage)
        else:
            self._fit_ended(usage)

    def _fit_ended(self, usage: Usage) -> None:
        self._fit = usage
        if usage.interruption:
            self.interrupted = usage.reason("training")
        elif usage.status:
            self._fault = usage.reason("training")
        else:
            self.interrupted = self._unfinished()
        if self.stage == "over":
            return  # the resume point is kept
        spent = self._state["spent"]
        self._state["fit"] = {
            **usage.plain(),
            "wall_s": round(usage.wall_s + spent["wall_s"], 1),
            "cpu_s": round(usage.cpu_s + spent["cpu_s"], 1),
            "resumed": self._state["resumed"],
        }
        self._save()
        for path in (self.folder / _RESUME, self.folder / _POINT):
            with cannot_write(path):
                path.unlink(missing_ok=True)  # no longer needed; the full sizes have several GB

    def _unfinished(self) -> str:
        """Return why a training that ended with status 0 is not complete; empty if it is."""
        try:
            point = _read(self.folder / _POINT, Point, "it was cut short")
        except DataFormatError as error:
            return f"training ended with status 0, but its progress is not known: {error}"
        if point is None:
            return f"training ended with status 0 but left no {_POINT.name}: it is not complete"
        short = self._goal.short_of(Point(**point))
        return f"training ended with status 0, but {short}" if short else ""

    def _calibration_ended(self, usage: Usage) -> None:
        if usage.interruption:
            self.interrupted = usage.reason("the calibration")
        elif usage.status:
            self._fault = usage.reason("the calibration")
        elif not os.path.isfile(self.folder / _PRESENCE):
            self._fault = f"the calibration left no {_PRESENCE.name}"
        self._calibrated = True

    def _diagnosis_ended(self, usage: Usage) -> None:
        if usage.interruption:
            self.interrupted = usage.reason("the diagnosis")
        elif usage.status:
            self._fault = usage.reason("the diagnosis")
        self._diagnosed = True

    def _test_ended(self, usage: Usage) -> None:
        if usage.interruption:
            self.interrupted = usage.reason("the test")
            return
        self._test = usage
        if usage.status:
            self._fault = usage.reason("the test")
            return
        path = self.folder / _RESULT
        try:
            self._result = _read(path, Result, "run the job again")
        except DataFormatError as error:
            self._fault = f"the test left a record that cannot be used: {error}"
            return
        if self._result is None:
            self._fault = f"the test left no {path.name}"
        elif fault := self._goal.fault(self._result):
            self._fault = f"the test is not that of the job: {fault}"

    def finish(self) -> dict[str, Any]:
        """Write ``job.json`` and return it; nothing is written for an interrupted job, so that it can be resumed.

        Raises:
            OutputError: it cannot be written.
        """
        failed = self._fit and {**self._fit.plain(), "resumed": self._state["resumed"]}
        record = {
            **described(self.planned),
            "status": "interrupted" if self.interrupted else "failed" if self._fault else "finished",
            "reason": self.interrupted or self._fault,
            "fit": self._state["fit"] or failed,
            "test": None if self._test is None else self._test.plain(),
            "result": None if self._fault else self._result,
            "profile": None,
        }
        if self.interrupted:
            return record
        write_json(self.folder / RECORD, record)
        if not self._fault:
            with cannot_write(self.folder / STATE):
                (self.folder / STATE).unlink(missing_ok=True)
        return record

    def _go_on(self) -> None:
        """Add the time of the interrupted attempt up to its last resume point."""
        state, done = self._state, _read_point(self.folder)
        state["resumed"] += 1
        if done is not None and _is_own(done, state):
            spent = state["spent"]
            wall_s = done.get("wall_s")
            if wall_s is None:  # by the system clock, which may have been adjusted
                wall_s = max(0.0, done["time"] - state["started"])
            spent["cpu_s"] = round(spent["cpu_s"] + done["cpu_s"], 1)
            spent["wall_s"] = round(spent["wall_s"] + wall_s, 1)
            state["point"] = done
        self._save()

    def _save(self) -> None:
        write_json(self.folder / STATE, self._state)


def _is_own(point: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    """Return whether the last attempt wrote a resume point, by comparison with its start instead of by time."""
    before = state["point"] or {}
    return any(point.get(name) != before.get(name) for name in ("epoch", "batch", "step", "cpu_s"))


def _remove(folder: Path) -> None:
    with cannot_write(folder):
        if folder.is_symlink() or os.path.isfile(folder):
            folder.unlink()
        elif os.path.exists(folder):
            shutil.rmtree(folder)


def described(planned: Planned) -> dict[str, Any]:
    """Return the part of a record that identifies the job."""
    job = planned.job
    return {
        "schema": SCHEMA,
        "suite": job.suite,
        "name": job.name,
        "model": job.model,
        "dataset": job.dataset,
        "seed": job.seed,
        "title": job.title,
        "key": planned.key,
        "key_parts": dict(planned.parts),
        "role": job.role,
        "against": list(job.against),
    }


def failure(planned: Planned, reason: str) -> dict[str, Any]:
    """Return the record of a job that did not run at all."""
    nothing = dict.fromkeys(("fit", "test", "result", "profile"))
    return {**described(planned), "status": "failed", "reason": reason, **nothing}


def cannot_start(planned: Planned, folder: Path) -> dict[str, Any]:
    """Return the record of a job that cannot start, and write it unless there is an earlier result.

    Whether that still counts is not known: its inputs cannot be read (because a disk is not mounted, for instance).
    """
    record = failure(planned, planned.fault)
    try:
        earlier = read_job(folder, planned.job.name)
    except DataFormatError:
        return record  # the earlier status is not known either
    if earlier is None or earlier["status"] != "finished":
        write_json(folder / RECORD, record)
    return record
