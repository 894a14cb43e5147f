"""LAVT's parts: the fusion of words and pixels behind every stage of a Swin, the gate, and the decoder.

Symbols: B pairs of image and sentence, C channels of a stage, H × W its map, L words, D their width. Maps inside the
trunk are (B, H, W, C), as Swin's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.models.backbones.swin import PatchEmbed, PatchMerging, SwinBlock, SwinConfig
from rrsis_zoo.models.layers.precision import cast

HIDDEN = -10_000.0
"""Added to the score of a word that is not read."""


class Fusion(nn.Module):
    """Pixel-word attention (PWAM): what the words say to every position, times the position's own features.

    Q = IN(q X), K = m · k T, V = m · v T, S = Q Kᵀ / √C + 10,000 (m − 1), A = softmax over words of S,
    G = IN(w A V), R = GELU(p (GELU(v' X) ⊙ G)). IN is the instance norm over positions, without scale and shift.

    Args:
        width: C.
        text_width: D.
        heads: of the attention; scores are divided by √C with any number of them (Q4).
        dropout: behind both GELUs.
    """

    def __init__(self, width: int, text_width: int, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Conv1d(width, width, 1)
        self.key = nn.Conv1d(text_width, width, 1)
        self.value = nn.Conv1d(text_width, width, 1)
        self.said = nn.Conv1d(width, width, 1)
        self.own = nn.Conv1d(width, width, 1)
        self.joint = nn.Conv1d(width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, X: Tensor, T: Tensor, m: Tensor) -> Tensor:
        """Return R (B, H, W, C).

        Args:
            X: (B, H, W, C).
            T: words (B, L, D).
            m: bool (B, L), words that are read.
        """
        x, t, m = X.flatten(1, 2).transpose(1, 2), T.transpose(1, 2), m[:, None].to(T.dtype)  # (B, ·, HW), (B, ·, L)
        Q, K, V = F.instance_norm(self.query(x), eps=1e-5), self.key(t) * m, self.value(t) * m
        G = F.instance_norm(self.said(self.attend(Q, K, V, m)), eps=1e-5)
        own = self.dropout(F.gelu(self.own(x)))
        R = self.dropout(F.gelu(self.joint(own * cast(G, own))))
        return R.transpose(1, 2).unflatten(1, X.shape[1:3])

    def attend(self, Q: Tensor, K: Tensor, V: Tensor, m: Tensor) -> Tensor:
        """Return A V, (B, C, HW)."""
        A = self.attention(Q, K, m)
        return (A @ self._split(V).transpose(-1, -2).to(A.dtype)).transpose(-1, -2).flatten(1, 2)

    def attention(self, Q: Tensor, K: Tensor, m: Tensor) -> Tensor:
        """Return A (B, heads, HW, L)."""
        Q, K = self._split(Q), self._split(cast(K, Q))
        S = Q.transpose(-1, -2) @ K / math.sqrt(Q.shape[1] * Q.shape[2])
        return (S + (1 - m[:, None].to(S.dtype)) * HIDDEN).softmax(-1)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.heads, -1))


class Gate(nn.Sequential):
    """tanh(B₂ relu(B₁ x)), both C × C without bias: how much of x is added to the trunk's stream."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, width, bias=False), nn.ReLU(), nn.Linear(width, width, bias=False), nn.Tanh())


class Stage(nn.Module):
    """One stage of the trunk: Swin's blocks, the fusion, the gate; between stages a merging of 2 × 2 cells."""

    def __init__(self, config: SwinConfig, stage: int, fusion: Fusion) -> None:
        super().__init__()
        width = config.channels[stage]
        self.blocks = nn.ModuleList(SwinBlock(config, stage, j) for j in range(config.depths[stage]))
        self.fusion = fusion
        self.gate = Gate(width)
        self.merging = PatchMerging(width) if stage < 3 else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the blocks to x (B, H, W, C): X."""
        for block in self.blocks:
            x = block(x)
        return x

    def unread(self, X: Tensor) -> Tensor | None:
        """Return what is added to X without reading the sentence, (B, H, W, C); LAVT has nothing of this kind."""
        return None

    def updated(self, X: Tensor, R: Tensor, unread: Tensor | None) -> Tensor:
        """Return X + gate(R) ⊙ R + unread, which enters the next stage after merging."""
        X = X + self.gate(R) * R
        return X if unread is None else X + unread


class Backbone(nn.Module):
    """Swin with the sentence in every stage.

    Args:
        config: sizes of the trunk.
        stage: makes stage i.
        cross: what all four features go through together; None for nothing.
    """

    def __init__(self, config: SwinConfig, stage: Callable[[int], Stage], cross: nn.Module | None = None) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(config)
        self.stages = nn.ModuleList(stage(i) for i in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in config.channels)
        self.cross = cross

    def begin(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what needs no sentence: X of the first stage, and its `Stage.unread`.

        Args:
            image: (M, 3, S, S), normalised.
        """
        first: Stage = self.stages[0]  # type: ignore[assignment]
        X = first(self.patch_embed(image))
        return X, first.unread(X)

    def forward(self, X: Tensor, unread: Tensor | None, T: Tensor, m: Tensor) -> list[Tensor]:
        """Return the four features (B, C_i, H_i, W_i) for B pairs.

        Args:
            X, unread: from ``begin``, of every pair's image.
            T: words (B, L, D).
            m: bool (B, L), words that are read.
        """
        features: list[Tensor] = []
        stages: list[Stage] = [*self.stages]  # type: ignore[list-item]
        for i, (stage, norm) in enumerate(zip(stages, self.norms, strict=True)):
            if i:
                X = stage(X)
            R = stage.fusion(X, T, m)
            features.append(norm(R).permute(0, 3, 1, 2))
            if stage.merging is not None:  # behind the last stage nothing reads the sum
                if i:
                    unread = stage.unread(X)
                X = stage.merging(stage.updated(X, R, unread))
        return features if self.cross is None else self.cross(features)


class Step(nn.Module):
    """One step of the decoder: two 3 × 3 convolutions with batch norm and ReLU.

    Args:
        width_in, width: channels.
        second: the second convolution, ``width`` to ``width`` channels.
    """

    def __init__(self, width_in: int, width: int, second: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = second
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor, finer: Tensor) -> Tensor:
        """Join the deeper map x with the next finer feature, (B, C, H, W)."""
        if x.shape[-2] < finer.shape[-2] or x.shape[-1] < finer.shape[-1]:
            x = cast(resize_corners(x, (finer.shape[-2], finer.shape[-1])), finer)
        x = F.relu(self.bn1(self.conv1(torch.cat([x, finer], 1))))
        return F.relu(self.bn2(self.conv2(x)))


class Decoder(nn.Module):
    """From the coarsest feature to the finest: two maps, background and object.

    Args:
        channels: of the four features, the finest first; the hidden width is half of the last.
        second: makes the second convolution of a step for this number of channels.
    """

    def __init__(self, channels: Sequence[int], second: Callable[[int], nn.Module] | None = None) -> None:
        super().__init__()
        width = channels[-1] // 2
        into = [channels[3] + channels[2], width + channels[1], width + channels[0]]
        make = second or (lambda width: nn.Conv2d(width, width, 3, padding=1, bias=False))
        self.steps = nn.ModuleList(Step(width_in, width, make(width)) for width_in in into)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return z (B, 2, H, W) on the finest feature's grid."""
        x = features[-1]
        for step, finer in zip(self.steps, features[-2::-1], strict=True):
            x = step(x, finer)
        return self.head(x)


def resize_corners(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of (B, C, h, w) whose corners stay (``align_corners``); half types become float32."""
    if maps.shape[-2:] == size:
        return maps
    wide = maps if maps.dtype == torch.float64 else maps.float()
    return F.interpolate(wide, size=size, mode="bilinear", align_corners=True)
