"""How far a training is, as Lightning's loops count it, and how they are made to go on from there.

Lightning guesses from its counters at which of its hooks a checkpoint was written, and goes on from some of them in
another way than it would have gone on: it leaves out a validation that was due, repeats the end of an epoch where the
training is bounded by steps, and counts a step twice for the log. Here the counters are read as one `Position`, and
written as that state of which it makes the right thing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer


@dataclass(frozen=True)
class Position:
    """A place between two steps of a training.

    Attributes:
        epoch: epochs done.
        batch: batches done of the epoch that is under way; 0 between two epochs.
        step: optimiser steps done.
        validating: a validation comes next, where one is due after so many batches; of ``batch`` batches only.
        ended: no batch of the epoch is left, it has only to be closed; of ``batch`` batches only.
    """

    epoch: int
    batch: int
    step: int
    validating: bool = False
    ended: bool = False


def position(fit_loop: dict[str, Any], validating: bool = False) -> Position:
    """Read where a training is.

    Args:
        fit_loop: the state of Lightning's fit loop, as its checkpoints have it, of any of its hooks.
        validating: whether a validation is under way, which the state does not tell.
    """
    epochs = fit_loop["epoch_progress"]["current"]
    progress = fit_loop["epoch_loop.batch_progress"]
    batches, last = progress["current"], progress["is_last_batch"]
    step = fit_loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]["completed"]
    epoch, done = epochs["processed"], batches["processed"]
    ended = last and batches["ready"] == done  # otherwise the next batch is the last one
    if epochs["started"] > epoch:  # under way
        validating = validating or batches["completed"] < done  # at the end of a batch: what follows is to come
        if done == 0 or (ended and not validating):
            return Position(epoch + (done > 0), 0, step)
        return Position(epoch, done, step, validating, ended)
    if done > 0 and not ended and batches["ready"] == done:  # it was left before its end: by a limit of steps or time
        return Position(epoch - 1, done, step)
    return Position(epoch, 0, step)


def place(fit_loop: dict[str, Any], where: Position) -> None:
    """Set the state of the fit loop so that Lightning, having loaded it, stands where it says."""

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
    if where.validating:  # by this Lightning tells a validation that was broken off, and runs it
        validation["total"].update(ready=1, started=1)


def settle(trainer: Trainer, where: Position) -> bool:
    """Make the loops go on from where the checkpoint was, when the fit loop has started.

    Returns:
        Whether something of the validation that ``where`` asks for is due.
    """
    fit = trainer.fit_loop
    loop = fit.epoch_loop
    if not where.batch:  # nothing is repeated: as if the last epoch had just ended here
        for one in (fit, loop, loop.val_loop, loop.automatic_optimization):
            one.on_iteration_done()
        loop._batches_that_stepped = where.step
        return False
    assert fit._data_fetcher is not None
    due = loop._should_check_val_fx(fit._data_fetcher)
    # where a validation is due after this batch, Lightning runs it or leaves it out, and counts the step in either case
    loop._batches_that_stepped = where.step - due
    return due


def steps_per_epoch(trainer: Trainer) -> int:
    """Return how many optimiser steps an epoch has."""
    batches = trainer.num_training_batches
    if batches == math.inf:  # none at all: the loader was not asked for
        return 1
    return max(1, math.ceil(batches / trainer.accumulate_grad_batches))


def steps_as_now(trainer: Trainer) -> int:
    """Return how many steps it would have taken to come to where the training is, were all epochs as long as now."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    steps = steps_per_epoch(trainer)
    under_way = epochs.started > epochs.processed
    done = math.ceil(batches.processed / trainer.accumulate_grad_batches) if under_way else 0
    return epochs.processed * steps + min(done, steps)
