"""Logs without surprises: a CSV file that a kill does not damage, and Weights & Biases."""

from __future__ import annotations

import csv
import io
import os
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
from rrsis_zoo.training.wandb_account import has_api_key as has_api_key
from rrsis_zoo.training.wandb_account import wandb_mode


class QuietWandbLogger(WandbLogger):
    """A `WandbLogger` that never prompts and never waits for an account.

    W&B's own switches are obeyed, see `rrsis_zoo.training.wandb_account.wandb_mode`; without any, runs are offline
    where there is no account. All that W&B writes lies in ``save_dir/wandb``, also what it would keep in the home
    folder: files staged for artefacts and its own logs. ``WANDB_DATA_DIR`` and ``WANDB_CACHE_DIR`` name other places.
    With ``WANDB_MODE=disabled`` nothing is written.

    Args:
        project: project name.
        name: run name; W&B invents one by default.
        save_dir: where the run's folder goes.
        offline: None for what the switches say, else "offline unless there is an account".
        tags: of the run.
        group: of the run.

    Raises:
        ConfigError: online is asked for and there is no account, or a switch has a value that W&B does not know.
        OutputError: the folder cannot be written: W&B would choose another one.
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
        options: dict[str, Any] = {"tags": tags, "group": group, "mode": mode}
        super().__init__(project=project, name=name, save_dir=save_dir, offline=mode == "offline", **options)
        self._wandb_init.pop("anonymous", None)  # W&B warns of it, whatever its value
        if self.disabled:
            self._wandb_init["dir"] = tempfile.gettempdir()  # W&B makes the folder all the same
            return
        _check_folder(Path(save_dir) / "wandb")
        for variable, folder in (("WANDB_DATA_DIR", ".data"), ("WANDB_CACHE_DIR", ".cache")):
            os.environ.setdefault(variable, str(Path(save_dir).absolute() / "wandb" / folder))

    @property
    def experiment(self) -> Any:
        """W&B's run, begun when it is first asked for.

        Raises:
            ConfigError: it cannot be begun: no network, a server that refuses the key.
        """
        import wandb

        try:
            return super().experiment
        except wandb.Error as cause:
            why = " ".join(str(cause).split())
            raise ConfigError(f"W&B cannot begin a run ({why}); WANDB_MODE=offline keeps it here") from cause


def _check_folder(folder: Path) -> None:
    """Make the folder of W&B's runs, and see that it can be written: else W&B falls back to the temporary folder."""
    make_folder(folder)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise OutputError(f"{folder} cannot be written (no permission)")


def wandb_logger(trainer: Trainer) -> WandbLogger | None:
    """Return the logger that a callback may send things to.

    None without W&B, where it is disabled, and on all processes but the first.
    """
    if not trainer.is_global_zero:
        return None
    loggers = (logger for logger in trainer.loggers if isinstance(logger, WandbLogger))
    return next((logger for logger in loggers if not getattr(logger, "disabled", False)), None)


class RunLog(CSVLogger):
    """A `CSVLogger` whose ``metrics.csv`` goes on where it was, whole after every kill.

    Lightning's removes what lies in its folder, is left without a header or without its rows where it is killed while
    it writes a new column, and cannot append to a file with other columns.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> _LogWriter:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What writes the file."""
        if self._experiment is None:
            self._experiment = cast(Any, _LogWriter(Path(self.log_dir)))
        return cast(_LogWriter, self._experiment)

    @rank_zero_only
    def save(self) -> None:
        """Write what was logged since; errors as `rrsis_zoo.files.writing`."""
        self.experiment.save()

    def rows(self) -> int:
        """Return how many rows there are, all on the disk; 0 on all processes but the first."""
        writer: Any = self.experiment
        if not isinstance(writer, _LogWriter):
            return 0
        writer.save()
        return writer.count()

    @rank_zero_only
    def go_on(self, step: int, rows: int | None = None) -> None:
        """Drop the rows of an attempt that came further than the point from which this one goes on.

        Args:
            step: optimiser steps that are done; 0 begins a new log.
            rows: how many there were; None if it is not known. Some of them may be of a step that had only begun.
        """
        self.experiment.go_on(step, rows)


class _LogWriter:
    """The rows and hyper-parameters of one run; with the methods of Lightning's own.

    Args:
        folder: of the run; it is made.

    Raises:
        OutputError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._path = make_folder(folder) / "metrics.csv"
        self.hparams: dict[str, Any] = {}
        self.metrics: list[dict[str, Any]] = []
        self._columns: list[str] | None = None  # of the file; None before it was looked at
        self._count = 0  # of its rows

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
        """Return columns and rows of the file; a row that a kill cut short is left out."""
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
    """Return the step of a row of the file; one that is no number is from no training of ours."""
    try:
        return int(row["step"])
    except (KeyError, TypeError, ValueError):
        return 0


def run_log(logger: CSVLogger) -> RunLog:
    """Return a `RunLog` that writes where a `CSVLogger` would write."""
    if isinstance(logger, RunLog):
        return logger
    every = logger._flush_logs_every_n_steps
    return RunLog(logger.save_dir, logger.name, logger._version, logger._prefix, every)
