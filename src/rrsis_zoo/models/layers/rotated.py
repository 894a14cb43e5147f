"""Adaptive rotated convolution (Pu et al., ICCV 2023) for 3 × 3 kernels: the kernel is rotated for every sample.

A router predicts an angle θ and a weight α for each of n kernels from the convolution's own input; the sample is
convolved with the weighted sum of the rotated kernels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.models.layers.host import constant
from rrsis_zoo.models.layers.norm import ChannelNorm

_TAPS = (-1.0, 0.0, 1.0)


class RotatedConv(nn.Module):
    """3 × 3 convolution with rotated kernels, padding 1, stride 1, no bias.

    Args:
        width_in, width_out: channels.
        kernels: n.
        max_angle: bound of |θ| in degrees, at most 45 (beyond, a tap would leave the kernel's square).
        dropout: of the router's two heads, in training mode.
    """

    def __init__(
        self, width_in: int, width_out: int, kernels: int = 1, max_angle: float = 40.0, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(kernels, width_out, width_in, 3, 3))
        nn.init.normal_(self.weight, std=math.sqrt(2 / (9 * width_in)))
        self.router = Router(width_in, kernels, max_angle, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, Cin, h, w)."""
        alpha, theta = self.router(x)
        K = self.kernels(alpha, theta)
        b, out = K.shape[:2]
        y = F.conv2d(x.flatten(0, 1).unsqueeze(0), K.flatten(0, 1), padding=1, groups=b)
        return y.reshape(b, out, *x.shape[-2:])

    def kernels(self, alpha: Tensor, theta: Tensor) -> Tensor:
        """Return Σ_n α_bn · Rot(weight_n, θ_bn), (B, Cout, Cin, 3, 3), for alpha and theta of shape (B, n)."""
        turned = torch.einsum(
            "bn,bnts,nois->boit", alpha, rotation_matrices(theta).to(alpha.dtype), self.weight.flatten(3)
        )
        return turned.unflatten(-1, (3, 3))


class Router(nn.Module):
    """Predicts α in (0, 1) and θ in radians, both (B, n), from a map (B, C, h, w)."""

    def __init__(self, width: int, kernels: int, max_angle: float, dropout: float) -> None:
        super().__init__()
        self.dwc = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm = ChannelNorm(width)
        self.drop_alpha, self.drop_theta = nn.Dropout(dropout), nn.Dropout(dropout)
        self.fc_alpha = nn.Linear(width, kernels)
        self.fc_theta = nn.Linear(width, kernels, bias=False)
        self.max_angle = math.radians(max_angle)
        for weight in (self.dwc.weight, self.fc_alpha.weight, self.fc_theta.weight):
            nn.init.trunc_normal_(weight, std=0.02)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return α and θ."""
        pooled = F.relu(self.norm(self.dwc(x))).mean((-2, -1))
        alpha = self.fc_alpha(self.drop_alpha(pooled)).sigmoid()
        theta = self.max_angle * F.softsign(self.fc_theta(self.drop_theta(pooled)))
        return alpha, theta


def rotation_matrices(theta: Tensor) -> Tensor:
    """Return the matrices that rotate a flattened 3 × 3 kernel by θ radians.

    The output tap at (row r, column c) is the bilinear sample of the input kernel at row r·cosθ + c·sinθ and column
    −r·sinθ + c·cosθ, both clamped to [−1, 1]; the centre stays.

    Args:
        theta: (…), |θ| ≤ π/4.

    Returns:
        (…, 9, 9): rows are output taps, columns input taps, both row-major.
    """
    tap = constant(_TAPS, theta)
    r, c = tap.repeat_interleave(3), tap.repeat(3)
    cos, sin = theta.cos().unsqueeze(-1), theta.sin().unsqueeze(-1)
    row, column = (r * cos + c * sin).clamp(-1, 1), (c * cos - r * sin).clamp(-1, 1)  # (…, 9)
    share = [(1 - (at.unsqueeze(-1) - tap).abs()).clamp_min(0) for at in (row, column)]  # hat functions, (…, 9, 3)
    return (share[0].unsqueeze(-1) * share[1].unsqueeze(-2)).flatten(-2)
