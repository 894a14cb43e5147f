"""One job: what is to be done with it, its processes in turn, and the record that it leaves.

Its folder holds ``job.json`` (written when it ends), ``fit.log``, ``test.log``, and the folders of training and test.
While it is under way ``state.json`` says how far it is; what of it survives a kill is enough to go on.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rrsis_zoo.bench.parts import changed
from rrsis_zoo.bench.processes import Usage
from rrsis_zoo.bench.suites import Job

SCHEMA = 1
RECORD, STATE = "job.json", "state.json"

PROGRAM = "rrsis_zoo.cli"
"""Module of the command that jobs run."""

_CHECKPOINTS = Path("fit/version_0/checkpoints")
_RESUME = _CHECKPOINTS / "resume.ckpt"
_CALLBACK = "rrsis_zoo.training.resume.ResumePoint"


@dataclass(frozen=True)
class Planned:
    """A job with its key.

    Attributes:
        job: what the suite says.
        arguments: of ``rrsis fit`` and ``rrsis test``.
        parts: of the key; empty where there is none.
        key: empty where the job cannot start.
        fault: why it cannot start: data or weights that are not here, an option that nobody knows.
        on_gpu: whether its configuration asks for an accelerator.
    """

    job: Job
    arguments: tuple[str, ...]
    parts: Mapping[str, str]
    key: str
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
    record, state = read_json(folder / RECORD), read_json(folder / STATE)
    if record is not None and record.get("key") == planned.key:
        if record["status"] == "finished":
            return Decision("skip", "finished earlier")
        if not retry:
            return Decision("leave", f"failed earlier: {record['reason']}; --retry tries it again")
    again = "failed earlier; " if record is not None and record.get("key") == planned.key else ""
    # the paths of the best checkpoints are in the resume point: in another place it would lose them
    if state is not None and state["key"] == planned.key and state["place"] == str(folder.resolve()):
        if state["fit"] is not None:
            return Decision("test", f"{again}it is trained")
        if (folder / _RESUME).is_file():
            done = read_json((folder / _RESUME).with_suffix(".json")) or {}
            epochs = done.get("epoch", "some")
            return Decision("resume", f"{again}goes on after {epochs} epoch{'s' if epochs != 1 else ''}")
    if record is None or not record.get("key_parts"):
        return Decision("start", f"{again}from the beginning" if again or state else "new")
    if record["key"] == planned.key:
        return Decision("start", f"{again}from the beginning")
    return Decision("start", f"changed since then: {', '.join(changed(record['key_parts'], planned.parts))}")


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
    """

    def __init__(self, planned: Planned, folder: Path, decision: Decision) -> None:
        self.planned, self.folder = planned, folder
        self._fit: Usage | None = None
        self._test: Usage | None = None
        self._fault = ""
        if decision.action == "start":
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self._state: dict[str, Any] = {
                "key": planned.key,
                "place": str(folder.resolve()),
                "spent": {"wall_s": 0.0, "cpu_s": 0.0},
                "started": 0.0,
                "resumed": 0,
                "fit": None,
            }
        else:
            state = read_json(folder / STATE)
            assert state is not None  # decide() has seen it
            self._state = state
            (folder / RECORD).unlink(missing_ok=True)  # of the attempt that failed
        if decision.action == "resume":
            self._go_on()

    @property
    def stage(self) -> Literal["fit", "test", "over"]:
        """What comes next."""
        if self._fault or self._test is not None:
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
            self._state["started"] = time.time()
            self._save()
        else:
            shutil.rmtree(folder / "test", ignore_errors=True)  # of a test that did not end
            arguments += ["--ckpt_path", str(folder / _CHECKPOINTS / "best.ckpt")]
        return Command(PROGRAM, tuple(arguments), folder / f"{self.stage}.log")

    def ended(self, usage: Usage) -> None:
        """Take note of how the process ended."""
        if self.stage == "test":
            self._test = usage
            self._fault = usage.reason("the test") if usage.status else ""
            return
        self._fit = usage
        if usage.status:
            self._fault = usage.reason("training")
            return
        spent = self._state["spent"]
        self._state["fit"] = {
            **usage.plain(),
            "wall_s": round(usage.wall_s + spent["wall_s"], 1),
            "cpu_s": round(usage.cpu_s + spent["cpu_s"], 1),
            "resumed": self._state["resumed"],
        }
        self._save()
        for path in ((self.folder / _RESUME), (self.folder / _RESUME).with_suffix(".json")):
            path.unlink(missing_ok=True)  # it has served; the full sizes have some GB
        _join_logs(self.folder / "fit" / "version_0")

    def finish(self) -> dict[str, Any]:
        """Write ``job.json`` and return it."""
        result = read_json(self.folder / "test" / "version_0" / "test.json") if not self._fault else None
        if not self._fault and result is None:
            self._fault = "the test left no test.json"
        failed = self._fit and {**self._fit.plain(), "resumed": self._state["resumed"]}
        record = {
            **described(self.planned),
            "status": "failed" if self._fault else "finished",
            "reason": self._fault,
            "fit": self._state["fit"] or failed,
            "test": None if self._test is None else self._test.plain(),
            "result": result,
            "profile": None,
        }
        write_json(self.folder / RECORD, record)
        if not self._fault:
            (self.folder / STATE).unlink(missing_ok=True)
        return record

    def _go_on(self) -> None:
        """Count what the interrupted attempt did up to its last checkpoint, and keep its log."""
        state, done = self._state, read_json((self.folder / _RESUME).with_suffix(".json"))
        state["resumed"] += 1
        if done is None or done["time"] < state["started"]:
            return  # it came to no checkpoint of its own: nothing of it counts
        state["spent"]["cpu_s"] = round(state["spent"]["cpu_s"] + done["cpu_s"], 1)
        state["spent"]["wall_s"] = round(state["spent"]["wall_s"] + done["time"] - state["started"], 1)
        state["started"] = time.time()
        self._save()
        log = self.folder / "fit" / "version_0" / "metrics.csv"
        if log.is_file():  # the logger begins a new one
            os.replace(log, log.with_name(f"metrics.until-{done['step']}.csv"))

    def _save(self) -> None:
        write_json(self.folder / STATE, self._state)


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


def cannot_start(planned: Planned, folder: Path) -> dict[str, Any]:
    """Return the record of a job that cannot start, and write it unless an earlier result lies there.

    Whether that still counts is not known: what decides it cannot be read (a disk that is not mounted, for instance).
    """
    record = {
        **described(planned), "status": "failed", "reason": planned.fault,
        "fit": None, "test": None, "result": None, "profile": None,
    }  # fmt: skip
    if (read_json(folder / RECORD) or record)["status"] != "finished":
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / RECORD, record)
    return record


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the content of a file that ``write_json`` wrote; None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file whole or not at all, whoever else writes it at the same time."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    draft.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(draft, path)


def _join_logs(folder: Path) -> None:
    """Put the parts of an interrupted training's log together, each up to the step at which the next one took over."""
    parts = sorted((int(p.stem.rpartition("-")[2]), p) for p in folder.glob("metrics.until-*.csv"))
    if not parts:
        return
    rows: list[dict[str, str]] = []
    for path, last in [*((p, step) for step, p in parts), (folder / "metrics.csv", None)]:
        if not path.is_file():
            continue  # interrupted after the last epoch: nothing was left to log
        with path.open(encoding="utf-8", newline="") as file:
            rows += [row for row in csv.DictReader(file) if last is None or int(row["step"]) < last]
    columns = sorted({name for row in rows for name in row})
    draft = folder / ".metrics.csv.part"
    with draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(draft, folder / "metrics.csv")
    for _, path in parts:
        path.unlink()
