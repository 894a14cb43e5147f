"""Cosine similarity of a vector with every cell of a map, on the map's own grid or on an enlarged one.

RSRefSeg 2 enlarges the C-channel map before the correlation ("pre-up", docs/methods/rsrefseg2.md §5), which at full
size means N maps of 1152 × 256 × 256. `correlate_enlarged` gives the same values from maps on the small grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def correlate(u: Tensor, W: Tensor) -> Tensor:
    """Return the cosine of u (N, C) and every cell of W (N, C, h, w): float32 (N, 1, h, w). No epsilon in the norms."""
    with torch.autocast(W.device.type, enabled=False):
        u, W = u.float(), W.float()
        inner = torch.einsum("nc,nchw->nhw", u / u.norm(dim=1, keepdim=True), W)
        return (inner / W.norm(dim=1)).unsqueeze(1)


def correlate_enlarged(u: Tensor, W: Tensor, side: int) -> Tensor:
    """Return the cosine of u (N, C) and every cell of W enlarged to side × side, bilinear, ``align_corners=True``.

    An enlarged cell is a weighted sum of at most four neighbours, W' = Σ a_k W_k, so that ⟨u, W'⟩ is the enlarged map
    of ⟨u, W_k⟩, and |W'|² = Σ a_k a_l ⟨W_k, W_l⟩ needs only the inner products of a cell with itself, its right, its
    lower and its two diagonal neighbours. The weights are products of a row's and a column's, hence the matrices below.

    Args:
        u: (N, C).
        W: (N, C, h, w).
        side: of the enlarged map.

    Returns:
        float32 (N, 1, side, side). Computed without autocast: 8 bits are not precise enough for the quadratic form.
    """
    h, w = W.shape[-2:]
    with torch.autocast(W.device.type, enabled=False):
        u, W = u.float(), W.float()
        rows, columns = _weights(h, side, W), _weights(w, side, W)  # (side, h), (side, w)
        inner = torch.einsum("nc,nchw->nhw", u / u.norm(dim=1, keepdim=True), W)

        left, right = W[..., :-1], W[..., 1:]
        itself = W.square().sum(1)
        beside = (left * right).sum(1)  # (N, h, w - 1)
        below = (W[..., :-1, :] * W[..., 1:, :]).sum(1)  # (N, h - 1, w)
        # the two diagonals of a 2 × 2 block carry the same weight
        across = (left[..., :-1, :] * right[..., 1:, :] + right[..., :-1, :] * left[..., 1:, :]).sum(1)
        row_pairs, column_pairs = 2 * rows[:, :-1] * rows[:, 1:], 2 * columns[:, :-1] * columns[:, 1:]
        squared = (
            rows.square() @ itself @ columns.square().T
            + rows.square() @ beside @ column_pairs.T
            + row_pairs @ below @ columns.square().T
            + row_pairs @ across @ column_pairs.T / 2
        )
        # rounding may make a norm of zero slightly negative if neighbours cancel
        norm = squared.clamp_min(torch.finfo(squared.dtype).tiny).sqrt()
        return (rows @ inner @ columns.T / norm).unsqueeze(1)


def _weights(cells: int, side: int, like: Tensor) -> Tensor:
    """Return the share of each cell in each line of the enlarged map, (side, cells); at most two are not zero."""
    each = torch.eye(cells, dtype=like.dtype, device=like.device)
    return F.interpolate(each[None], size=side, mode="linear", align_corners=True)[0].T
