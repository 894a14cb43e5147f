"""The folder of a training run: locking it, and finding the point to resume from."""

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

_PATIENCE_S = 20.0  # the loading processes of a killed training hold its lock until they notice, within 5 s


class RunLock:
    """Keeps a second training out of a run's folder, and removes partial files of a killed one.

    Args:
        folder: of the run; it is created.

    Raises:
        ConfigError: another training is writing to it.
        OutputError: the folder cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder / CHECKPOINTS)
        self._lock = FileLock(folder / LOCK)
        try:
            self._lock.acquire(timeout=_PATIENCE_S)
        except Timeout:
            raise ConfigError(
                f"another training is writing to {folder}: wait for it, stop it, or use another folder"
            ) from None
        except (NotImplementedError, OSError):  # a file system without locks: other trainings cannot be detected
            return
        for place in (folder, folder / CHECKPOINTS):
            remove_parts(place)

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()


class Where(Strict):
    """The position that a resume point records.

    Attributes:
        epoch, batch, step, validating, ended: see `rrsis_zoo.training.progress.Position`.
        finished: whether the training was complete.
        rows: number of rows in the log.
        batch_size: None if the data do not come from our data module.
        processes, accumulate: they determine, with the batch size, the size of a batch and of a step.
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
    """A training run to resume.

    Attributes:
        folder: absolute path; checkpoints and log are continued there.
        point: checkpoint to resume from.
        epoch: epochs done at that point.
        step: optimiser steps done at that point.
        finished: whether the training was complete.
    """

    folder: Path
    point: Path
    epoch: int
    step: int
    finished: bool

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.folder / CONFIG

    def left(self, config: Any) -> bool:
        """Return whether a configuration leaves anything to do: its limits differ, and are not reached yet.

        Args:
            config: for the rest of the training, as parsed by ``rrsis fit``.
        """
        asked = {name: config["trainer"].get(name) for name in _LIMITS}
        epochs, steps = asked["max_epochs"], asked["max_steps"]
        if epochs is None and steps in (None, -1) and asked["max_time"] is None:
            epochs = 1000  # Lightning's default limit
        if epochs not in (None, -1) and self.epoch >= epochs:
            return False
        if steps not in (None, -1) and self.step >= steps:
            return False
        earlier = (_read_config(self.config) or {}).get("trainer") or {}
        return not self.finished or any(_plain(asked[n]) != _plain(earlier.get(n, asked[n])) for n in _LIMITS)


_LIMITS = ("max_epochs", "max_steps", "max_time", "min_epochs", "min_steps")


def find(folder: str | Path) -> Run:
    """Return the training run in a folder.

    Raises:
        ConfigError: not a run's folder, or it has no resume point.
        WeightsMismatchError: its resume point is damaged.
    """
    folder = Path(folder).expanduser().absolute()
    if not os.path.isdir(folder):
        raise ConfigError(f"--resume {folder}: there is no such folder; give the one with {CONFIG} and {CHECKPOINTS}")
    if not os.path.isfile(folder / CONFIG):
        inner = sorted(p.parent.name for p in folder.glob(f"*/{CONFIG}"))
        hint = f"; it contains the runs {', '.join(inner)}" if inner else ""
        raise ConfigError(f"--resume {folder}: not the folder of a run, it has no {CONFIG}{hint}")
    runs = [run for name in (RESUME, LAST) if (run := _read(folder, folder / CHECKPOINTS / name)) is not None]
    if not runs:
        best = folder / CHECKPOINTS / "best.ckpt"
        hint = f"; `--ckpt_path {best}` continues from the best model" if os.path.isfile(best) else ""
        raise ConfigError(f"--resume {folder}: it has no resume point, {CHECKPOINTS}/{RESUME}{hint}")
    return max(runs, key=lambda run: (run.step, run.finished))


def of_this_job(logs: Path, config: dict[str, Any]) -> Run | None:
    """Return the training run that a cluster job had started before it was requeued.

    Args:
        logs: folder with the folders of runs.
        config: of the training to start; only a run with the same job and configuration is resumed.
    """
    if not slurm.has_come_back():
        return None
    for path in sorted(logs.glob(f"*/{CONFIG}"), key=lambda p: -p.stat().st_mtime):
        if _read_config(path) == config and os.path.isfile(path.parent / _JOB):
            if read_text(path.parent / _JOB, 100).strip() != slurm.job():
                continue
            try:
                return find(path.parent)
            except ConfigError:  # it has no resume point yet
                continue
    return None


_JOB = ".slurm-job"


def note_job(folder: Path) -> None:
    """Write the cluster job's number to a run's folder, for `of_this_job`."""
    if slurm.job():
        write_text(folder / _JOB, f"{slurm.job()}\n")


def _read(folder: Path, path: Path) -> Run | None:
    """Read the position of a checkpoint; None if it does not exist or cannot be resumed from."""
    if not os.path.isfile(path):
        return None
    try:
        content = read(path, map_location="cpu", mmap=True)
    except WeightsMismatchError as error:
        raise WeightsMismatchError(f"{error}; if you remove it, the run resumes from {LAST}, if that exists") from error
    try:
        states = content["callbacks"].items()
        where = next(state for name, state in states if name.startswith("ResumePoint")).get("where")
        if where is None and path.name == RESUME:  # from a version that wrote them only at the end of epochs
            done = position(content["loops"]["fit_loop"])
            return Run(folder, path, done.epoch, done.step, False)
    except (StopIteration, KeyError, TypeError, AttributeError):  # no resume point: a copy of the best model
        return None
    if where is None:
        return None
    recorded = checked(Where, where, f"{path}, where its training is", WeightsMismatchError)
    return Run(folder, path, recorded.epoch, recorded.step, recorded.finished)


def _read_config(path: Path) -> dict[str, Any] | None:
    """Return the settings in a run's configuration; None if they cannot be read, which the parser reports."""
    try:
        content = read_yaml(path)
    except RRSISError:
        return None
    return content if isinstance(content, dict) else None


def _plain(value: Any) -> Any:
    return str(value) if value is not None else None
