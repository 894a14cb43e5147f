"""Progress for a log: a line per epoch where a bar would leave thousands of carriage returns."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, Timer, TQDMProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from rrsis_zoo.durations import duration

_SHOWN = ("val/miou", "val/oiou", "val/pr@0.5")
_EVERY_S = 30.0  # between two lines about the batches of an evaluation


class EpochLines(ProgressBar):
    """Prints one line per epoch of a training, and at most ten about an evaluation that takes longer.

    A line has the epoch, the mean training loss over its steps (of this process), scores of a validation in it, the
    learning rates from the lowest to the highest group's, and the time left, estimated from the epochs so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._loss: Tensor | None = None
        self._batches = 0
        self._scores: dict[str, float] = {}
        self._began = self._told = 0.0
        self._first = (0, 0)

    def enable(self) -> None:
        """Print lines."""
        self._enabled = True

    def disable(self) -> None:
        """Print nothing, as in all processes but the first."""
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning hook."""
        self._began, self._first = time.monotonic(), (trainer.current_epoch, trainer.global_step)
        self._loss, self._batches, self._scores = None, 0, {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the loss; nothing waits for the device."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else None
        if loss is not None:
            loss = loss.detach() * trainer.accumulate_grad_batches  # Lightning has divided it
            self._loss = loss if self._loss is None else self._loss + loss
            self._batches += 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the scores for the epoch's line."""
        if trainer.state.fn == TrainerFn.FITTING:
            found = trainer.callback_metrics
            self._scores = {name: float(found[name]) for name in _SHOWN if name in found}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's line."""
        epoch, limit = trainer.current_epoch + 1, trainer.max_epochs
        parts = [f"epoch {epoch}" if limit in (None, -1) else f"epoch {epoch}/{limit}"]
        if self._loss is not None:
            parts.append(f"train/loss {self._loss.item() / self._batches:.4f}")
        parts += [f"{name} {self._scores[name]:.2f}" for name in _SHOWN if name in self._scores]
        parts += _rates(trainer)
        parts.append(self._time(trainer))
        self._loss, self._batches, self._scores = None, 0, {}
        if self._enabled:
            self.print("  ".join(parts), flush=True)

    def _time(self, trainer: Trainer) -> str:
        elapsed = time.monotonic() - self._began
        epochs, steps = trainer.current_epoch + 1 - self._first[0], trainer.global_step - self._first[1]
        left: list[float] = []
        if trainer.max_epochs is not None and trainer.max_epochs >= 0:
            left.append(elapsed * (trainer.max_epochs - trainer.current_epoch - 1) / epochs)
        if trainer.max_steps != -1 and steps:
            left.append(elapsed * (trainer.max_steps - trainer.global_step) / steps)
        left += [t.time_remaining() or 0.0 for t in trainer.callbacks if isinstance(t, Timer)]  # type: ignore[attr-defined]
        if left and min(left) > 0:
            return f"{duration(min(left))} left"
        return f"{duration(elapsed)} in all"

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Lightning hook."""
        self._tell(self.test_description, batch_idx, trainer.num_test_batches)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Lightning hook."""
        self._tell(self.predict_description, batch_idx, trainer.num_predict_batches)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Lightning hook; a validation during a training is part of the epoch's line."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._tell(self.validation_description, batch_idx, trainer.num_val_batches)

    def _tell(self, what: str, index: int, batches: Iterable[int | float]) -> None:
        """Print how far an evaluation is, after every tenth of it, and not too often."""
        now, total = time.monotonic(), sum(batches)
        if index == 0:
            self._began = self._told = now
        tenth = int(10 * (index + 1) / total) > int(10 * index / total)
        if self._enabled and tenth and now - self._told >= _EVERY_S:
            self._told = now
            left = (now - self._began) * (total - index - 1) / max(1, index)
            self.print(f"{what.lower()}: batch {index + 1} of {total:.0f}  {duration(left)} left", flush=True)


def _rates(trainer: Trainer) -> list[str]:
    """Return the learning rates of the next step, from the lowest to the highest."""
    rates = sorted(group["lr"] for optimiser in trainer.optimizers for group in optimiser.param_groups)
    texts = list(dict.fromkeys(f"{rate:.1e}" for rate in (rates[0], rates[-1]))) if rates else []
    return [f"lr {' to '.join(texts)}"] if texts else []


def lines_for_logs(callbacks: Iterable[Callback], enabled: bool | None) -> list[Callback]:
    """Return what shows the progress if standard output is not a terminal; nothing if Lightning's bar should.

    Args:
        callbacks: of the trainer; a progress bar among them is the user's choice.
        enabled: the trainer's ``enable_progress_bar``; None for its default, true.
    """
    for_people = sys.stdout.isatty() or _in_a_notebook()
    if enabled is False or any(isinstance(callback, ProgressBar) for callback in callbacks):
        return []
    if not for_people:
        return [EpochLines()]
    # a bar shows the loss, and so waits for a GPU: every tenth step is enough
    return [TQDMProgressBar(refresh_rate=10)] if torch.cuda.is_available() else []


def _in_a_notebook() -> bool:
    """Whether this process is a notebook's kernel, which shows bars; to import ipykernel does not make it one."""
    kernel = sys.modules.get("ipykernel.kernelapp")
    return kernel is not None and kernel.IPKernelApp.initialized()
