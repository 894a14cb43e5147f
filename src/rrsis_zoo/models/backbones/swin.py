"""Swin transformer as a trunk of four stages (Liu et al., ICCV 2021), with windows that need not fit the map.

Parameter names are those of Microsoft's released files below a stage: ``blocks.J.attn.qkv``, ``downsample.norm`` ….
Own code, because a map that is no multiple of the window must be padded *before* it is shifted, and keeps its window
even if it is smaller: timm shifts first, transformers shrinks the window. At 480 px and window 12 the last two stages
are padded.

Symbols: B images, C channels, H × W cells of a map, w side of a window, s shift. Maps are (B, H, W, C).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from timm.layers.drop import DropPath
from torch import Tensor, nn

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.models.configuration import Count, Depth, Share, Side
from rrsis_zoo.models.layers.rows import rows

PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)

FORBIDDEN = -100.0
"""Added to the score of two cells of a shifted window that are no neighbours in the image."""


@dataclass(frozen=True)
class SwinConfig:
    """Sizes of a Swin; the defaults are Swin-B with window 12.

    Attributes:
        width: C of the first stage; it doubles in every further one.
        depths, heads: blocks and attention heads of each stage; a stage's channels are a multiple of its heads.
        window: w.
        patch_size: side of a patch in pixels.
        mlp_ratio: inner width of a block's MLP over C.
        drop_path: stochastic depth of the last block in training mode; it grows linearly from 0 in the first.
    """

    width: Count = 128
    depths: tuple[Depth, ...] = (2, 2, 18, 2)
    heads: tuple[Count, ...] = (4, 8, 16, 32)
    window: Count = 12
    patch_size: Side = 4
    mlp_ratio: Annotated[float, Field(gt=0, le=64)] = 4.0
    drop_path: Share = 0.3

    def __post_init__(self) -> None:
        if len(self.depths) != 4 or len(self.heads) != 4:
            raise ConfigError(f"a Swin has four stages, got depths {self.depths} and heads {self.heads}")
        for channels, heads in zip(self.channels, self.heads, strict=True):
            if channels % heads:
                raise ConfigError(f"swin.width {self.width} gives {channels} channels, no multiple of {heads} heads")

    @property
    def channels(self) -> tuple[int, ...]:
        """C of every stage."""
        return tuple(self.width * 2**i for i in range(4))

    @property
    def rates(self) -> list[list[float]]:
        """Drop-path rate of every block, by stage."""
        last, j, rates = max(1, sum(self.depths) - 1), 0, []
        for depth in self.depths:
            rates.append([self.drop_path * (j + k) / last for k in range(depth)])
            j += depth
        return rates


class PatchEmbed(nn.Module):
    """Strided convolution and layer norm: images (B, 3, S, S') to a map (B, H, W, C)."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.patch = config.patch_size
        self.proj = nn.Conv2d(3, config.width, self.patch, stride=self.patch)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, image: Tensor) -> Tensor:
        """Embed; images are padded with 0 on the right and at the bottom to whole patches."""
        height, width = image.shape[-2:]
        image = F.pad(image, (0, -width % self.patch, 0, -height % self.patch))
        return self.norm(self.proj(image).permute(0, 2, 3, 1))


class SwinBlock(nn.Module):
    """Attention inside windows and an MLP, both pre-norm with a residual.

    Args:
        config: sizes.
        stage: 0 to 3.
        index: of the block in its stage; the windows of odd ones are shifted by half a window.
    """

    def __init__(self, config: SwinConfig, stage: int, index: int) -> None:
        super().__init__()
        width, rate = config.channels[stage], config.rates[stage][index]
        self.shift = config.window // 2 if index % 2 else 0
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, config.heads[stage], config.window)
        self.drop_path = DropPath(rate)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, int(config.mlp_ratio * width))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to a map (B, H, W, C)."""
        x = x + self.drop_path(self.attend(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def attend(self, u: Tensor) -> Tensor:
        """Attend inside windows: pad, shift, cut into windows, and back."""
        (_, H, W, _), w, s = u.shape, self.attn.window, self.shift
        u = F.pad(u, (0, 0, 0, -W % w, 0, -H % w))  # the pads are keys like others: zeros only before the projections
        size, forbidden = (u.shape[1], u.shape[2]), None
        if s:
            u, forbidden = u.roll((-s, -s), (1, 2)), far_pairs(size, w, s, u.device)
        u = from_windows(self.attn(into_windows(u, w), forbidden), size, w)
        if s:
            u = u.roll((s, s), (1, 2))
        return u[:, :H, :W]


class WindowAttention(nn.Module):
    """Multi-head attention with a learned bias for every relative position in a window."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        at = torch.arange(window)
        between = at[:, None] - at + window - 1  # query minus key, from 0
        index = between[:, None, :, None] * (2 * window - 1) + between[None, :, None, :]
        self.register_buffer("relative_position_index", index.flatten(2).flatten(0, 1), persistent=False)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, forbidden: Tensor | None) -> Tensor:
        """Attend.

        Args:
            x: (B · windows, w², C).
            forbidden: bool (windows, w², w²), pairs of query and key that must not see each other; None for none.
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        index = self.relative_position_index
        bias = rows(self.relative_position_bias_table, index.flatten()).unflatten(0, index.shape)
        bias = bias.permute(2, 0, 1).to(q.dtype)[None]
        if forbidden is not None:
            bias = bias + forbidden[:, None].to(q.dtype) * FORBIDDEN
            bias = bias.repeat(len(x) // len(forbidden), 1, 1, 1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(out.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (…, C)."""
        return self.fc2(F.gelu(self.fc1(x)))


class PatchMerging(nn.Module):
    """Halve a map: the four cells of a square become one of 2 C channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convert (B, H, W, C) to (B, ⌈H/2⌉, ⌈W/2⌉, 2C); odd sizes are padded with 0 on the right and at the bottom."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        cells = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(cells, -1)))


def into_windows(x: Tensor, w: int) -> Tensor:
    """Cut a map (B, H, W, C) into windows (B · windows, w², C), both row by row."""
    return x.unflatten(2, (-1, w)).unflatten(1, (-1, w)).transpose(2, 3).flatten(3, 4).flatten(0, 2)


def from_windows(x: Tensor, size: tuple[int, int], w: int) -> Tensor:
    """Put windows (B · windows, w², C) together to maps (B, H, W, C) of this size."""
    rows, columns = size[0] // w, size[1] // w
    return x.unflatten(1, (w, w)).unflatten(0, (-1, rows, columns)).transpose(2, 3).flatten(3, 4).flatten(1, 2)


def far_pairs(size: tuple[int, int], w: int, s: int, device: torch.device) -> Tensor:
    """Return which pairs of cells in a shifted map's windows are no neighbours in the image.

    Args:
        size: H, W of the padded map.
        w, s: window and shift.
        device: of the result.

    Returns:
        Bool (windows, w², w²).
    """

    def bands(length: int) -> Tensor:
        at = torch.arange(length, device=device)
        return (at >= length - w).long() + (at >= length - s).long()

    label = 3 * bands(size[0])[:, None] + bands(size[1])
    label = into_windows(label[None, ..., None], w)[..., 0]
    return label[:, :, None] != label[:, None, :]


def init_linear(module: nn.Module) -> None:
    """Initialise linear layers as in Swin's training: truncated normal of deviation 0.02, bias 0 (for ``apply``)."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
