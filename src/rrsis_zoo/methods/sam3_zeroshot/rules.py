"""From SAM 3's candidate instances to one mask per expression: two rules, on tensors alone.

Symbols: N expressions, Q instances, s_q their scores, p the probability that there is any, c the confidence from which
an instance is kept, t the threshold of a pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rrsis_zoo.models.layers.geometry import resize

EMPTY = -10.0
"""Log-odds of every pixel of an empty answer."""


def instance_scores(logits: Tensor, presence: Tensor) -> Tensor:
    """Return s_q = σ(logit_q) p, (N, Q), of logits (N, Q) and presence logits (N, 1)."""
    return logits.sigmoid() * presence.sigmoid()


def best(scores: Tensor) -> Tensor:
    """Return the index of the highest score, int64 (N,); the lowest index if several have it."""
    first = torch.arange(scores.shape[1], 0, -1, device=scores.device)
    return ((scores == scores.amax(1, keepdim=True)) * first).argmax(1)


def kept_first(scores: Tensor, confidence: float) -> tuple[Tensor, Tensor]:
    """Return the indices of the kept instances, s_q > c, the best first, (N, K), and whether each is one, bool (N, K).

    On a CPU K is the largest number kept, at least 1; rows with fewer go on with instances that are not kept. On a GPU,
    where a size cannot depend on values without a wait, K is Q.
    """
    kept = scores > confidence
    k = scores.shape[1]
    if scores.device.type == "cpu":
        k = max(1, int(kept.sum(1).max())) if len(scores) else 1
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    return order, kept.gather(1, order)


def fused(masks: Tensor, semantic: Tensor, scores: Tensor, presence: Tensor, kept: Tensor) -> Tensor:
    """Return f = max(max over kept q of σ(mask_q) s_q, σ(semantic)) p, (N, 1, h, w) in [0, 1].

    As published, p counts twice for an instance: it is in s_q too.

    Args:
        masks: logits (N, K, h, w), at the size at which they are fused.
        semantic: logits (N, 1, h, w).
        scores: (N, K).
        presence: p (N,).
        kept: bool (N, K).
    """
    parts = masks.sigmoid() * (scores * kept)[..., None, None]
    return torch.maximum(parts.amax(1, keepdim=True), semantic.sigmoid()) * presence[:, None, None, None]


def margins(masks: Tensor, semantic: Tensor, scores: Tensor, presence: Tensor, kept: Tensor, t: float) -> Tensor:
    """Return log-odds that are positive where f > t, (N, 1, h, w): max over parts of logit minus the part's threshold.

    f > t where one part exceeds its own threshold: σ(mask_q) > t / (s_q p) or σ(semantic) > t / p. A part that cannot
    reach it is left out, and without any part all is `EMPTY`. Unlike f, one part alone can be resized before it is
    compared without a change of the mask. The sigmoid of a margin is not f.

    Args:
        masks, semantic, scores, presence, kept: as in `fused`.
        t: in (0, 1).
    """
    p = presence[:, None].to(torch.float32)
    reach = torch.cat([scores.to(torch.float32) * p * kept, p], 1)  # the most that each part can give f
    threshold = torch.where(reach > t, torch.logit(t / reach.clamp_min(t), eps=1e-7), torch.inf)
    parts = torch.cat([masks, semantic], 1)
    margin = (parts - threshold[..., None, None].to(parts.dtype)).amax(1, keepdim=True)
    return torch.where(torch.isneginf(margin), EMPTY, margin)


def box_map(boxes: Tensor, scores: Tensor, shown: Tensor, cells: int) -> Tensor:
    """Return the scores of boxes on a grid, (N, 1, cells, cells): max over boxes of score times covered share.

    Args:
        boxes: (N, K, 4), x0 y0 x1 y1 as shares of the width and height.
        scores: (N, K) in [0, 1].
        shown: bool (N, K), the boxes that count.
        cells: along each side.
    """
    edges = torch.arange(cells, device=boxes.device, dtype=boxes.dtype)

    def covered(low: Tensor, high: Tensor) -> Tensor:
        """Return the covered share of every row or column, (N, K, cells)."""
        low, high = (x.clamp(0, 1)[..., None] * cells for x in (low, high))
        return (torch.minimum(high, edges + 1) - torch.maximum(low, edges)).clamp(0, 1)

    across, down = covered(boxes[..., 0], boxes[..., 2]), covered(boxes[..., 1], boxes[..., 3])
    share = down[..., :, None] * across[..., None, :]
    return (share * (scores * shown)[..., None, None]).amax(1, keepdim=True)


def at_native(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize logits (N, C, h, w) straight to native size, in one bilinear step."""
    return resize(maps.float(), size)
