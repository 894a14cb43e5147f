"""The parts of SAM 3 that segment a still image from custom prompts, based on transformers' classes.

ViT trunk, its simple feature pyramid, the tracker's mask decoder and the Fourier position code; nothing else of SAM 3
(no text encoder, no detector, no memory). The trunk is a list of blocks that are called one by one, because EviSAM3
works between them; this is why transformers' ``Sam3ViTModel`` is not used.

Differences from transformers, all as in Meta's program (docs/methods/evisam3.md §6, §9, §15): layer norms of the trunk
use eps 1e-5; queries, keys and values are one layer, and the position table has an unused row for a class token, so
that every released tensor has one place here; the mask decoder has two mask tokens, a linear object head and an IoU
head without a sigmoid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Sam3TrackerMaskDecoderConfig, Sam3VisionConfig, Sam3ViTConfig
from transformers.models.sam3.modeling_sam3 import (
    Sam3VisionNeck,
    Sam3ViTEmbeddings,
    Sam3ViTLayer,
    Sam3ViTRoPEAttention,
)
from transformers.models.sam3_tracker.modeling_sam3_tracker import Sam3TrackerMaskDecoder

from rrsis_zoo.deferred import deferred
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.models.configuration import Count, Depth, Natural, Share, Side
from rrsis_zoo.models.layers.precision import fourier_code

with deferred("segment_anything"):
    from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom

PIXEL_MEAN = (0.5, 0.5, 0.5)
PIXEL_STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class SAM3Config:
    """Sizes of a SAM 3; the defaults are the released model.

    Attributes:
        image_size: side of the square input in pixels, a multiple of ``patch_size``.
        patch_size: side of a patch in pixels; the map has ``image_size / patch_size`` cells per side.
        width, depth, heads, mlp_width: of the ViT.
        window: side of the local attention windows, in cells.
        global_blocks: blocks that attend globally.
        position_size: side in pixels of the image that the position table belongs to; it is tiled, not interpolated.
        prompt_width: D, width of pyramid, prompts and decoder.
        decoder_mlp_width, decoder_heads, iou_width: of the mask decoder.
        decoder_downsample: how much narrower its cross attentions are than D.
        drop_path: stochastic depth of the last block in training mode; it grows linearly from 0 in the first.
    """

    image_size: Side = 1008
    patch_size: Side = 14
    width: Count = 1024
    depth: Depth = 32
    heads: Count = 16
    mlp_width: Count = 4736
    window: Count = 24
    global_blocks: tuple[Natural, ...] = (7, 15, 23, 31)
    position_size: Side = 336
    prompt_width: Count = 256
    decoder_mlp_width: Count = 2048
    decoder_heads: Count = 8
    decoder_downsample: Count = 2
    iou_width: Count = 256
    drop_path: Share = 0.1

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ConfigError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")

    @property
    def grid(self) -> int:
        """Cells per side of the trunk's map."""
        return self.image_size // self.patch_size


SAM3_MINI = SAM3Config(
    image_size=128,
    patch_size=16,
    width=128,
    depth=4,
    heads=4,
    mlp_width=256,
    window=4,
    global_blocks=(1, 3),
    position_size=128,
    prompt_width=64,
    decoder_mlp_width=128,
    decoder_heads=4,
    iou_width=64,
    drop_path=0.0,
)
"""The miniature that benchmarks/miniatures pretrains."""


class SAM3(nn.Module):
    """Trunk, neck, mask decoder and position code of SAM 3."""

    def __init__(self, config: SAM3Config) -> None:
        super().__init__()
        self.config = config
        self.trunk = SAM3Trunk(config)
        vision = Sam3VisionConfig(
            backbone_config=_vit_config(config),
            fpn_hidden_size=config.prompt_width,
            scale_factors=[4.0, 2.0, 1.0, 0.5],  # the last one is in the files but never used
        )
        self.neck = Sam3VisionNeck(vision)
        self.mask_decoder = SAM3MaskDecoder(config)
        self.position_code = PositionEmbeddingRandom(config.prompt_width // 2)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Encode normalised images (B, 3, S, S) without anything between the blocks; return the pyramid."""
        x = self.trunk.embed(image)
        for layer in self.trunk.layers:
            x = layer(x)
        return self.pyramid(x.permute(0, 3, 1, 2))

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Convert the trunk's map (B, C, g, g) to three maps of width D with 4g, 2g and g cells per side."""
        return [layer(x) for layer in self.neck.fpn_layers[:3]]

    def code(self) -> Tensor:
        """Return the Fourier position code of the trunk's grid, (1, D, g, g), (x, y) at cell centres."""
        g = self.config.grid
        return fourier_code(self.position_code, (g, g)).unsqueeze(0)


class SAM3Trunk(nn.Module):
    """SAM 3's ViT as parts: ``embed`` first, then ``layers`` one by one on maps (B, g, g, C)."""

    def __init__(self, config: SAM3Config) -> None:
        super().__init__()
        vit = _vit_config(config)
        self.grid = config.grid
        self.embeddings = Embeddings(vit)
        self.layer_norm = nn.LayerNorm(config.width, eps=vit.layer_norm_eps)
        windows = [0 if i in config.global_blocks else config.window for i in range(config.depth)]
        layers = [Sam3ViTLayer(vit, window_size=window) for window in windows]
        for layer in layers:
            layer.attention = FusedAttention(vit)
        self.layers = nn.ModuleList(layers)
        for i, (layer, window) in enumerate(zip(layers, windows, strict=True)):
            rate = config.drop_path * i / max(1, config.depth - 1)
            parts = math.ceil(config.grid / window) ** 2 if window else 1
            if rate:
                layer.attention.register_forward_hook(DropPath(rate, parts))
                layer.mlp.register_forward_hook(DropPath(rate))

    def embed(self, image: Tensor) -> Tensor:
        """Convert normalised images (B, 3, S, S) to the input map of the first block, (B, g, g, C)."""
        return self.layer_norm(self.embeddings(image).unflatten(1, (self.grid, self.grid)))


class Embeddings(Sam3ViTEmbeddings):
    """Patches with tiled positions; the first row of the position table belongs to a class token and is never read."""

    def __init__(self, config: Sam3ViTConfig) -> None:
        super().__init__(config)
        rows = 1 + self.patch_embeddings.num_patches
        self.position_embeddings = nn.Parameter(torch.empty(1, rows, config.hidden_size))
        nn.init.trunc_normal_(self.position_embeddings, std=0.02)

    def _tile_position_embeddings(self, position_embeddings: Tensor, height: int, width: int) -> Tensor:
        return super()._tile_position_embeddings(position_embeddings[:, 1:], height, width)


class FusedAttention(Sam3ViTRoPEAttention):
    """transformers' attention with one layer for queries, keys and values, as in Meta's files."""

    def __init__(self, config: Sam3ViTConfig) -> None:
        super().__init__(config)
        for name in ("q_proj", "k_proj", "v_proj"):
            delattr(self, name)
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)

    def _rows(self, part: int) -> Callable[[Tensor], Tensor]:
        rows = slice(part * self.hidden_size, (part + 1) * self.hidden_size)
        return lambda x: F.linear(x, self.qkv.weight[rows], self.qkv.bias[rows])

    # called by transformers' forward
    q_proj = property(lambda self: self._rows(0))
    k_proj = property(lambda self: self._rows(1))
    v_proj = property(lambda self: self._rows(2))


def _vit_config(config: SAM3Config) -> Sam3ViTConfig:
    return Sam3ViTConfig(
        hidden_size=config.width,
        intermediate_size=config.mlp_width,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        image_size=config.image_size,
        patch_size=config.patch_size,
        layer_norm_eps=1e-5,
        window_size=config.window,
        global_attn_indexes=list(config.global_blocks),
        pretrain_image_size=config.position_size,
        attn_implementation="sdpa",  # type: ignore[call-arg] - taken by every configuration of transformers
    )


class DropPath:
    """Stochastic depth as a forward hook on a residual branch: transformers' blocks have none.

    In training mode the branch of a sample is left out with probability ``rate`` and scaled up otherwise.

    Args:
        rate: probability.
        parts: consecutive rows of the batch axis that belong to one sample (attention windows).
    """

    def __init__(self, rate: float, parts: int = 1) -> None:
        self.rate = rate
        self.parts = parts

    def __call__(self, module: nn.Module, inputs: object, output: Tensor | tuple) -> Tensor | tuple | None:
        """Return the thinned output; None leaves it unchanged."""
        if not module.training:
            return None
        branch, *rest = output if isinstance(output, tuple) else (output,)
        kept = branch.new_empty(len(branch) // self.parts).bernoulli_(1 - self.rate) / (1 - self.rate)
        branch = branch * kept.repeat_interleave(self.parts).reshape(-1, *[1] * (branch.ndim - 1))
        return (branch, *rest) if isinstance(output, tuple) else branch


class SAM3MaskDecoder(Sam3TrackerMaskDecoder):
    """The tracker's mask decoder with one prompt set per image and a single output mask."""

    def __init__(self, config: SAM3Config) -> None:
        width = config.prompt_width
        decoder_config = Sam3TrackerMaskDecoderConfig(
            hidden_size=width,
            mlp_dim=config.decoder_mlp_width,
            num_attention_heads=config.decoder_heads,
            attention_downsample_rate=config.decoder_downsample,
            num_multimask_outputs=1,
            iou_head_hidden_dim=config.iou_width,
            dynamic_multimask_via_stability=False,
            attn_implementation="sdpa",  # type: ignore[call-arg] - taken by every configuration of transformers
        )
        super().__init__(decoder_config)
        self.pred_obj_score_head = nn.Linear(width, 1)
        self.iou_prediction_head.sigmoid_output = False

    def forward(  # type: ignore[override]
        self, pyramid: list[Tensor], position_code: Tensor, sparse: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode one mask per prompt set.

        Args:
            pyramid: three maps (N, D, 4g, 4g), (N, D, 2g, 2g), (N, D, g, g).
            position_code: (1, D, g, g).
            sparse: (N, K, D) prompt tokens.
            dense: (N, D, g, g) or broadcastable.

        Returns:
            mask logits (N, 1, 4g, 4g), predicted IoU (N, 1) and object score (N, 1), the last two unused here.
        """
        fine, middle, coarse = pyramid
        masks, iou, _, score = super().forward(
            image_embeddings=coarse,
            image_positional_embeddings=position_code.expand(len(coarse), -1, -1, -1),
            sparse_prompt_embeddings=sparse.unsqueeze(1),
            dense_prompt_embeddings=dense,
            multimask_output=False,
            high_resolution_features=[self.conv_s0(fine), self.conv_s1(middle)],
        )
        return masks.squeeze(1), iou.squeeze(1), score.squeeze(1)
