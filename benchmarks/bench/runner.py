"""Runs the jobs of a suite in parallel and prints one line per event. No torch."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.jobs import (
    RECORD,
    Decision,
    JobRun,
    Planned,
    cannot_start,
    decide,
    failure,
    read_job,
)
from bench.load import Load
from bench.plan import Slot
from bench.processes import Process, Processes, Usage, last_lines
from bench.progress import SILENT_S, Progress, Say
from bench.records import Owner, ProfileList
from bench.suites import Suite
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError, OutputError, RRSISError
from rrsis_zoo.files import make_folder, reason, write_bytes, write_json
from rrsis_zoo.tables.records import Profile, read_record

PROFILER = "bench.profiles"
"""Module that measures the costs of models."""

_LOCKS = ".locks"
_EVERY = 0.2  # seconds between two checks of the processes


class Clock:
    """Prints lines with the time since the start.

    Args:
        start: by ``time.monotonic``.
    """

    def __init__(self, start: float) -> None:
        self._start = start

    def __call__(self, text: str) -> None:
        """Print a line."""
        minutes, seconds = divmod(int(time.monotonic() - self._start), 60)
        print(f"[{minutes:3d}:{seconds:02d}] {text}", flush=True)

    @property
    def minutes(self) -> float:
        """Minutes since the start."""
        return (time.monotonic() - self._start) / 60


# -- running -----------------------------------------------------------------------------------------------------------


def run_jobs(
    planned: Sequence[Planned],
    folder: Path,
    places: Sequence[Slot],
    retry: bool,
    processes: Processes,
    say: Say,
    load: Load | None = None,
) -> list[dict[str, Any]]:
    """Run all jobs that need it and return the records of all jobs, in their order.

    Args:
        planned: the jobs.
        folder: of the suite's runs; each job has its own folder in it.
        places: where jobs run, one at a time each.
        retry: whether failed jobs are retried.
        processes: ends all processes if this is interrupted.
        say: gets one line per event, see `bench.progress`.
        load: of the machine, which it warns of; None not to.

    Returns:
        The records; that of an interrupted job has the status ``interrupted`` and is not written to a file.

    Raises:
        OutputError: the folder, or a file in it, cannot be written.
    """
    queue, free = deque(planned), deque(places)
    running: list[_Running] = []
    records: dict[str, dict[str, Any]] = {}
    due = [p.job for p in planned if decide(p, folder / p.job.name, retry).runs]
    progress = Progress(due, len(places), load, say)
    begun = 0
    try:
        while queue or running:
            while queue and free:
                job = queue.popleft()
                started = _begin(job, folder, retry, records, say)
                if started is None:
                    continue
                run, decision, lock = started
                begun += 1
                place = free.popleft()
                where = f"{begun} of {len(due)}{place.name and f', {place.name}'}"
                say(f"{job.job.name}: {_doing(decision, job.trained)} ({where})")
                running.append(_Running(run, _start(run, place, processes), place, lock))
                progress.begins(run)
            progress.look()
            for one in list(running):
                usage = processes.poll(one.process)
                if usage is None:
                    continue
                one.run.ended(usage)
                if one.run.stage != "over":
                    stage = one.run.stage
                    doing = {"calibrate": "calibrating", "diagnose": "diagnosing"}.get(stage, "testing")
                    # the training has ended
                    if stage == "calibrate" or (stage == "test" and not one.run.planned.job.calibrate):
                        progress.test_begins(one.name)
                    say(f"{one.name}: {doing} (training took {one.run.train_cpu_s / 60:.1f} min of processor time)")
                    one.process = _start(one.run, one.place, processes)
                    continue
                records[one.name] = record = one.run.finish()
                say(f"{one.name}: {_outcome(record, folder / one.name)}")
                running.remove(one)
                free.append(one.place)
                one.lock.release()
                progress.ends(one.name, record["status"] == "finished")
            time.sleep(_EVERY)
    finally:
        _end(running, processes)
    return [records[p.job.name] for p in planned]


def _end(running: Sequence[_Running], processes: Processes) -> None:
    """End running jobs, gracefully if there is time, and record their progress."""
    try:
        ended = processes.stop() if running else {}
        for one in running:
            usage = ended.get(one.process.popen.pid)
            if usage is not None:
                with suppress(RRSISError):  # if it cannot be recorded now, it is determined on resuming
                    one.run.ended(usage)
                    if one.run.stage == "over":
                        one.run.finish()
    finally:
        for one in running:
            processes.end(one.process)
            one.lock.release()


@dataclass
class _Running:
    run: JobRun
    process: Process
    place: Slot
    lock: FileLock

    @property
    def name(self) -> str:
        return self.run.planned.job.name


def _begin(
    planned: Planned, folder: Path, retry: bool, records: dict[str, dict[str, Any]], say: Say
) -> tuple[JobRun, Decision, FileLock] | None:
    """Start a job; None if there is nothing to run, and its record is known."""
    name = planned.job.name
    place = folder / name
    try:
        lock = _hold(folder, name)
    except Timeout:
        say(f"{name}: another process runs it; skipped")
        fault = "another process was running it"
        records[name] = {"name": name, "status": "failed", "reason": fault, "key": planned.key}
        return None
    held = False
    try:
        decision = decide(planned, place, retry)
        if decision.runs:
            run = JobRun(planned, place, decision)
            held = True
            return run, decision, lock
        if decision.action == "blocked":
            records[name] = cannot_start(planned, place)
            say(f"{name}: cannot start: {decision.why}")
        else:
            records[name] = _earlier(planned, place, decision)
            say(f"{name}: {decision.why}")
    finally:
        if not held:
            lock.release()
    return None


def _earlier(planned: Planned, folder: Path, decision: Decision) -> dict[str, Any]:
    """Return the record in a job's folder; a record of failure if it is damaged."""
    try:
        record = read_job(folder, planned.job.name)
    except DataFormatError:
        record = None
    return failure(planned, decision.why) if record is None else record


def _start(run: JobRun, place: Slot, processes: Processes) -> Process:
    command = run.command()
    return processes.start(command.module, command.arguments, command.log, place.environment)


def _doing(decision: Decision, trained: bool) -> str:
    doing = {"start": "training", "resume": "training", "test": "testing"}[decision.action] if trained else "testing"
    return doing if decision.why == "new" else f"{doing}: {decision.why}"


def _outcome(record: Mapping[str, Any], folder: Path) -> str:
    if record["status"] != "finished":
        log = folder / _last_log(record, folder)
        if record["status"] == "interrupted":
            return f"INTERRUPTED: {record['reason']}; the next run resumes it; log: {log}"
        return f"FAILED: {record['reason']}; log: {log}"
    minutes = sum(record[stage]["wall_s"] for stage in ("fit", "test") if record[stage]) / 60
    again = f", resumed {record['fit']['resumed']} x" if record["fit"] and record["fit"]["resumed"] else ""
    return f"finished in {minutes:.1f} min{again}: {miou_text(record)}"


def _last_log(record: Mapping[str, Any], folder: Path) -> str:
    """Return the name of the log of the stage that a job ended in."""
    if record["test"] is not None or not (folder / "fit.log").exists():
        return "diagnose.log" if "diagnosis" in record["reason"] else "test.log"
    return "calibrate.log" if "calibration" in record["reason"] else "fit.log"


def miou_text(record: Mapping[str, Any]) -> str:
    """Return the mIoU in a finished job's record as text."""
    miou = record["result"]["metrics"].get("miou")
    return "no mIoU" if miou is None else f"mIoU {miou:.1f}"


# -- profiles ----------------------------------------------------------------------------------------------------------


def run_profiles(
    planned: Sequence[Planned], records: Sequence[Mapping[str, Any]], folder: Path, place: Slot, processes: Processes,
    say: Say,
) -> list[str]:  # fmt: skip
    """Profile every model of the suite once, one after another, so that they do not disturb each other's timing.

    The profile is added to the record of the first finished job of each trained model as soon as it exists; an ablation
    needs none, since it costs the same as its model, and a training-free method has no step that could be measured.

    Returns:
        One line for each failure.
    """
    due = _to_profile(planned, records, folder, say)
    if not due:
        return []
    say(f"profiling, one after another: {', '.join(one.name for one in due)}")
    listed, log = folder / "profiles.json", folder / "profiles.log"
    for file in (log, *(one.log for one in due)):
        write_bytes(file, b"")
    write_json(listed, {"profiles": [one.entry for one in due]})
    process = processes.start(PROFILER, [str(listed)], log, place.environment)
    faults: list[str] = []
    over, ended, heard = 0, None, time.monotonic()
    while ended is None:
        ended = processes.poll(process)  # before reading the list: after the end nothing is added
        entries = read_record(listed, ProfileList, "run the suite again")["profiles"]
        for one, entry in zip(due[over:], entries[over:], strict=True):
            if "status" in entry:
                fault = one.take(Usage(entry["status"], 0.0, 0.0, last_lines(one.log)))
            elif ended is not None:
                fault = f"{ended.reason('profiling')}; log: {log}"
            else:
                break
            over += 1
            if fault:
                faults.append(f"{one.name}: {fault}")
            say(faults[-1] if fault else f"{one.name}: profiled")
            heard = time.monotonic()
        if time.monotonic() - heard >= SILENT_S and over < len(due):
            say(f"{due[over].name}: still profiling")
            heard = time.monotonic()
        time.sleep(_EVERY)
    return faults


@dataclass(frozen=True)
class _Profile:
    """A profile to make, with the job's record and folder."""

    record: Mapping[str, Any]
    home: Path
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.record["name"]

    @property
    def log(self) -> Path:
        return self.home / "profile.log"

    @property
    def entry(self) -> dict[str, Any]:
        """The entry for `bench.profiles`."""
        return {"arguments": ["--out", str(self.home / "profile.json"), *self.arguments], "log": str(self.log)}

    def take(self, usage: Usage) -> str:
        """Add the profile to the record; return what went wrong, empty on success."""
        if usage.status:
            return f"{usage.reason('profiling')}; log: {self.log}"
        try:
            measured = read_record(self.home / "profile.json", Profile, "profile it again")
        except (MissingDataError, DataFormatError) as error:
            return f"profiling left no usable file: {error}; log: {self.log}"
        write_json(self.home / RECORD, {**self.record, "profile": measured})
        return ""


def _to_profile(
    planned: Sequence[Planned], records: Sequence[Mapping[str, Any]], folder: Path, say: Say
) -> list[_Profile]:
    """Return the missing profiles."""
    due: list[_Profile] = []
    seen: set[str] = set()
    for one, record in zip(planned, records, strict=True):
        job = one.job
        if record["status"] != "finished" or job.role == "ablation" or job.model in seen or not one.trained:
            continue
        seen.add(job.model)
        if record["profile"] is None:
            due.append(_Profile(record, folder / job.name, one.arguments))
        else:
            say(f"{job.name}: profiled earlier")
    return due


# -- one runner at a time ----------------------------------------------------------------------------------------------


@contextmanager
def only_runner(folder: Path) -> Iterator[None]:
    """Lock a folder of runs; the lock is released when this process ends, in any way.

    Raises:
        ConfigError: another runner uses it.
        OutputError: it cannot be written.
    """
    owner = folder / _LOCKS / "suite.json"
    try:
        lock = _hold(folder, "suite")
    except Timeout:
        other: Mapping[str, Any] = {}
        with suppress(MissingDataError, DataFormatError):  # it has just started or ended
            other = read_record(owner, Owner, "it was cut short")
        raise ConfigError(
            f"another runner uses {folder} (process {other.get('pid', '?')} on {other.get('host', '?')}, since "
            f"{other.get('since', '?')}): wait for it, stop it, or give another folder with --runs"
        ) from None
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        write_json(owner, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        yield
    finally:
        lock.release()


def _hold(folder: Path, name: str) -> FileLock:
    """Take a lock and return it.

    Raises:
        Timeout: another process holds it.
        OutputError: its file cannot be written.
    """
    path = make_folder(folder / _LOCKS) / f"{name}.lock"
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:  # also an OSError
        raise
    except (OSError, NotImplementedError) as error:  # the latter if the file system has no locks
        raise OutputError(f"{path} cannot be locked ({reason(error)})") from error
    return lock


def summary(suite: Suite, records: Sequence[Mapping[str, Any]], minutes: float) -> list[str]:
    """Return the outcome of the suite as text: its time and the limit, and every failure."""
    left = [record for record in records if record["status"] != "finished"]
    spent = sum(record[stage]["cpu_s"] for record in records for stage in ("fit", "test") if record.get(stage)) / 60
    limit = f" (limit {suite.minutes:g})" if suite.minutes else ""
    lines = [
        f"{suite.name}: {len(records) - len(left)} of {len(records)} jobs finished; this took {minutes:.1f} "
        f"minutes{limit}, all jobs together {spent:.1f} minutes of processor time"
    ]
    for record in left:
        word = "INTERRUPTED" if record["status"] == "interrupted" else "FAILED"
        lines.append(f"{word} {record['name']}: {record['reason']}")
    return lines


def write_suite(suite: Suite, folder: Path) -> None:
    """Write ``suite.json`` next to the jobs, for tables and reports.

    Raises:
        OutputError: it cannot be written.
    """
    write_json(folder / "suite.json", suite.described())
