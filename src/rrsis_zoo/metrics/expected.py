"""Expected-IoU masks: a threshold per answer, from its probabilities alone.

If every pixel's probability were right, the mask [p > t] would have about the IoU Σ p·[p > t] / (Σ p + Σ [p > t] -
Σ p·[p > t]) with the unknown truth (the idea of RankSEG, Dai and Li, JMLR 2023). The threshold with the highest value
is chosen. It needs no truth, but it is not what the methods' papers do.
"""

from __future__ import annotations

import torch
from torch import Tensor


def expected_mask(logits: Tensor) -> Tensor:
    """Return the mask of highest expected IoU, bool (H, W).

    Args:
        logits: (H, W) log-odds.

    Example:
        >>> expected_mask(torch.tensor([[4.0, -0.2], [-0.3, -6.0]])).tolist()
        [[True, True], [True, False]]
    """
    p = logits.float().sigmoid().flatten().double()
    ordered, order = p.sort(descending=True)
    inside = ordered.cumsum(0)
    count = torch.arange(1, len(p) + 1, device=p.device, dtype=torch.float64)
    value = inside / (inside[-1] + count - inside)
    # [p > t] has all pixels of a probability or none
    whole = torch.cat([ordered[1:] < ordered[:-1], torch.ones(1, dtype=torch.bool, device=p.device)])
    best = value.masked_fill(~whole, -1).argmax()
    mask = torch.zeros_like(p, dtype=torch.bool)
    mask[order] = torch.arange(len(p), device=p.device) <= best
    return mask.view_as(logits)


def expected_log_odds(logits: Tensor) -> Tensor:
    """Return log-odds (H, W) that are above 0 exactly on `expected_mask`: 1 there and -1 elsewhere; a nan stays nan."""
    signs = expected_mask(logits.nan_to_num()).to(logits.dtype) * 2 - 1
    return torch.where(logits.isnan(), logits, signs)
