"""The folder of a training: who writes in it, and what a training goes on from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from filelock import FileLock, Timeout
from pydantic import Field

from rrsis_zoo import slurm
from rrsis_zoo.errors import ConfigError, RRSISError, WeightsMismatchError
from rrsis_zoo.files import make_folder, read_text, remove_parts, write_text
from rrsis_zoo.schema import Strict, checked
from rrsis_zoo.training.checkpoint_io import read
from rrsis_zoo.training.progress import position
from rrsis_zoo.yaml_files import read_yaml

CHECKPOINTS, CONFIG = "checkpoints", "config.yaml"
RESUME, LAST = "resume.ckpt", "last.ckpt"
LOCK = ".lock"

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]

_PATIENCE_S = 20.0  # loading processes of a training that was killed hold its lock until they notice, within 5 s


class RunLock:
    """Keeps a second training out of a run's folder, and clears up what a killed one left there.

    Args:
        folder: of the run; it is made.

    Raises:
        ConfigError: another training writes in it.
        OutputError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder / CHECKPOINTS)
        self._lock = FileLock(folder / LOCK)
        try:
            self._lock.acquire(timeout=_PATIENCE_S)
        except Timeout:
            raise ConfigError(
                f"another training writes in {folder}: wait for it, end it, or start this one in another folder"
            ) from None
        except (NotImplementedError, OSError):  # a file system without locks: nobody can tell who else is there
            return
        for place in (folder, folder / CHECKPOINTS):
            remove_parts(place)

    def release(self) -> None:
        """Let the next one in."""
        self._lock.release()


class Where(Strict):
    """What a resume point says of itself.

    Attributes:
        epoch, batch, step, validating, ended: see `rrsis_zoo.training.progress.Position`.
        finished: whether the training has come to its end there.
        rows: how many the log has.
        batch_size: None where the data is not ours.
        processes, accumulate: with the batch size, what a batch and a step are.
    """

    epoch: Count
    batch: Count
    step: Count
    validating: bool
    ended: bool
    finished: bool
    rows: Count
    batch_size: Positive | None
    processes: Positive
    accumulate: Positive


@dataclass(frozen=True)
class Run:
    """A training that goes on.

    Attributes:
        folder: absolute; checkpoints and log are continued there.
        point: checkpoint to go on from.
        epoch: epochs that are done there.
        step: optimiser steps that are done there.
        finished: whether the training had come to its end.
    """

    folder: Path
    point: Path
    epoch: int
    step: int
    finished: bool

    @property
    def config(self) -> Path:
        """The configuration with which it ran."""
        return self.folder / CONFIG

    def left(self, config: Any) -> bool:
        """Tell whether a configuration asks for more than is done: other limits, and not those reached already.

        Args:
            config: of the training that is to go on, as ``rrsis fit`` has parsed it.
        """
        asked = {name: config["trainer"].get(name) for name in _LIMITS}
        epochs, steps = asked["max_epochs"], asked["max_steps"]
        if epochs is None and steps in (None, -1) and asked["max_time"] is None:
            epochs = 1000  # Lightning's own limit where there is none
        if epochs not in (None, -1) and self.epoch >= epochs:
            return False
        if steps not in (None, -1) and self.step >= steps:
            return False
        earlier = (_read_config(self.config) or {}).get("trainer") or {}
        return not self.finished or any(_plain(asked[n]) != _plain(earlier.get(n, asked[n])) for n in _LIMITS)


_LIMITS = ("max_epochs", "max_steps", "max_time", "min_epochs", "min_steps")


def find(folder: str | Path) -> Run:
    """Return the training in a run's folder.

    Raises:
        ConfigError: no folder of a run, or nothing in it to go on from.
        WeightsMismatchError: its resume point is damaged.
    """
    folder = Path(folder).expanduser().absolute()
    if not os.path.isdir(folder):
        raise ConfigError(f"--resume {folder}: there is no such folder; it is the one with {CONFIG} and {CHECKPOINTS}")
    if not os.path.isfile(folder / CONFIG):
        inner = sorted(p.parent.name for p in folder.glob(f"*/{CONFIG}"))
        hint = f"; there are runs in it: {', '.join(inner)}" if inner else ""
        raise ConfigError(f"--resume {folder}: it is no run's folder, there is no {CONFIG} in it{hint}")
    found = [run for name in (RESUME, LAST) if (run := _read(folder, folder / CHECKPOINTS / name)) is not None]
    if not found:
        best = folder / CHECKPOINTS / "best.ckpt"
        hint = f"; `--ckpt_path {best}` trains on from the best model" if os.path.isfile(best) else ""
        raise ConfigError(f"--resume {folder}: there is no resume point, {CHECKPOINTS}/{RESUME}, in it{hint}")
    return max(found, key=lambda run: (run.step, run.finished))


def of_this_job(logs: Path, config: dict[str, Any]) -> Run | None:
    """Return the training that a job of a cluster had begun before it was put back into the queue.

    Args:
        logs: folder with the folders of runs.
        config: of the training that is to start; the run that goes on is one of the same job and configuration.
    """
    if not slurm.has_come_back():
        return None
    for path in sorted(logs.glob(f"*/{CONFIG}"), key=lambda p: -p.stat().st_mtime):
        if _read_config(path) == config and os.path.isfile(path.parent / _JOB):
            if read_text(path.parent / _JOB, 100).strip() != slurm.job():
                continue
            try:
                return find(path.parent)
            except ConfigError:  # it had come to no resume point
                continue
    return None


_JOB = ".slurm-job"


def note_job(folder: Path) -> None:
    """Leave the number of the cluster's job in a run's folder, for `of_this_job`."""
    if slurm.job():
        write_text(folder / _JOB, f"{slurm.job()}\n")


def _read(folder: Path, path: Path) -> Run | None:
    """Read how far a checkpoint is; None where there is none, or none that one can go on from."""
    if not os.path.isfile(path):
        return None
    try:
        content = read(path, map_location="cpu", mmap=True)
    except WeightsMismatchError as error:
        raise WeightsMismatchError(f"{error}; without it the run goes on from {LAST}, if that is there") from error
    try:
        states = content["callbacks"].items()
        where = next(state for name, state in states if name.startswith("ResumePoint")).get("where")
        if where is None and path.name == RESUME:  # of a version that wrote them at the end of epochs only
            done = position(content["loops"]["fit_loop"])
            return Run(folder, path, done.epoch, done.step, False)
    except (StopIteration, KeyError, TypeError, AttributeError):  # no resume point: a copy of the best model
        return None
    if where is None:
        return None
    said = checked(Where, where, f"{path}, where its training is", WeightsMismatchError)
    return Run(folder, path, said.epoch, said.step, said.finished)


def _read_config(path: Path) -> dict[str, Any] | None:
    """Return the settings in a run's configuration; None where they cannot be read, of which the parser tells."""
    try:
        content = read_yaml(path)
    except RRSISError:
        return None
    return content if isinstance(content, dict) else None


def _plain(value: Any) -> Any:
    return str(value) if value is not None else None
