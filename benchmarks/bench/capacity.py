"""Checks whether a method can represent the answers at all: trains it on a few samples until it stops improving."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from rrsis_zoo.metrics.counts import mask_counts
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.types import Batch


def memorise(
    model: ReferringSegmenter, batch: Batch, steps: int, rate: float, every: int = 50
) -> Iterator[tuple[int, float]]:
    """Train on one batch with AdamW and a cosine schedule over all steps.

    Args:
        model: in any state; it is trained in place. Its tokenizer is learned from the batch if it has none.
        batch: the samples, with masks.
        steps: optimiser steps.
        rate: learning rate of all groups.
        every: steps between two scores.

    Yields:
        step and mIoU on the batch itself in evaluation mode, native size, as a ratio.
    """
    if not model.tokenizer_ready:
        model.fit_tokenizer(batch.expressions)
    parameters = [p for group in model.parameter_groups().values() for p in group]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / 20) * (1 + math.cos(math.pi * step / steps)) / 2
    )
    for step in range(1, steps + 1):
        model.train()
        optimiser.zero_grad()
        model.loss(model(batch, "independent"), batch)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % every == 0 or step == steps:
            yield step, mean_iou(model, batch)


@torch.no_grad()
def mean_iou(model: ReferringSegmenter, batch: Batch) -> float:
    """Return the mIoU of a batch, canonical protocol, as a ratio."""
    if batch.masks is None:
        raise ValueError("the batch has no masks")
    model.eval()
    native = model.restore(model(batch, "independent"))
    counts = [mask_counts(logits > 0, mask).tolist() for logits, mask in zip(native, batch.masks, strict=True)]
    return math.fsum(i / u if u else 0.0 for i, u, _ in counts) / len(counts)
