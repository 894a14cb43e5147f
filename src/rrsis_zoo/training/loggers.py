"""Loggers: a CSV file that survives a kill, and Weights & Biases without prompts."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import Trainer
from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from rrsis_zoo.errors import ConfigError, MissingDataError, OutputError
from rrsis_zoo.files import cannot_write, make_folder, read_text, write_text, writing
from rrsis_zoo.training.ranks import is_first
from rrsis_zoo.training.wandb_account import has_api_key as has_api_key
from rrsis_zoo.training.wandb_account import wandb_mode

UNNAMED = "lightning_logs"
"""Name of a `CSVLogger` that was given none."""


class QuietWandbLogger(WandbLogger):
    """A `WandbLogger` that never prompts for an account.

    W&B's own settings are respected, see `rrsis_zoo.training.wandb_account.wandb_mode`; without any, runs are offline
    if there is no account. W&B writes only to ``save_dir/wandb``, including what it would keep in the home folder:
    files staged for artefacts and its own logs. ``WANDB_DATA_DIR`` and ``WANDB_CACHE_DIR`` name other places. With
    ``WANDB_MODE=disabled`` nothing is written.

    Args:
        project: project name.
        name: run name; W&B invents one by default.
        save_dir: parent of the run's folder.
        offline: None to follow W&B's settings, which default to offline unless there is an account.
        tags: of the run.
        group: of the run.

    Raises:
        ConfigError: online is requested without an account, or a setting has a value that W&B does not know.
        OutputError: the folder is not writable: W&B would choose another one.
    """

    def __init__(
        self,
        project: str = "rrsis-zoo",
        name: str | None = None,
        save_dir: str = "runs",
        offline: bool | None = None,
        tags: list[str] | None = None,
        group: str | None = None,
    ) -> None:
        mode = wandb_mode(offline)
        self.disabled = mode == "disabled"
        self._wandb_folder, self._created = Path(save_dir) / "wandb", False
        options: dict[str, Any] = {"tags": tags, "group": group, "mode": mode}
        super().__init__(project=project, name=name, save_dir=save_dir, offline=mode == "offline", **options)
        self._wandb_init.pop("anonymous", None)  # W&B warns about it, whatever its value
        if self.disabled:
            self._wandb_init["dir"] = tempfile.gettempdir()  # W&B creates the folder all the same
            return
        _check_folder(self._wandb_folder)
        for variable, folder in (("WANDB_DATA_DIR", ".data"), ("WANDB_CACHE_DIR", ".cache")):
            os.environ.setdefault(variable, str(Path(save_dir).absolute() / "wandb" / folder))

    @property
    def experiment(self) -> Any:
        """W&B's run, started on first access.

        Raises:
            ConfigError: it cannot be started: no network, or the server refuses the key.
        """
        import wandb

        try:
            if self._experiment is None and not self.disabled and is_first():
                self._created = not os.path.lexists(self._wandb_folder)
                make_folder(self._wandb_folder)
            return super().experiment
        except wandb.Error as cause:
            why = " ".join(str(cause).split())
            raise ConfigError(
                f"W&B cannot start a run ({why}); WANDB_MODE=offline logs to this machine only"
            ) from cause

    def discard(self) -> None:
        """End a run that came to nothing; an offline one leaves no files."""
        run = self._experiment
        if run is None or self.disabled:
            return
        place = Path(run.dir).parent
        with contextlib.redirect_stderr(io.StringIO()):  # it would say how to upload what is removed here
            run.finish(exit_code=1)
        if not self._offline:
            return
        shutil.rmtree(place, ignore_errors=True)
        if self._created and not any(path.is_dir() for path in self._wandb_folder.glob("*run-*")):
            shutil.rmtree(self._wandb_folder, ignore_errors=True)


def _check_folder(folder: Path) -> None:
    """Check that the folder of W&B's runs is writable, or can be created: else W&B takes the temporary folder."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not os.path.isdir(there):
        raise OutputError(f"{folder} cannot be written ({there} is not a folder)")
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        raise OutputError(f"{folder} cannot be written (no permission)")


def wandb_logger(trainer: Trainer) -> WandbLogger | None:
    """Return the W&B logger that a callback may use.

    None without W&B, if it is disabled, and on all processes but the first.
    """
    if not trainer.is_global_zero:
        return None
    loggers = (logger for logger in trainer.loggers if isinstance(logger, WandbLogger))
    return next((logger for logger in loggers if not getattr(logger, "disabled", False)), None)


class RunLog(CSVLogger):
    """A `CSVLogger` that continues an existing ``metrics.csv`` and keeps it intact after a kill.

    Lightning's removes the contents of its folder, loses the header or the rows if it is killed while it writes a new
    column, and cannot append to a file with other columns.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> _LogWriter:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The writer of the file."""
        if self._experiment is None:
            self._experiment = cast(Any, _LogWriter(Path(self.log_dir)))
        return cast(_LogWriter, self._experiment)

    @rank_zero_only
    def save(self) -> None:
        """Write the rows logged since the last call.

        Raises:
            OutputError: the file cannot be written.
        """
        self.experiment.save()

    def rows(self) -> int:
        """Write the rows and return how many the file has; 0 on all processes but the first."""
        writer: Any = self.experiment
        if not isinstance(writer, _LogWriter):
            return 0
        writer.save()
        return writer.count()

    @rank_zero_only
    def go_on(self, step: int, rows: int | None = None) -> None:
        """Drop rows of an earlier attempt that are later than the point from which this one resumes.

        Args:
            step: optimiser steps done; 0 starts a new log.
            rows: number of rows at that point; None if unknown. Some may be from a step that had only begun.
        """
        self.experiment.go_on(step, rows)


class _LogWriter:
    """Writes the rows and hyper-parameters of one run; it has the methods of Lightning's own writer.

    Args:
        folder: of the run; it is created.

    Raises:
        OutputError: it cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        self._path = make_folder(folder) / "metrics.csv"
        self.hparams: dict[str, Any] = {}
        self.metrics: list[dict[str, Any]] = []
        self._columns: list[str] | None = None  # of the file; None before it is read
        self._count = 0  # its rows

    def log_hparams(self, params: dict[str, Any]) -> None:
        self.hparams.update(params)
        with writing(self._path.with_name("hparams.yaml")) as temporary:
            save_hparams_to_yaml(temporary, self.hparams)

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        row = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        self.metrics.append({**row, "step": len(self.metrics) if step is None else step})

    def save(self) -> None:
        if not self.metrics:
            return
        columns, rows = (self._columns, []) if self._columns is not None else self._read()
        wider = sorted({*columns, *(name for row in self.metrics for name in row)})
        if wider == self._columns:
            with cannot_write(self._path), self._path.open("a", encoding="utf-8", newline="") as file:
                file.write(_text(wider, self.metrics))
            self._count += len(self.metrics)
        else:
            rows = self._read()[1] if self._columns else rows
            self._replace(wider, [*rows, *self.metrics])
        self.metrics = []

    def count(self) -> int:
        if self._columns is None:
            self._count = len(self._read()[1])
        return self._count + len(self.metrics)

    def go_on(self, step: int, rows: int | None) -> None:
        columns, there = self._read()
        kept = [row for row in there[:rows] if _step(row) < step]
        if not kept:
            self._columns, self._count = [], 0
            with cannot_write(self._path):
                self._path.unlink(missing_ok=True)
        else:
            self._replace(columns, kept)

    def _read(self) -> tuple[list[str], list[dict[str, Any]]]:
        """Return columns and rows of the file; a row that a kill truncated is left out."""
        try:
            text = read_text(self._path)
        except MissingDataError:
            return [], []
        whole = text[: text.rfind("\n") + 1]
        reader = csv.DictReader(io.StringIO(whole, newline=""))
        return list(reader.fieldnames or []), list(reader)

    def _replace(self, columns: list[str], rows: list[dict[str, Any]]) -> None:
        head = io.StringIO(newline="")
        csv.DictWriter(head, columns).writeheader()
        write_text(self._path, head.getvalue() + _text(columns, rows))
        self._columns, self._count = columns, len(rows)


def _text(columns: list[str], rows: list[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    csv.DictWriter(text, columns, extrasaction="ignore").writerows(rows)
    return text.getvalue()


def _step(row: dict[str, Any]) -> int:
    """Return the step of a row in the file; 0 if it is not a number, which our trainings never write."""
    try:
        return int(row["step"])
    except (KeyError, TypeError, ValueError):
        return 0


def run_log(logger: CSVLogger, name: str | None = None, version: str | int | None = None) -> RunLog:
    """Return a `RunLog` that writes to the same place as a `CSVLogger`.

    Args:
        logger: any CSV logger.
        name: of the folder of runs, if not the logger's own.
        version: name or number of the run's folder, if not the logger's own.
    """
    name, version = logger.name if name is None else name, logger._version if version is None else version
    if isinstance(logger, RunLog) and (name, version) == (logger.name, logger._version):
        return logger
    return RunLog(logger.save_dir, name, version, logger._prefix, logger._flush_logs_every_n_steps)
