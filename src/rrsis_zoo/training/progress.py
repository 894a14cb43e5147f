"""The progress of a training run in Lightning's loops, and how to make them continue from there.

Lightning guesses from its counters in which hook a checkpoint was written, and does not always continue as it would
have without the interruption: it skips a validation that was due, repeats the end of an epoch if steps limit the
training, and counts a step twice for the log. Here the counters are read as one `Position`, and written back in the
state that Lightning continues from correctly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer


@dataclass(frozen=True)
class Position:
    """A point between two steps of a training run.

    Attributes:
        epoch: epochs done.
        batch: batches done in the current epoch; 0 between two epochs.
        step: optimiser steps done.
        validating: a validation comes next, if one is due after this number of batches; only if ``batch`` is not 0.
        ended: no batch of the epoch is left, it only remains to be closed; only if ``batch`` is not 0.
    """

    epoch: int
    batch: int
    step: int
    validating: bool = False
    ended: bool = False


def position(fit_loop: dict[str, Any], validating: bool = False) -> Position:
    """Read the position of a training run.

    Args:
        fit_loop: the state of Lightning's fit loop, as in its checkpoints, from any hook.
        validating: whether a validation is running, which the state does not show.
    """
    epochs = fit_loop["epoch_progress"]["current"]
    progress = fit_loop["epoch_loop.batch_progress"]
    batches, last = progress["current"], progress["is_last_batch"]
    step = fit_loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]["completed"]
    epoch, done = epochs["processed"], batches["processed"]
    ended = last and batches["ready"] == done  # otherwise the next batch is the last one
    if epochs["started"] > epoch:  # within an epoch
        validating = validating or batches["completed"] < done  # at the end of a batch: what follows is still to come
        if done == 0 or (ended and not validating):
            return Position(epoch + (done > 0), 0, step)
        return Position(epoch, done, step, validating, ended)
    if done > 0 and not ended and batches["ready"] == done:  # left before its end, by a limit of steps or time
        return Position(epoch - 1, done, step)
    return Position(epoch, 0, step)


def place(fit_loop: dict[str, Any], where: Position) -> None:
    """Set the state of the fit loop so that Lightning continues from this position after loading it."""

    def counts(names: dict[str, int], value: int) -> dict[str, int]:
        return dict.fromkeys(names, value)

    under_way = where.batch > 0
    for count in fit_loop["epoch_progress"].values():
        count.update(counts(count, where.epoch))
        if under_way:
            count.update(ready=where.epoch + 1, started=where.epoch + 1)
    progress = fit_loop["epoch_loop.batch_progress"]
    total = progress["total"]["processed"]
    progress["total"] = counts(progress["total"], total)
    progress["current"] = counts(progress["current"], where.batch)
    progress["is_last_batch"] = where.ended
    validation = fit_loop["epoch_loop.val_loop.batch_progress"]
    for name in ("total", "current"):
        validation[name] = counts(validation[name], 0)
    validation["is_last_batch"] = False
    if where.validating:  # Lightning recognises an interrupted validation by this, and runs it
        validation["total"].update(ready=1, started=1)


def settle(trainer: Trainer, where: Position) -> bool:
    """Make the loops continue from the checkpoint's position, after the fit loop has started.

    Returns:
        Whether a validation is due at this position.
    """
    fit = trainer.fit_loop
    loop = fit.epoch_loop
    if not where.batch:  # nothing is repeated, as if the last epoch had just ended
        for one in (fit, loop, loop.val_loop, loop.automatic_optimization):
            one.on_iteration_done()
        loop._batches_that_stepped = where.step
        return False
    assert fit._data_fetcher is not None
    due = loop._should_check_val_fx(fit._data_fetcher)
    # if a validation is due after this batch, Lightning runs or skips it, and counts the step in either case
    loop._batches_that_stepped = where.step - due
    return due


def steps_per_epoch(trainer: Trainer) -> int:
    """Return the number of optimiser steps per epoch."""
    batches = trainer.num_training_batches
    if batches == math.inf:  # the loader has not been set up
        return 1
    return max(1, math.ceil(batches / trainer.accumulate_grad_batches))


def steps_as_now(trainer: Trainer) -> int:
    """Return the number of steps to the current position if all epochs had the current length."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    steps = steps_per_epoch(trainer)
    under_way = epochs.started > epochs.processed
    done = math.ceil(batches.processed / trainer.accumulate_grad_batches) if under_way else 0
    return epochs.processed * steps + min(done, steps)
