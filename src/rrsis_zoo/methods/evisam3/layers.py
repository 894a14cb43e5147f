"""Attention for EviSAM3.

Section numbers (§) and quirks (Q) are those of docs/methods/evisam3.md, symbols those of ``model.py``.
"""

from __future__ import annotations

from torch import Tensor, nn


class Attention(nn.MultiheadAttention):
    """Multi-head attention on (N, ·, width) without maps of its weights."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, batch_first=True)

    def forward(self, q: Tensor, kv: Tensor, unread: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Let q attend to kv; ``unread`` (N, keys) bool marks keys that are not attended to."""
        return super().forward(q, kv, kv, key_padding_mask=unread, need_weights=False)[0]
