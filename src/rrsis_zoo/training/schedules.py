"""Learning-rate schedules of the published recipes, as a factor on each group's rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up by step, a constant phase, then a cosine by epoch; optionally one drop at an epoch.

    RSRefSeg (docs/methods/rsrefseg.md §6): 5 epochs of warm-up from 0.01, then a cosine with a period of 200 epochs to
    a floor of 1e-3. RSRefSeg 2 has a constant phase in between, and a period longer than the training. RS2-SAM2 is
    constant with one drop. LAVT and RMSIN (docs/methods/lavt.md §4): polynomial by step, without a warm-up.

    Lengths are in epochs and belong to the recipe: they do not depend on the limit of the training, which may be in
    epochs, steps, time or absent. After a cosine the factor stays at the floor.

    Attributes:
        steps_per_epoch: optimiser steps per epoch.
        warmup_epochs: length of the warm-up; 0 for none.
        warmup_start: factor at the first step.
        cosine_start: epoch at which the cosine begins; between warm-up and cosine the factor is 1.
        cosine_epochs: half a period, the epochs from factor 1 to the floor; None for a constant rate.
        floor: smallest factor of the cosine.
        drop_epoch: first epoch, counted from 0, in which the factor is multiplied by ``drop_factor``; None for never.
        drop_factor: multiplies the factor from ``drop_epoch`` on.
        poly_epochs: length of a polynomial decay from the first step to 0, a factor on all of the above; None for none.
        poly_power: its exponent p: (1 - step / steps) to the power of p.

    Example:
        >>> factor = WarmupCosine(steps_per_epoch=10, warmup_epochs=1, cosine_start=1, cosine_epochs=4)
        >>> [round(factor(step), 2) for step in (0, 5, 10, 30, 50)]
        [0.01, 0.51, 1.0, 0.5, 0.0]
    """

    steps_per_epoch: int
    warmup_epochs: float = 0.0
    warmup_start: float = 0.01
    cosine_start: float = 0.0
    cosine_epochs: float | None = None
    floor: float = 0.0
    drop_epoch: float | None = None
    drop_factor: float = 0.1
    poly_epochs: float | None = None
    poly_power: float = 0.9

    def __call__(self, step: int) -> float:
        """Return the factor at an optimiser step, counted from 0."""
        dropped = self.drop_epoch is not None and step // self.steps_per_epoch >= self.drop_epoch
        return self._before_drop(step) * self._polynomial(step) * (self.drop_factor if dropped else 1.0)

    def _polynomial(self, step: int) -> float:
        if self.poly_epochs is None:
            return 1.0
        return max(0.0, 1 - step / (self.steps_per_epoch * self.poly_epochs)) ** self.poly_power

    def _before_drop(self, step: int) -> float:
        warmup = self.warmup_epochs * self.steps_per_epoch
        if step < warmup:
            return self.warmup_start + (1 - self.warmup_start) * step / warmup
        epoch = step // self.steps_per_epoch
        if self.cosine_epochs is None or epoch <= self.cosine_start:
            return 1.0
        passed = min((epoch - self.cosine_start) / self.cosine_epochs, 1.0)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * passed)) / 2


class FollowingLR(LambdaLR):
    """A learning rate that follows the schedule of this run, even when it resumes from another run's checkpoint.

    The checkpoint provides the number of steps done; rates, lengths and steps per epoch are this run's. If an epoch had
    another number of steps (another batch size, accumulation or number of processes), the schedule continues at the
    same epoch.

    Args:
        optimiser: the rates of its groups are multiplied.
        schedule: factor at a step.
    """

    def __init__(self, optimiser: Optimizer, schedule: WarmupCosine) -> None:
        self.schedule = schedule
        self.offset = 0
        super().__init__(optimiser, self.factor)

    def factor(self, step: int) -> float:
        """Return the factor after this number of steps."""
        return self.schedule(max(0, step - self.offset))

    def state_dict(self) -> dict[str, Any]:
        """Return only the number of steps; everything else belongs to the run."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the number of steps, also from checkpoints with the whole schedule."""
        self.last_epoch = state_dict["last_epoch"]

    def settle(self, steps: int) -> None:
        """Continue from a position.

        Args:
            steps: optimiser steps from the start of the training to this position if all epochs had the current length.
        """
        self.offset = self.last_epoch - steps
        for group, rate in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["initial_lr"], group["lr"] = rate, rate * self.factor(self.last_epoch)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
