"""What RMSIN adds to LAVT: a text-free branch behind every stage, a mixer of all scales, rotated convolutions.

Symbols as in `rrsis_zoo.methods.lavt.layers`; g side of the coarsest map, c_i channels of feature i, S their sum and
D = S/4 the mixer's width; h heads of d key and e value channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.methods.lavt.layers import Fusion, Gate, Stage
from rrsis_zoo.models.backbones.swin import SwinConfig
from rrsis_zoo.models.configuration import Count
from rrsis_zoo.models.layers.geometry import resize
from rrsis_zoo.models.layers.precision import cast

# -- intra-scale interaction: the branch that reads no words -----------------------------------------------------------


class IntraScaleStage(Stage):
    """LAVT's stage with a second branch: X ← X + gate₁(R) ⊙ R + gate₂(Z) ⊙ Z, Z = X ⊙ P."""

    def __init__(self, config: SwinConfig, stage: int, fusion: Fusion) -> None:
        super().__init__(config, stage, fusion)
        self.position_weights = PositionWeights()
        self.visual_gate = Gate(config.channels[stage])

    def visual(self, X: Tensor) -> Tensor:
        """Return Z (B, H, W, C)."""
        return X * self.position_weights(X)

    def unread(self, X: Tensor) -> Tensor:
        """Return gate₂(Z) ⊙ Z, (B, H, W, C)."""
        Z = self.visual(X)
        return self.visual_gate(Z) * Z


class PositionWeights(nn.Module):
    """P = σ(U₂(relu(U₁(t)))), t the mean over channels: one weight in (0, 1) for every position."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Unit(), Unit()

    def forward(self, X: Tensor) -> Tensor:
        """Return P (B, H, W, 1) of X (B, H, W, C)."""
        t = X.mean(-1)[:, None]
        return self.second(F.relu(self.first(t))).sigmoid().permute(0, 2, 3, 1)


class Unit(nn.Module):
    """U(z) = bn(a z) + bn(k₃ bn(c z)) + bn(z) on one channel; a, c are numbers, k₃ a 3 × 3 kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.pointwise = nn.ModuleDict({"conv": nn.Conv2d(1, 1, 1, bias=False), "bn": nn.BatchNorm2d(1)})
        self.spatial = nn.ModuleDict(
            {
                "conv1": nn.Conv2d(1, 1, 1, bias=False),
                "bn1": nn.BatchNorm2d(1),
                "conv2": nn.Conv2d(1, 1, 3, padding=1, bias=False),  # pads what the norm gives, not what it takes
                "bn2": nn.BatchNorm2d(1),
            }
        )
        self.identity = nn.BatchNorm2d(1)

    def forward(self, z: Tensor) -> Tensor:
        """Apply to (B, 1, H, W)."""
        a, k = self.pointwise, self.spatial
        return a["bn"](a["conv"](z)) + k["bn2"](k["conv2"](k["bn1"](k["conv1"](z)))) + self.identity(z)


# -- cross-scale interaction: a mixer of all four features on the coarsest grid ----------------------------------------


@dataclass(frozen=True)
class CrossScaleConfig:
    """Sizes of the mixer.

    Attributes:
        heads, key_width: h and d.
        value_ratio: e over d.
        mlp_ratio: inner over outer channels of the feed-forward parts.
    """

    heads: Count = 8
    key_width: Count = 32
    value_ratio: Count = 2
    mlp_ratio: Count = 2


class CrossScale(nn.Module):
    """Replaces F_1 … F_4 by features that know of each other.

    Args:
        config: sizes.
        channels: c_1 … c_4, each a multiple of 4.
        grid: g; the attention has a weight for every pair of positions, so that no other works.
    """

    def __init__(self, config: CrossScaleConfig, channels: Sequence[int], grid: int) -> None:
        super().__init__()
        total = sum(channels)
        self.channels, self.grid, width = list(channels), grid, total // 4
        self.down_channel = nn.Conv2d(total, width, 1)
        self.csa1 = CrossScaleAttention(config, width, grid)
        self.intra_ff = nn.ModuleList(FeedForward(c // 4, config.mlp_ratio) for c in channels)
        self.csa2 = CrossScaleAttention(config, width, grid)
        self.ff = FeedForward(width, config.mlp_ratio)
        self.bn = nn.BatchNorm2d(width)
        self.up_channel = nn.Conv2d(width, total, 1)
        self.back = nn.ModuleList(BackToScale(c) for c in channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return four maps of the given shapes, F_i (B, c_i, H_i, W_i)."""
        x = torch.cat([F.adaptive_avg_pool2d(f, self.grid) for f in features], 1)
        x = self.csa1(self.down_channel(x))
        x = x + self.each_scale(x)
        x = self.csa2(x)
        x = x + self.ff(x)
        G = self.up_channel(self.bn(x)).split(self.channels, 1)
        return [back(f, g) for back, f, g in zip(self.back, features, G, strict=True)]

    def each_scale(self, x: Tensor) -> Tensor:
        """Return x_i + FF_i(x_i) of every scale's channels: with the residual around it, x counts twice (Q8)."""
        parts = x.split([c // 4 for c in self.channels], 1)
        return torch.cat([part + ff(part) for part, ff in zip(parts, self.intra_ff, strict=True)], 1)


class CrossScaleAttention(nn.Module):
    """Attention of the map and of two reductions of it, by 2 and 3, with one another."""

    def __init__(self, config: CrossScaleConfig, width: int, grid: int) -> None:
        super().__init__()
        h, d = config.heads, config.key_width
        e = config.value_ratio * d
        self.heads, self.parts, self.grid = h, (d, d, e), grid
        tokens = sum(((grid - 1) // stride + 1) ** 2 for stride in (1, 2, 3))
        self.bn1 = nn.BatchNorm2d(width)
        self.by_two = nn.Sequential(nn.Conv2d(width, width, 3, 2, 1, groups=width), nn.BatchNorm2d(width))
        self.by_three = nn.Sequential(nn.Conv2d(width, width, 5, 3, 2, groups=width), nn.BatchNorm2d(width))
        self.qkv = NormedLinear(width, h * (2 * d + e))
        self.local = nn.Conv2d(h * e, h * e, 3, padding=1, groups=h * e)
        self.positions = nn.Linear(tokens, grid**2)
        self.out = nn.Linear(h * e, width)
        self.bn4 = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + attention, (B, D, g, g)."""
        y = self.attend(x).transpose(1, 2).unflatten(2, (self.grid, self.grid))
        return x + self.conv(F.hardswish(self.bn4(y)))

    def attend(self, x: Tensor) -> Tensor:
        """Return what the positions read, (B, g², D)."""
        y0 = self.bn1(x)
        tokens = torch.cat([y.flatten(2).transpose(1, 2) for y in (y0, self.by_two(y0), self.by_three(y0))], 1)
        q, k, v = self.qkv(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2).split(self.parts, -1)
        # The two `reshape`s mix positions and channels: they are not transpositions, but part of what was trained (Q7).
        g, he = self.grid, self.heads * self.parts[2]
        first = v[:, :, : g * g].reshape(-1, he, g, g)
        local = self.local(F.hardswish(first)).flatten(2)
        A = (q @ k.transpose(-1, -2) / math.sqrt(self.parts[0])).softmax(-1)
        o = (A @ v.to(A.dtype)).transpose(1, 2).reshape(len(x), he, -1)
        return self.out((self.positions(o) + local).transpose(1, 2))


class NormedLinear(nn.Module):
    """Linear layer without bias and a batch norm over all tokens of the batch."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width, bias=False)
        self.bn = nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (B, N, C)."""
        y = self.linear(x)
        return self.bn(y.flatten(0, 1)).view_as(y)


class FeedForward(nn.Module):
    """1 × 1 to more channels, 3 × 3 inside small groups, 1 × 1 back; without the residual."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        inner = ratio * width
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, inner, 1)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, groups=width)
        self.conv3 = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (B, C, g, g)."""
        return self.conv3(F.relu6(self.conv2(self.bn2(self.conv1(self.bn1(x))))))


class BackToScale(nn.Module):
    """F' = bn₁(local F) ⊙ up(hsig(bn₃(gate G))) + up(bn₂(global G)), up to F's size; F itself is replaced."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.local_embedding, self.bn1 = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)
        self.global_embedding, self.bn2 = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)
        self.global_act, self.bn3 = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)

    def forward(self, f: Tensor, G: Tensor) -> Tensor:
        """Apply to F (B, c, H, W) and G (B, c, g, g)."""
        size = (f.shape[-2], f.shape[-1])
        gate = resize(F.hardsigmoid(self.bn3(self.global_act(G))), size)
        shared = resize(self.bn2(self.global_embedding(G)), size)
        own = self.bn1(self.local_embedding(f))
        return own * cast(gate, own) + cast(shared, own)
