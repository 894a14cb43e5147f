"""Losses that several methods share. Targets are uint8 with 0 background, 1 referent, 255 ignored."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

IGNORED = 255


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross entropy over *all* pixels; an ignored pixel adds nothing but counts in the denominator.

    That is how mmsegmentation averages, with which RSRefSeg and RSRefSeg 2 were trained (spec rsrefseg §5, Q12).

    Args:
        logits: (N, 1, h, w) log-odds; resized bilinearly to the target's size.
        target: uint8 (N, 1, H, W) of 0, 1, 255.
    """
    logits = F.interpolate(logits.float(), size=target.shape[-2:], mode="bilinear", align_corners=False)
    each = F.binary_cross_entropy_with_logits(logits, (target == 1).to(logits.dtype), reduction="none")
    return (each * (target != IGNORED)).mean()


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 - (2 Σ p y + ε) / (Σ p + Σ y + ε) of each row with sums in thousands and ε = 1e-6, mean over rows.

    Sums of a thousandth make the ε count as a thousand times as much as it looks (spec evisam3 §11, rs2sam2 §11).

    Args:
        logits: (N, 1, h, w) log-odds; resized bilinearly to the target's size.
        target: uint8 (N, 1, H, W) of 0 and 1; an ignored pixel is left out of all sums.
    """
    logits = F.interpolate(logits.float(), size=target.shape[-2:], mode="bilinear", align_corners=False)
    read = target != IGNORED
    p, y = ((x * read).flatten(1) for x in (logits.sigmoid(), (target == 1).to(logits.dtype)))
    both, either = (p * y / 1000).sum(1), (p / 1000).sum(1) + (y / 1000).sum(1)
    return (1 - (2 * both + 1e-6) / (either + 1e-6)).mean()
