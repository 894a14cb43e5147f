"""SigLIP and SigLIP 2: a vision tower, a text tower, their scalar similarity scale and bias.

SigLIP 2 at a fixed resolution is the same network with other weights, vocabulary and sizes.

Parameter names are those of the released files (``vision_model.…``, ``text_model.…``, ``logit_scale``,
``logit_bias``). Both towers return features after their final layer norm; text is read without a mask.

Equal to transformers' ``SiglipModel`` bit for bit, in its outputs and in the random numbers of a new model
(tests/models/backbones/test_siglip.py); importing that one takes longer than torch itself, at every start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.models.configuration import Count, Depth, Side
from rrsis_zoo.models.layers.host import to_device
from rrsis_zoo.models.types import Tokens, unread_positions

PIXEL_MEAN = (0.5, 0.5, 0.5)
PIXEL_STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class SigLIPConfig:
    """Sizes of a SigLIP; the defaults are ``siglip-so400m-patch14-384``.

    Attributes:
        image_size, patch_size: in pixels; the grid has ``image_size // patch_size`` cells per side.
        width: C, of both towers.
        vision_depth, vision_heads, vision_mlp_width: of the vision tower.
        text_depth, text_heads, text_mlp_width: of the text tower.
        vocabulary: rows of the token table.
        max_length: rows of the text position table.
        logit_scale, logit_bias: initial values (log domain for the scale) if no weights are loaded.
    """

    image_size: Side = 384
    patch_size: Side = 14
    width: Count = 1152
    vision_depth: Depth = 27
    vision_heads: Count = 16
    vision_mlp_width: Count = 4304
    text_depth: Depth = 27
    text_heads: Count = 16
    text_mlp_width: Count = 4304
    vocabulary: Count = 32000
    max_length: Count = 64
    logit_scale: float = 0.0
    logit_bias: float = 0.0

    @property
    def grid(self) -> int:
        """Cells per side of the patch grid."""
        return self.image_size // self.patch_size


SIGLIP2_SO400M_512 = SigLIPConfig(image_size=512, patch_size=16, vocabulary=256_000)
"""``siglip2-so400m-patch16-512``."""
SIGLIP_MINI = SigLIPConfig(
    image_size=128,
    patch_size=8,
    width=128,
    vision_depth=4,
    vision_heads=4,
    vision_mlp_width=256,
    text_depth=2,
    text_heads=4,
    text_mlp_width=256,
    vocabulary=512,
    max_length=64,
    logit_scale=2.3,  # SigLIP begins with log 10 ...
    logit_bias=-4.0,  # ... and -10; batches are smaller here
)
"""The miniature that benchmarks/miniatures pretrains."""


@dataclass
class TextFeatures:
    """The text tower's output for N expressions.

    Attributes:
        tokens: T (N, L, C), zero where a position is not read.
        pooled: g (N, C), from the linear head at the last position that is read.
        length: (N,) int64, positions that are read.
        complete: whether all positions are read, as known on the host; None if it is not.
    """

    tokens: Tensor
    pooled: Tensor
    length: Tensor
    complete: bool | None = None

    def unread(self) -> Tensor | None:
        """Return which positions are not read, bool (N, L); None if all are."""
        unread = unread_positions(self.length, self.tokens.shape[1])
        complete = not unread.any() if self.complete is None else self.complete
        return None if complete else unread


class Hidden(NamedTuple):
    """What a tower returns.

    Attributes:
        last_hidden_state: (N, L, C) after the final norm.
        pooler_output: (N, C).
    """

    last_hidden_state: Tensor
    pooler_output: Tensor


_EPS = 1e-6  # of all layer norms


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be divided among {heads} heads")
        self.head_width = width // heads
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (
            part(x).view(*x.shape[:-1], -1, self.head_width).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = F.scaled_dot_product_attention(q, k, v, mask, scale=self.head_width**-0.5)
        return self.out_proj(out.transpose(1, 2).contiguous().reshape(*x.shape[:-1], -1).contiguous())


class _MLP(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(width, eps=_EPS)
        self.self_attn = _Attention(width, heads)
        self.layer_norm2 = nn.LayerNorm(width, eps=_EPS)
        self.mlp = _MLP(width, inner)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), mask)
        return x + self.mlp(self.layer_norm2(x))


class _Encoder(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, inner: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_Layer(width, heads, inner) for _ in range(depth)])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask)
        return x


class _TextEmbeddings(nn.Module):
    def __init__(self, config: SigLIPConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.position_embedding = nn.Embedding(config.max_length, config.width)

    def forward(self, ids: Tensor) -> Tensor:
        return self.token_embedding(ids) + self.position_embedding(_places(ids.shape[-1], ids))


class _VisionEmbeddings(nn.Module):
    def __init__(self, config: SigLIPConfig) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size, padding="valid")
        self.position_embedding = nn.Embedding(config.grid**2, config.width)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch_embedding(image.to(self.patch_embedding.weight.dtype)).flatten(2).transpose(1, 2)
        return patches + self.position_embedding(_places(self.position_embedding.num_embeddings, image))


def _places(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, device=like.device)[None]


class _PoolingHead(nn.Module):
    """One query that attends to all patches; released files have its weights, but no method here uses its output."""

    def __init__(self, config: SigLIPConfig) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.randn(1, 1, config.width))
        self.attention = nn.MultiheadAttention(config.width, config.vision_heads, batch_first=True)
        self.layernorm = nn.LayerNorm(config.width, eps=_EPS)
        self.mlp = _MLP(config.width, config.vision_mlp_width)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.attention(self.probe.repeat(len(x), 1, 1), x, x)[0]
        return (pooled + self.mlp(self.layernorm(pooled)))[:, 0]


class _TextTower(nn.Module):
    def __init__(self, config: SigLIPConfig) -> None:
        super().__init__()
        self.embeddings = _TextEmbeddings(config)
        self.encoder = _Encoder(config.width, config.text_depth, config.text_heads, config.text_mlp_width)
        self.final_layer_norm = nn.LayerNorm(config.width, eps=_EPS)
        self.head = nn.Linear(config.width, config.width)
        _initialise(self, config.width)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Hidden:
        """Read N sentences (N, L); the mask (N, L) is 0 where a position is not attended to."""
        mask = None
        if attention_mask is not None:
            n, length = attention_mask.shape
            mask = attention_mask.bool()[:, None, None].expand(n, 1, length, length)
        x = self.final_layer_norm(self.encoder(self.embeddings(input_ids), mask))
        return Hidden(x, self.head(x[:, -1]))


class _VisionTower(nn.Module):
    def __init__(self, config: SigLIPConfig) -> None:
        super().__init__()
        self.embeddings = _VisionEmbeddings(config)
        self.encoder = _Encoder(config.width, config.vision_depth, config.vision_heads, config.vision_mlp_width)
        self.post_layernorm = nn.LayerNorm(config.width, eps=_EPS)
        self.head = _PoolingHead(config)
        _initialise(self, config.width)

    def forward(self, image: Tensor) -> Hidden:
        x = self.post_layernorm(self.encoder(self.embeddings(image)))
        return Hidden(x, self.head(x))


def _initialise(tower: nn.Module, width: int) -> None:
    """Give a tower the initial values of transformers'.

    The same random numbers are drawn in the same order, including those that a later rule replaces: a model trained
    from random weights stays what it was.
    """
    init = nn.init

    def plain(module: nn.Module) -> None:  # transformers' rule for all models
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding):
            init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.MultiheadAttention):
            module._reset_parameters()

    def own(module: nn.Module) -> None:  # and that for SigLIP
        if isinstance(module, _VisionEmbeddings):
            init.normal_(module.position_embedding.weight, std=1 / math.sqrt(width))
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=math.sqrt(1 / module.embedding_dim))
        elif isinstance(module, _Attention):
            parts = (module.q_proj, module.k_proj, module.v_proj, module.out_proj)
            for part in parts:
                init.xavier_uniform_(part.weight)
            for part in parts:
                init.zeros_(part.bias)
        elif isinstance(module, _MLP):
            init.xavier_uniform_(module.fc1.weight)
            init.xavier_uniform_(module.fc2.weight)
            init.normal_(module.fc1.bias, std=1e-6)
            init.normal_(module.fc2.bias, std=1e-6)
        elif isinstance(module, _PoolingHead):
            init.xavier_uniform_(module.probe)
            init.xavier_uniform_(cast(Tensor, module.attention.in_proj_weight))
            init.zeros_(cast(Tensor, module.attention.in_proj_bias))
        elif isinstance(module, nn.Linear | nn.Conv2d):
            fan_in = module.weight[0].numel()
            init.trunc_normal_(module.weight, std=math.sqrt(1 / fan_in) / 0.87962566103423978)
            if module.bias is not None:
                init.zeros_(module.bias)

    def both(module: nn.Module) -> None:
        plain(module)
        own(module)

    with torch.no_grad():
        tower.apply(both)


class SigLIP(nn.Module):
    """SigLIP's two towers, called one at a time.

    Attributes:
        steady: whether sentences are read in the same way whatever their lengths are: for a compiled tower.
    """

    steady: bool = False

    def __init__(self, config: SigLIPConfig) -> None:
        super().__init__()
        self.text_model = _TextTower(config)
        self.vision_model = _VisionTower(config)
        self.logit_scale = nn.Parameter(torch.randn(1))
        self.logit_bias = nn.Parameter(torch.randn(1))
        nn.init.constant_(self.logit_scale, config.logit_scale)
        nn.init.constant_(self.logit_bias, config.logit_bias)

    def vision_features(self, image: Tensor) -> Tensor:
        """Encode normalised images.

        The attention-pooling head after the last norm is not run: no method here uses its output.

        Args:
            image: (M, 3, S, S), normalised.

        Returns:
            V (M, C, h, w), the patch tokens after the final norm as a row-major map.
        """
        tower = self.vision_model
        hidden = tower.post_layernorm(tower.encoder(tower.embeddings(image)))
        side = int(hidden.shape[1] ** 0.5)
        return hidden.transpose(1, 2).unflatten(2, (side, side))

    def text_features(self, tokens: Tokens) -> TextFeatures:
        """Encode N tokenised expressions.

        In text mode ``published`` all rows are read with their pads and without a mask, in ``independent`` each as if
        alone: on a CPU rows of equal length together, without a mask, which wastes nothing; on a GPU, where every call
        costs the same, all rows at once with their pads hidden.

        Raises:
            ValueError: there is no expression.
        """
        n, longest = tokens.ids.shape
        if not n:
            raise ValueError("no expression given")
        complete = tokens.complete(self.steady)
        if complete:
            out = self.text_model(input_ids=tokens.ids)
            return TextFeatures(out.last_hidden_state, out.pooler_output, tokens.length, complete)
        if self.steady or tokens.ids.device.type != "cpu":
            return self._hiding_pads(tokens)
        features = pooled = None
        lengths = tokens.on_host().length
        for length in lengths.unique().tolist():
            rows = to_device((lengths == length).nonzero().squeeze(1), tokens.ids.device)
            out = self.text_model(input_ids=tokens.ids[rows, :length])
            if features is None or pooled is None:
                features = out.last_hidden_state.new_zeros(n, longest, out.last_hidden_state.shape[-1])
                pooled = out.pooler_output.new_zeros(n, out.pooler_output.shape[-1])
            padded = nn.functional.pad(out.last_hidden_state, (0, 0, 0, longest - length))
            features = features.index_copy(0, rows, padded)
            pooled = pooled.index_copy(0, rows, out.pooler_output)
        assert features is not None
        assert pooled is not None
        return TextFeatures(features, pooled, tokens.length, complete)

    def _hiding_pads(self, tokens: Tokens) -> TextFeatures:
        """Read all rows at once; no word attends to a pad."""
        tower, (n, length) = self.text_model, tokens.ids.shape
        read = ~unread_positions(tokens.length, length)
        x = tower.embeddings(tokens.ids)
        x = tower.final_layer_norm(tower.encoder(x, read[:, None, None].expand(n, 1, length, length)))
        last = tokens.length - 1
        pooled = tower.head(x[torch.arange(n, device=x.device), last])
        return TextFeatures(torch.where(read[..., None], x, 0), pooled, tokens.length, False)
