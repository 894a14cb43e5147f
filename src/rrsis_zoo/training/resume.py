"""Resume points, from which an interrupted training continues as if nothing had happened."""

from __future__ import annotations

import resource
import shlex
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from rrsis_zoo import signals
from rrsis_zoo.data.samplers import TrainingSampler
from rrsis_zoo.errors import ConfigError, NotFiniteError, RRSISError, WeightsMismatchError
from rrsis_zoo.files import link, write_json
from rrsis_zoo.schema import checked
from rrsis_zoo.training.best import carry_over
from rrsis_zoo.training.loggers import RunLog
from rrsis_zoo.training.progress import Position, place, position, settle
from rrsis_zoo.training.random_states import of_all_processes, random_states, set_random_states
from rrsis_zoo.training.runs import CHECKPOINTS, LAST, RESUME, RunLock, Where

_SAVE, _STOP = 1, 1000  # codes that the processes exchange; a signal's number is added to the second


class ResumePoint(Checkpoint):
    """Writes ``checkpoints/resume.ckpt`` after every epoch, at intervals, and when a signal ends the training.

    Checkpoints selected by score are only written when the score improves, which may be long ago. After every epoch
    ``checkpoints/last.ckpt`` is a second name of the resume point's file.

    A training that resumes from any checkpoint written with this callback gives the same result as an uninterrupted
    one, even from the middle of an epoch: every process restores its random number generators, samples already seen in
    the epoch are left out, the log is continued, and the best model so far is kept. With another batch size,
    accumulation or number of processes, the rest of the epoch consists of the samples not seen yet.

    A signal (`rrsis_zoo.signals`) ends the training after the current optimiser step or validation batch. Points are
    only written between two optimiser steps, and only if the weights are finite.

    ``resume.json`` in the same folder records the state of the training: ``epoch`` (epochs done), ``batch`` (batches
    done in the next one), ``step`` (optimiser steps done), ``finished`` (whether the training is complete), ``cpu_s``
    (processor time of the process so far, in seconds), ``time`` (Unix time of writing).

    Args:
        minutes: longest time between two points, up to the end of a step; 0 for the ends of epochs only.
        keep: whether resume point and ``resume.json`` are kept after the end of the training; ``last.ckpt`` always is.
    """

    def __init__(self, minutes: float = 15.0, keep: bool = True) -> None:
        if not minutes >= 0:
            raise ConfigError(f"minutes between two resume points must be at least 0, got {minutes}")
        self.minutes, self.keep = minutes, keep
        self._folder: Path | None = None
        self._lock: RunLock | None = None
        self._random: dict[str, Any] | None = None
        self._resumed: Position | None = None
        self._in_place = False
        self._rows: int | None = None
        self._max_steps: int | None = None
        self._written: Position | None = None
        self._last_written = 0.0
        self._finished = False

    # -- beginning and end -------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lock the run's folder and remove partial files of a killed training.

        Raises:
            ConfigError: another training is writing to it.
        """
        first = next(c for c in cast(Any, trainer).callbacks if isinstance(c, ResumePoint))
        if stage != "fit" or cast(Any, trainer).fast_dev_run or first is not self:
            return
        self._finished, self._written, self._resumed, self._in_place = False, None, None, False
        if hasattr(data := cast(Any, trainer).datamodule, "start_at"):
            data.start_at(0, 0)
        self._folder = Path(trainer.strategy.broadcast(str(_run_folder(trainer) / CHECKPOINTS)))
        if trainer.is_global_zero:
            self._lock = RunLock(self._folder.parent)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Release the folder."""
        self._leave()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Release the folder; add to the error where the training can be resumed.

        Raises:
            Interrupted: a signal was pending: the exception may be its consequence, for instance if all processes of a
                job get a signal and the loading processes end first.
        """
        if self._folder is None:
            return
        if isinstance(exception, NotFiniteError) and self._written:
            exception.args = (
                f"{exception}; the last good point is {self._folder / RESUME}, step {self._written.step}",
            )
        hint = self._hint()
        self._leave()
        asked = signals.at_once()
        if asked and not isinstance(exception, (signals.Interrupted, RRSISError)):
            raise signals.Interrupted(asked, f"{hint} ({exception})") from exception

    def _leave(self) -> None:
        if self._lock is not None:
            self._lock.release()
        self._folder = self._lock = None

    # -- going on ----------------------------------------------------------------------------------------------------

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Make Lightning continue at the checkpoint's position; by itself it only does so from the end of an epoch."""
        if trainer.state.fn != TrainerFn.FITTING or self._folder is None:
            return
        state = next((s for name, s in checkpoint["callbacks"].items() if name.startswith("ResumePoint")), {})
        states = state.get("ranks") or [state["random"]] if "random" in state else []
        if trainer.global_rank < len(states):
            self._random = states[trainer.global_rank]
            now = random_states()
            set_random_states(states[trainer.global_rank])  # a failure here is still attributed to the checkpoint
            set_random_states(now)
        fit_loop = checkpoint["loops"]["fit_loop"]
        what = f"{trainer.ckpt_path}, position of the training"
        saved = checked(Where, state["where"], what, WeightsMismatchError) if "where" in state else None
        self._resumed = self._place(trainer, position(fit_loop, saved is not None and saved.validating), saved)
        place(fit_loop, self._resumed)
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # it is now
        if self._resumed.validating and 0 < trainer.max_steps <= self._resumed.step:
            # the last step is done but its validation is not: the loop would not be entered for it
            self._max_steps, trainer.fit_loop.epoch_loop.max_steps = trainer.max_steps, self._resumed.step + 1
        assert trainer.ckpt_path is not None
        source = Path(trainer.ckpt_path).absolute()
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.state_key in checkpoint["callbacks"]:
                known = checkpoint["callbacks"][callback.state_key]
                moved = carry_over(callback, known, source) if trainer.is_global_zero else None
                checkpoint["callbacks"][callback.state_key] = trainer.strategy.broadcast(moved)
        self._rows = None if saved is None else saved.rows
        self._in_place = source.parent.resolve() == self._folder.resolve()

    def _place(self, trainer: Trainer, where: Position, saved: Where | None) -> Position:
        """Return the position in this run's batches, and let the data module skip the samples already seen."""
        data = cast(Any, trainer).datamodule
        if not where.batch or not hasattr(data, "start_at"):
            return where
        every, there = trainer.accumulate_grad_batches, _batches(trainer, len(data.train_dataloader()))
        shape = {"batch_size": data.batch_size, "processes": trainer.world_size, "accumulate": every}
        before = {name: getattr(saved, name, None) or value for name, value in shape.items()}
        seen = where.batch * before["batch_size"] * before["processes"]
        batch = seen // (shape["batch_size"] * shape["processes"])
        if where.ended:
            batch = there
        else:  # back to the start of an optimiser step
            batch = min(batch, there - 1)
            batch -= batch % every
        if before != shape:
            rank_zero_info(
                f"{seen} samples of epoch {where.epoch} are done, which is {batch} of {there} batches of this run"
            )
        if batch:
            data.start_at(where.epoch, batch)
        ended, validating = where.ended and batch > 0, where.validating and batch > 0
        return Position(where.epoch, batch, where.step, validating, ended)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set up the loops, and drop rows of the log that are later than this point."""
        if self._folder is None:
            return
        if self._resumed is not None:
            due = settle(trainer, self._resumed)
            _leave_out(trainer, self._resumed.batch)
            if self._max_steps is not None and not due:
                self._limit_again(trainer)
                trainer.should_stop = True
        log = _log(trainer)
        if log is not None and self._resumed and self._in_place:
            log.go_on(self._resumed.step, self._rows)
        elif log is not None:
            log.go_on(0)
        self._written = self._resumed if self._in_place else None
        self._last_written = time.monotonic()
        signals.defer()

    def _limit_again(self, trainer: Trainer) -> None:
        if self._max_steps is not None:
            trainer.fit_loop.epoch_loop.max_steps, self._max_steps = self._max_steps, None

    def _take_up(self) -> None:
        """Restore the generators' states, once, as late as possible: starting a run draws random numbers too."""
        if self._random is not None:
            set_random_states(self._random)
            self._random = None

    # -- points between two steps ------------------------------------------------------------------------------------

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The previous epoch is complete, with its validation and its log."""
        self._take_up()
        self._pause(trainer, epoch_over=True)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The previous batch is complete, with any validation after it."""
        self._take_up()
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._pause(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning hook."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._take_up()
            self._limit_again(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Weights do not change in a validation, so it can be repeated."""
        loop = trainer.fit_loop.epoch_loop
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and not loop._should_accumulate():
            self._pause(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last point, which is also the last checkpoint."""
        if self._folder is None:
            return
        self._finished = True
        if trainer.global_step:
            self._write(trainer, LAST)
            if trainer.is_global_zero:
                if self.keep:
                    link(self._folder / LAST, self._folder / RESUME)
                    self._describe(cast(Position, self._written))
                else:
                    (self._folder / RESUME).unlink(missing_ok=True)
                    self._json.unlink(missing_ok=True)
            trainer.strategy.barrier("the last checkpoint is in place")
        signals.forget()

    def _pause(self, trainer: Trainer, epoch_over: bool = False) -> None:
        """Save a point if due, and end if a signal requested it, in the same way on all processes."""
        if self._folder is None:
            return
        late = self.minutes and time.monotonic() - self._last_written > self.minutes * 60
        code = _STOP + signals.pending() if signals.pending() else _SAVE if late else 0
        if trainer.world_size > 1:
            code_tensor = torch.tensor(float(code), device=trainer.strategy.root_device)
            code = int(cast(Any, trainer.strategy.reduce(code_tensor, reduce_op="max")))
        if (code or epoch_over) and trainer.global_step:
            where = _position(trainer, trainer.fit_loop.state_dict())
            if where != self._written:
                self._write(trainer, RESUME)
                if trainer.is_global_zero:
                    self._describe(where)
                    if epoch_over:
                        link(self._folder / RESUME, self._folder / LAST)
        if code >= _STOP:
            raise signals.Interrupted(code - _STOP, self._hint())

    # -- writing -----------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the training's position and every process's generators to every checkpoint."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        where = _position(trainer, checkpoint["loops"]["fit_loop"])
        checkpoint["epoch"] = where.epoch if where.batch else max(0, where.epoch - 1)  # of the last step, from 0
        ranks = of_all_processes()
        data = cast(Any, trainer).datamodule
        checkpoint["callbacks"][self.state_key] = {
            "random": ranks[0],
            "ranks": ranks,
            "where": {
                **asdict(where),
                "finished": self._finished,
                "rows": 0 if (log := _log(trainer)) is None else log.rows(),
                "batch_size": getattr(data, "batch_size", None),
                "processes": trainer.world_size,
                "accumulate": trainer.accumulate_grad_batches,
            },
        }

    def _write(self, trainer: Trainer, name: str) -> None:
        assert self._folder is not None
        trainer.save_checkpoint(self._folder / name, weights_only=False)
        self._written, self._last_written = _position(trainer, trainer.fit_loop.state_dict()), time.monotonic()

    @property
    def _json(self) -> Path:
        assert self._folder is not None
        return (self._folder / RESUME).with_suffix(".json")

    def _describe(self, where: Position) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        done = {
            "epoch": where.epoch,
            "batch": where.batch,
            "step": where.step,
            "finished": self._finished,
            "cpu_s": round(used.ru_utime + used.ru_stime, 1),
            "time": time.time(),
        }
        write_json(self._json, done, indent=None)

    def _hint(self) -> str:
        assert self._folder is not None
        if self._written is None:
            return "no step was taken"
        where = f"epoch {self._written.epoch}, step {self._written.step}"
        return f"{where}; `rrsis fit --resume {shlex.quote(str(self._folder.parent))}` continues from there"


def _run_folder(trainer: Trainer) -> Path:
    """Return the folder of a run's checkpoints, determined like in Lightning's ``ModelCheckpoint``."""
    if not trainer.loggers:
        return Path(trainer.default_root_dir)
    logger = trainer.loggers[0]
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    return Path(logger.save_dir or trainer.default_root_dir) / str(logger.name) / version


def _leave_out(trainer: Trainer, batches: int) -> None:
    """Skip batches already trained on, if the loader does not do it itself because it is not ours."""
    fetcher = trainer.fit_loop._data_fetcher
    sampler = getattr(trainer.train_dataloader, "sampler", None)
    if fetcher is not None and fetcher.iterator is not None and not isinstance(sampler, TrainingSampler):
        for _ in range(batches):
            next(fetcher.iterator)


def _log(trainer: Trainer) -> RunLog | None:
    return next((logger for logger in trainer.loggers if isinstance(logger, RunLog)), None)


def _position(trainer: Trainer, fit_loop: dict[str, Any]) -> Position:
    """Return the position of a training run, from any of its hooks."""
    validation = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    over = validation.is_last_batch and validation.current.completed == validation.current.ready
    return position(fit_loop, trainer.validating and not over)


def _batches(trainer: Trainer, loader: int) -> int:
    """Return the number of batches per epoch for a loader of this length."""
    limit = trainer.limit_train_batches
    return min(loader, limit) if isinstance(limit, int) else int(loader * limit)
