"""BEiT-3, the union encoder: one transformer reads image patches and words together.

W. Wang et al., "Image as a Foreign Language: BEiT Pretraining for Vision and Vision-Language Tasks", CVPR 2023,
arXiv 2208.10442. Parameter names are those of the released files (below their prefix ``beit3.``). *Multiway*: every
linear layer and norm exists twice, ``A`` for vision and ``B`` for text; only the attention is joint. *Sub-LN*: a
further norm inside attention and feed-forward network, before their output projections.

Symbols: N pairs, L words, C width, P patches; rows are [class token | P patches | L words].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.models.configuration import Count, Depth, Side

FIRST_POSITION = 2  # the position tables' rows 0 and 1 are never read


@dataclass(frozen=True)
class BEiT3Config:
    """Sizes of a BEiT-3; the defaults are ``beit3_large_patch16_224``.

    Attributes:
        image_size, patch_size: in pixels.
        width: C.
        depth, heads, mlp_width: of the transformer.
        vocabulary: rows of the token table.
        text_positions: rows of the text position table, of which all but two can be used.
    """

    image_size: Side = 224
    patch_size: Side = 16
    width: Count = 1024
    depth: Depth = 24
    heads: Count = 16
    mlp_width: Count = 4096
    vocabulary: Count = 64010
    text_positions: Count = 1024

    @property
    def grid(self) -> int:
        """Patches per side."""
        return self.image_size // self.patch_size

    @property
    def max_length(self) -> int:
        """Maximum number of words, including special ones."""
        return self.text_positions - FIRST_POSITION


BEIT3_MINI = BEiT3Config(
    image_size=96, patch_size=8, width=96, depth=3, heads=4, mlp_width=192, vocabulary=512, text_positions=66
)
"""The miniature that benchmarks/miniatures pretrains."""


@dataclass
class UnionFeatures:
    """The encoder's output for N pairs, after the final norm.

    Attributes:
        cls: (N, 1, C).
        patches: V (N, P, C), row-major.
        words: X (N, L, C); padded rows hold values too.
    """

    cls: Tensor
    patches: Tensor
    words: Tensor


class BEiT3(nn.Module):
    """The encoder.

    Raises:
        ConfigError: the width is not a multiple of the heads.
    """

    def __init__(self, config: BEiT3Config) -> None:
        super().__init__()
        if config.width % config.heads:
            raise ConfigError(f"beit3.width {config.width} must be a multiple of beit3.heads {config.heads}")
        self.config = config
        self.vision_embed = VisionEmbedding(config.width, config.patch_size)
        self.text_embed = nn.Embedding(config.vocabulary, config.width)
        nn.init.normal_(self.text_embed.weight, std=config.width**-0.5)
        self.encoder = Encoder(config)

    def forward(self, image: Tensor, ids: Tensor, hidden: Tensor | None) -> UnionFeatures:
        """Encode N pairs.

        Args:
            image: (N, 3, S, S), normalised.
            ids: (N, L) int64.
            hidden: (N, L) bool, words that are not attended to; None for none. Their own rows are still computed.
        """
        vision, text = self.vision_embed(image), self.text_embed(ids)
        positions = self.encoder.embed_positions
        vision = vision + positions.A.weight[FIRST_POSITION:]
        text = text + positions.B.weight[FIRST_POSITION : FIRST_POSITION + ids.shape[1]]
        seen = None
        if hidden is not None:
            text = text.masked_fill(hidden[..., None], 0)
            seen = self.seen(hidden)
        for layer in self.encoder.layers:
            vision, text = layer(vision, text, seen)
        vision, text = self.encoder.layer_norm(vision, text)
        return UnionFeatures(vision[:, :1], vision[:, 1:], text)

    def seen(self, hidden: Tensor) -> Tensor:
        """Return which of the keys are attended to, (N, 1, 1, 1 + P + L) bool."""
        vision = hidden.new_zeros(len(hidden), 1 + self.config.grid**2)
        return ~torch.cat([vision, hidden], 1)[:, None, None]


class VisionEmbedding(nn.Module):
    """Patches as tokens after a class token."""

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, image: Tensor) -> Tensor:
        """Convert (N, 3, S, S) to (N, 1 + P, C)."""
        patches = self.proj(image).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.to(patches.dtype).expand(len(image), -1, -1), patches], 1)


class Multiway(nn.Module):
    """Two layers of one kind: ``A`` for vision, ``B`` for text."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.A, self.B = make(), make()

    def forward(self, vision: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Apply each layer to its own rows."""
        return self.A(vision), self.B(text)


def _linear(width_in: int, width_out: int) -> Multiway:
    return Multiway(lambda: nn.Linear(width_in, width_out))


def _norm(width: int) -> Multiway:
    return Multiway(lambda: nn.LayerNorm(width, eps=1e-5))


class Encoder(nn.Module):
    """Position tables, layers and final norm; a module of its own for the released names."""

    def __init__(self, config: BEiT3Config) -> None:
        super().__init__()
        self.embed_positions = PositionTables(config)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.depth))
        self.layer_norm = _norm(config.width)


class PositionTables(nn.Module):
    """Learned positions of [class token | patches] and of words."""

    def __init__(self, config: BEiT3Config) -> None:
        super().__init__()
        self.A = nn.Embedding(FIRST_POSITION + 1 + config.grid**2, config.width)
        self.B = nn.Embedding(config.text_positions, config.width)
        for table in (self.A, self.B):
            nn.init.normal_(table.weight, std=config.width**-0.5)


class EncoderLayer(nn.Module):
    """Joint attention and separate feed-forward networks, both with a preceding norm and a residual."""

    def __init__(self, config: BEiT3Config) -> None:
        super().__init__()
        self.self_attn_layer_norm = _norm(config.width)
        self.self_attn = JointAttention(config.width, config.heads)
        self.final_layer_norm = _norm(config.width)
        self.ffn = Multiway(lambda: FeedForward(config.width, config.mlp_width))

    def forward(self, vision: Tensor, text: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply to (N, 1 + P, C) and (N, L, C)."""
        v, t = self.self_attn(*self.self_attn_layer_norm(vision, text), seen)
        vision, text = vision + v, text + t
        v, t = self.ffn(*self.final_layer_norm(vision, text))
        return vision + v, text + t


class JointAttention(nn.Module):
    """Attention over all rows with separate projections for vision and text."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = _linear(width, width), _linear(width, width), _linear(width, width)
        self.inner_attn_ln = _norm(width)
        self.out_proj = _linear(width, width)

    def forward(self, vision: Tensor, text: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply to (N, 1 + P, C) and (N, L, C); ``seen`` from `BEiT3.seen`."""
        q, k, v = (
            torch.cat(project(vision, text), 1).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        out = out.transpose(1, 2).flatten(2)
        rows = vision.shape[1]
        return self.out_proj(*self.inner_attn_ln(out[:, :rows], out[:, rows:]))


class FeedForward(nn.Module):
    """Linear, exact GELU, norm, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.ffn_layernorm, self.fc2 = (
            nn.Linear(width, hidden),
            nn.LayerNorm(hidden, eps=1e-5),
            nn.Linear(hidden, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (N, ·, C)."""
        h = self.fc1(x)
        h = F.gelu(h.float()).to(h.dtype)  # in float32 whatever the precision, as in the released program
        return self.fc2(self.ffn_layernorm(h))
