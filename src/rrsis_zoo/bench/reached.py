"""How far a training came: what it leaves behind for whoever started it and has to know whether it is at its end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler, Timer

from rrsis_zoo.files import write_json


class Reached(Callback):
    """Writes ``reached.json`` beside the log when a training ends by itself; one that is interrupted leaves none.

    It holds what `rrsis_zoo.bench.records.Reach` says: the epochs and steps that were done, and those that were asked.
    """

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning hook, which no exception reaches; also of a training that had nothing left to do."""
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        write_json(folder / "reached.json", {"schema": 1, **reach(trainer)})


def reach(trainer: Trainer) -> dict[str, Any]:
    """Return how far a trainer's last training came, see `rrsis_zoo.bench.records.Reach`."""
    batches = trainer.num_training_batches
    known = math.isfinite(batches) and not any(isinstance(c, GradientAccumulationScheduler) for c in callbacks(trainer))
    return {
        "epochs": trainer.fit_loop.epoch_progress.current.processed,
        "steps": trainer.global_step,
        "steps_an_epoch": math.ceil(batches / trainer.accumulate_grad_batches) if known else None,
        "max_epochs": limit(trainer.max_epochs),
        "max_steps": limit(trainer.max_steps),
        "stopped": bool(trainer.should_stop),
        "may_stop": any(may_stop(type(callback)) for callback in callbacks(trainer)),
    }


def callbacks(trainer: Trainer) -> list[Callback]:
    """Return a trainer's callbacks, whose type Lightning does not say."""
    return list(trainer.callbacks)  # type: ignore[attr-defined]


def limit(given: int | None) -> int | None:
    """Return a number of epochs or steps, None where Lightning means that there is no limit."""
    return None if given is None or given < 0 else given


def may_stop(kind: type) -> bool:
    """Tell whether a callback may end a training early: by a score, by the clock, or for all we know."""
    ours = kind.__module__.partition(".")[0] in ("lightning", "pytorch_lightning", "rrsis_zoo")
    return issubclass(kind, (EarlyStopping, Timer)) or not ours
