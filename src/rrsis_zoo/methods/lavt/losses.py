"""Losses of LAVT and RMSIN on log-odds d = z₁ − z₀ of object against background: a softmax of two depends on d only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CLASS_WEIGHTS = (0.9, 1.1)
"""Of background and object."""


def class_cross_entropy(d: Tensor, target: Tensor) -> Tensor:
    """Mean of −log softmax(z)_y, weighted by the true class of every pixel; all pixels of all samples together.

    Args:
        d: log-odds (N, 1, H, W).
        target: uint8 (N, 1, H, W) of 0 and 1; other values are left out.
    """
    background, referent = CLASS_WEIGHTS
    w = background * (target == 0).to(d.dtype) + referent * (target == 1).to(d.dtype)
    return (w * F.softplus(torch.where(target == 1, -d, d))).sum() / w.sum()


def class_dice(d: Tensor, target: Tensor) -> Tensor:
    """1 − (2 Σ p y + 1e-6) / (Σ p + Σ y + 1e-6) of both classes, (N, 2): background, object.

    Args:
        d: log-odds (N, 1, H, W).
        target: uint8 (N, 1, H, W) of 0 and 1; other values are left out.
    """
    read = (target <= 1).to(d.dtype)
    p = torch.cat([(-d).sigmoid(), d.sigmoid()], 1) * read
    y = torch.cat([target == 0, target == 1], 1).to(d.dtype)
    both, either = (p * y).flatten(2).sum(2), (p + y).flatten(2).sum(2)
    return 1 - (2 * both + 1e-6) / (either + 1e-6)
