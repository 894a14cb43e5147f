"""Learning-rate schedules of the published recipes, as a factor on each group's rate."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up by step, a constant phase, then a cosine by epoch; optionally one drop at an epoch.

    RSRefSeg (docs/methods/rsrefseg.md §6): warm-up 5 epochs from 0.01, cosine from there with a period of 200 epochs to
    a floor of 1e-3. RSRefSeg 2 stays constant in between and has a period that is longer than the training. RS2-SAM2 is
    constant with one drop.

    Attributes:
        steps_per_epoch: optimiser steps.
        warmup_epochs: length of the warm-up; 0 for none.
        warmup_start: factor at the first step.
        cosine_start: epoch at which the cosine begins; before it, and after the warm-up, the factor is 1.
        cosine_epochs: half a period: epochs from factor 1 to the floor; None for a constant rate.
        floor: smallest factor of the cosine.
        drop_epoch: epoch, counted from 0, from whose start on the factor is multiplied by ``drop_factor``; None for
            never.
        drop_factor: see there.

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

    def __call__(self, step: int) -> float:
        """Return the factor at an optimiser step, counted from 0."""
        dropped = self.drop_epoch is not None and step // self.steps_per_epoch >= self.drop_epoch
        return self._before_drop(step) * (self.drop_factor if dropped else 1.0)

    def _before_drop(self, step: int) -> float:
        warmup = self.warmup_epochs * self.steps_per_epoch
        if step < warmup:
            return self.warmup_start + (1 - self.warmup_start) * step / warmup
        epoch = step // self.steps_per_epoch
        if self.cosine_epochs is None or epoch <= self.cosine_start:
            return 1.0
        passed = min((epoch - self.cosine_start) / self.cosine_epochs, 1.0)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * passed)) / 2
