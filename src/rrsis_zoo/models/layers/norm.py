"""Norms on maps."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of every cell of a map (B, C, h, w), eps 1e-5."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, h, w)."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)
