"""One job: what is to be done with it, its processes in turn, and the record that it leaves.

Its folder holds ``job.json`` (written when it ends), ``fit.log``, ``test.log``, and the folders of training and test.
While it is under way ``state.json`` says how far it is; what of it survives a kill is enough to go on.

A process that ends with status 0 proves nothing: a training counts as finished when its last resume point is its end,
as far as was planned, and a test when its record is about the whole split.
"""

from __future__ import annotations

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

SCHEMA = 1
RECORD, STATE = "job.json", "state.json"

PROGRAM = "rrsis_zoo.cli"
"""Module of the command that jobs run."""

_CHECKPOINTS = Path("fit/version_0/checkpoints")
_RESUME = _CHECKPOINTS / "resume.ckpt"
_POINT = _CHECKPOINTS / "resume.json"
_RESULT = Path("test/version_0/test.json")
_CALLBACK = "rrsis_zoo.training.resume.ResumePoint"


@dataclass(frozen=True)
class Goal:
    """What a job has to come to.

    Attributes:
        epochs, steps: of the training, which ends with whichever is there first; None for no limit.
        may_stop: whether the training may end before: early stopping, a limit of time.
        protocol, split: of the test.
        samples: how many the test asks.
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
        """Return what a training lacks that ended here, in words; nothing if it came to its end."""
        return short_of(point, self.epochs, self.steps, self.may_stop)

    def fault(self, result: Mapping[str, Any]) -> str:
        """Return why a ``test.json`` is not the result of this job; nothing if it is."""
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
    """Return when a training ends: epochs, steps, and whether it may end before, as `Goal` says it.

    Args:
        trainer: its section of a configuration.
    """
    epochs, steps = (None if n is None or n < 0 else n for n in (trainer["max_epochs"], trainer["max_steps"]))
    timed = trainer.get("max_time") is not None
    if trainer["max_epochs"] is None and steps is None and not timed:
        epochs = 1000  # Lightning's, where nothing is said
    callbacks = trainer.get("callbacks") or []
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    return epochs, steps, timed or any(_may_stop(callback["class_path"]) for callback in callbacks)


def _may_stop(class_path: str) -> bool:
    """Tell whether a callback may end a training early: by a score, by the clock, or for all we know."""
    package, _, name = class_path.rpartition(".")
    ours = package.partition(".")[0] in ("lightning", "pytorch_lightning", "rrsis_zoo")
    return not ours or name in ("EarlyStopping", "Timer")


def short_of(point: Point, epochs: int | None, steps: int | None, may_stop: bool) -> str:
    """Return how far a training came, in words, if that is not where it should have ended; else nothing.

    Args:
        point: its last resume point.
        epochs, steps: when it should end, see `Goal`.
        may_stop: whether it may have ended before.
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
        job: what the suite says.
        arguments: of ``rrsis fit`` and ``rrsis test``.
        parts: of the key; empty where there is none.
        key: empty where the job cannot start.
        goal: what it has to come to; None where it cannot start.
        fault: why it cannot start: data or weights that are not here, an option that nobody knows.
        on_gpu: whether its configuration asks for an accelerator.
    """

    job: Job
    arguments: tuple[str, ...]
    parts: Mapping[str, str]
    key: str
    goal: Goal | None
    fault: str = ""
    on_gpu: bool = False


Action = Literal["skip", "leave", "blocked", "start", "resume", "test"]
"""``skip``: finished. ``leave``: failed earlier, nobody asked to try again. ``blocked``: cannot start. ``start``: from
the beginning. ``resume``: from its last checkpoint. ``test``: it is trained."""


@dataclass(frozen=True)
class Decision:
    """What is to be done with a job, and why in a few words."""

    action: Action
    why: str

    @property
    def runs(self) -> bool:
        """Whether there is something to run."""
        return self.action in ("start", "resume", "test")


def decide(planned: Planned, folder: Path, retry: bool) -> Decision:
    """Look at a job's folder.

    Args:
        planned: the job as it is now.
        folder: its own.
        retry: whether a failed job is tried again.
    """
    if planned.fault:
        return Decision("blocked", planned.fault)
    try:
        record = read_job(folder, planned.job.name)
    except DataFormatError as error:  # perhaps the only trace of days of training: nobody redoes them unasked
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
    # the paths of the best checkpoints are in the resume point: in another place it would lose them
    if state is not None and state["key"] == planned.key and state["place"] == str(folder.resolve()):
        if state["fit"] is not None:
            return Decision("test", f"{again}it is trained")
        if (folder / _RESUME).is_file():
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
    """Return the content of a folder's ``job.json``; None where there is none.

    Args:
        folder: of the job.
        name: of the job.

    Raises:
        DataFormatError: it is damaged, or the record of a job of another name.
    """
    path = folder / RECORD
    record = _read(path, JobFile, "run the suite again")
    if record is not None and record["name"] != name:
        raise DataFormatError(f"{path} is the record of {record['name']}: another job's folder was copied here")
    return record


def _read_state(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """Return ``state.json``, None where there is none that can be used, and why it cannot."""
    try:
        return _read(folder / STATE, State, "it was cut short"), ""
    except DataFormatError as error:
        return None, str(error)


def _read_point(folder: Path) -> dict[str, Any] | None:
    """Return what ``resume.json`` says; None where it says nothing: the checkpoint is what counts."""
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
    """A job under way.

    Args:
        planned: the job.
        folder: its own.
        decision: ``start``, ``resume`` or ``test``.

    Raises:
        OutputError: its folder cannot be made or emptied.
    """

    def __init__(self, planned: Planned, folder: Path, decision: Decision) -> None:
        assert planned.goal is not None  # decide() lets nothing else through
        self.planned, self.folder, self._goal = planned, folder, planned.goal
        self._fit: Usage | None = None
        self._test: Usage | None = None
        self._result: dict[str, Any] | None = None
        self._fault = ""
        self.interrupted = ""
        """Why a process ended before its time, so that the job is to go on later; empty if none did."""
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
            assert state is not None  # decide() has seen it
            self._state = state
            with cannot_write(folder / RECORD):
                (folder / RECORD).unlink(missing_ok=True)  # of the attempt that failed
        if decision.action == "resume":
            self._go_on()

    @property
    def stage(self) -> Literal["fit", "test", "over"]:
        """What comes next."""
        if self._fault or self.interrupted or self._test is not None:
            return "over"
        return "fit" if self._state["fit"] is None else "test"

    @property
    def train_cpu_s(self) -> float:
        """Processor time of the training that has ended, in seconds, without what an interruption lost."""
        return self._state["fit"]["cpu_s"]

    def command(self) -> Command:
        """Return the process that comes next; called when it is about to start."""
        folder = self.folder
        places = [
            "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(folder), "--trainer.logger.version", "0",
            "--trainer.logger.name", self.stage, "--trainer.enable_progress_bar", "false",
        ]  # fmt: skip
        arguments = [self.stage, *self.planned.arguments, *places]
        if self.stage == "fit":
            arguments += ["--trainer.callbacks+", _CALLBACK]
            if (folder / _RESUME).is_file():
                arguments += ["--ckpt_path", str(folder / _RESUME)]
            self._state |= {"started": time.time(), "point": _read_point(folder)}
            self._save()
        else:
            _remove(folder / "test")  # of a test that did not end
            arguments += ["--ckpt_path", str(folder / _CHECKPOINTS / "best.ckpt")]
        return Command(PROGRAM, tuple(arguments), folder / f"{self.stage}.log")

    def ended(self, usage: Usage) -> None:
        """Take note of how the process ended.

        Raises:
            OutputError: that cannot be written.
        """
        if self.stage == "test":
            self._test_ended(usage)
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
            return  # the resume point stays
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
                path.unlink(missing_ok=True)  # it has served; the full sizes have some GB

    def _unfinished(self) -> str:
        """Return why a training that ended with status 0 is not at its end; nothing if it is."""
        try:
            said = _read(self.folder / _POINT, Point, "it was cut short")
        except DataFormatError as error:
            return f"training ended with status 0, and how far it came is not known: {error}"
        if said is None:
            return f"training ended with status 0 and left no {_POINT.name}: it did not come to its end"
        short = self._goal.short_of(Point(**said))
        return f"training ended with status 0, but {short}" if short else ""

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
        """Write ``job.json`` and return it; of a job that was interrupted nothing is written, so that it goes on.

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
        """Count what the interrupted attempt did up to its last resume point."""
        state, done = self._state, _read_point(self.folder)
        state["resumed"] += 1
        if done is not None and _is_own(done, state):
            spent = state["spent"]
            wall_s = done.get("wall_s")
            if wall_s is None:  # by the clock, which may have been set
                wall_s = max(0.0, done["time"] - state["started"])
            spent["cpu_s"] = round(spent["cpu_s"] + done["cpu_s"], 1)
            spent["wall_s"] = round(spent["wall_s"] + wall_s, 1)
            state["point"] = done
        self._save()

    def _save(self) -> None:
        write_json(self.folder / STATE, self._state)


def _is_own(point: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    """Tell whether the attempt that ended wrote a resume point, by what lay there when it began; no clock is asked."""
    before = state["point"] or {}
    return any(point.get(name) != before.get(name) for name in ("epoch", "batch", "step", "cpu_s"))


def _remove(folder: Path) -> None:
    with cannot_write(folder):
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        elif folder.exists():
            shutil.rmtree(folder)


def described(planned: Planned) -> dict[str, Any]:
    """Return the part of a record that says whose it is."""
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
    """Return the record of a job of which nothing was run."""
    nothing = dict.fromkeys(("fit", "test", "result", "profile"))
    return {**described(planned), "status": "failed", "reason": reason, **nothing}


def cannot_start(planned: Planned, folder: Path) -> dict[str, Any]:
    """Return the record of a job that cannot start, and write it unless an earlier result lies there.

    Whether that still counts is not known: what decides it cannot be read (a disk that is not mounted, for instance).
    """
    record = failure(planned, planned.fault)
    try:
        earlier = read_job(folder, planned.job.name)
    except DataFormatError:
        return record  # what it was is not known either
    if earlier is None or earlier["status"] != "finished":
        write_json(folder / RECORD, record)
    return record
