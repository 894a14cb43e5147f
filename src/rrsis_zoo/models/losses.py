"""Losses that several methods share. Targets are uint8 with 0 background, 1 referent, 255 ignored."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

IGNORED = 255

Gather = Literal["published", "exact"]
"""Gradient of a loss over the rows of all processes (see `gather_rows`)."""


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross entropy over *all* pixels; an ignored pixel contributes 0 but counts in the denominator.

    This is the averaging of mmsegmentation, with which RSRefSeg and RSRefSeg 2 were trained
    (docs/methods/rsrefseg.md §5, Q12).

    Args:
        logits: (N, 1, h, w) log-odds; resized bilinearly to the target's size.
        target: uint8 (N, 1, H, W) of 0, 1, 255.
    """
    logits = F.interpolate(logits.float(), size=target.shape[-2:], mode="bilinear", align_corners=False)
    each = F.binary_cross_entropy_with_logits(logits, (target == 1).to(logits.dtype), reduction="none")
    return (each * (target != IGNORED)).mean()


def heatmap_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross entropy of a heat map and the referent's share of each of its cells.

    It is not in any of the papers: it teaches randomly initialised encoders about words and locations.

    Args:
        logits: (N, 1, g, g) log-odds.
        target: uint8 (N, 1, S, S) of 0, 1, 255; an ignored pixel counts as background.
    """
    share = F.adaptive_avg_pool2d((target == 1).float(), (logits.shape[-2], logits.shape[-1]))
    return F.binary_cross_entropy_with_logits(logits.float(), share)


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 - (2 Σ p y + ε) / (Σ p + Σ y + ε) of each row with sums in thousands and ε = 1e-6, mean over rows.

    Because of the sums in thousands, ε has a thousand times its apparent effect (docs/methods/evisam3.md §11).

    Args:
        logits: (N, 1, h, w) log-odds; resized bilinearly to the target's size.
        target: uint8 (N, 1, H, W) of 0 and 1; an ignored pixel is left out of all sums.
    """
    logits = F.interpolate(logits.float(), size=target.shape[-2:], mode="bilinear", align_corners=False)
    read = target != IGNORED
    p, y = ((x * read).flatten(1) for x in (logits.sigmoid(), (target == 1).to(logits.dtype)))
    both, either = (p * y / 1000).sum(1), (p / 1000).sum(1) + (y / 1000).sum(1)
    return (1 - (2 * both + 1e-6) / (either + 1e-6)).mean()


def squared_dice(logits: Tensor, target: Tensor, ignored_as_value: bool = False) -> Tensor:
    """1 - 2 Σ p y / (Σ p² + Σ y² + 2e-3) of each row, mean over rows (docs/methods/rsrefseg2.md §7).

    Args:
        logits: (N, 1, h, w) log-odds; resized bilinearly to the target's size.
        target: uint8 (N, 1, H, W) of 0, 1, 255.
        ignored_as_value: treat an ignored pixel as a target of 255, as the published program does in the padding of an
            image (Q6); otherwise it is left out of all sums.
    """
    logits = F.interpolate(logits.float(), size=target.shape[-2:], mode="bilinear", align_corners=False)
    p, y = logits.sigmoid(), target.to(logits.dtype)
    if not ignored_as_value:
        p, y = (torch.where(target == IGNORED, 0, x) for x in (p, y))
    p, y = p.flatten(1), y.flatten(1)
    return (1 - 2 * (p * y).sum(1) / (p.square().sum(1) + y.square().sum(1) + 2e-3)).mean()


def squared_cosine(a: Tensor, b: Tensor) -> Tensor:
    """Mean over rows of the squared cosine of a and b (N, C); 0 when they are orthogonal."""
    return F.cosine_similarity(a.float(), b.float(), dim=-1).square().mean()


def multiple_instance(logits: Tensor, inside: Tensor) -> Tensor:
    """-log of the softmax probability over all cells that falls inside the referent, mean over rows that have one.

    Args:
        logits: (N, 1, h, w).
        inside: bool (N, 1, h, w).

    Returns:
        A scalar, 0 if no row has a cell inside.
    """
    share, inside = logits.float().flatten(1).log_softmax(1), inside.flatten(1)
    has = inside.any(1)
    # a row without a cell takes part with all of its cells and the weight 0: how many there are is not asked
    held = share.masked_fill(~(inside | ~has[:, None]), -torch.inf).logsumexp(1)
    return -(held * has).sum() / has.sum().clamp_min(1)


def batch_contrastive(v: Tensor, t: Tensor, scale: Tensor, bias: Tensor, gather: Gather) -> Tensor:
    """Cross entropy of every v with its own t among all t, and of every t with its own v among all v, averaged.

    RSRefSeg 2's contrastive loss: docs/methods/rsrefseg2.md §7. With several processes the rows of all of them compete,
    and every process computes the loss over all.

    Args:
        v, t: (N, C), normalised; row i of one belongs to row i of the other. N may differ between processes.
        scale, bias: scalars; the logits are exp(scale) v tᵀ + bias. The bias cancels.
        gather: gradients of the gathered rows (`gather_rows`).
    """
    v, t = v.float(), t.float()
    if world_size() > 1:
        v, t = (part.contiguous() for part in gather_rows(torch.cat([v, t], 1), gather).chunk(2, 1))
    logits = scale.exp() * v @ t.T + bias
    own = torch.arange(len(v), device=v.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def gather_rows(rows: Tensor, gather: Gather) -> Tensor:
    """Return the rows (N, C) of all processes, in the order of their ranks; N may differ between them, and be 0.

    For a loss L over all rows that each of W processes computes, with gradients averaged by DDP:

    * ``published``: only this process's rows have a gradient, so that everything before them gets 1/W of the gradient
      of L on one process; parameters after them get the full gradient.
    * ``exact``: gradients are returned to the process that a row came from; everything gets the gradient of L.

    With a single process the rows themselves are returned.
    """
    if world_size() == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    sizes = torch.cat(counts).tolist()
    equal = F.pad(rows, (0, 0, 0, max(sizes) - len(rows)))
    if gather == "exact":
        parts = list(_GatherWithGradient.apply(equal).chunk(len(sizes)))  # type: ignore[attr-defined]
    else:
        parts = [torch.empty_like(equal) for _ in sizes]
        dist.all_gather(parts, equal.detach().contiguous())
        parts[dist.get_rank()] = equal
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _GatherWithGradient(torch.autograd.Function):
    """All-gather with a gradient that is summed over the processes. torch's own is deprecated or private."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:  # type: ignore[override]
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        gradient = gradient.clone().contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]
