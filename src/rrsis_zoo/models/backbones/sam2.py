"""SAM 2 for still images (Hiera trunk, feature pyramid neck, prompt encoder, mask decoder) from the ``sam2`` package.

The package's modules are built directly: no Hydra, no YAML, none of the video parts (memory attention and
encoder, object pointers). Parameter names are those of Meta's released files (``image_encoder.…``,
``sam_prompt_encoder.…``, ``sam_mask_decoder.…``, ``no_mem_embed``). SAM 2 and SAM 2.1 of one size have the same
parts here; they only differ in weights and in memory parts.

Differences from the package, without changing results: the neck computes no sine position maps (only the memory reads
them), every block can be checkpointed, and the decoder returns all four masks.

Symbols: N images with one prompt set each, S side of the square input, r stride of the patch embedding (4), g = S / 4r
side of the image embedding, D prompt width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.deferred import deferred
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.models.configuration import Count, Depth, Natural, Side
from rrsis_zoo.models.layers.precision import cast, fourier_code

with deferred("sam2"):
    from sam2.modeling.backbones.hieradet import MultiScaleBlock, do_pool
    from sam2.modeling.backbones.image_encoder import FpnNeck
    from sam2.modeling.backbones.utils import PatchEmbed, window_partition, window_unpartition
    from sam2.modeling.sam.mask_decoder import MaskDecoder
    from sam2.modeling.sam.prompt_encoder import PromptEncoder
    from sam2.modeling.sam.transformer import TwoWayTransformer


PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class SAM2Config:
    """Sizes of a SAM 2; the defaults are those of the large one.

    Attributes:
        image_size: S, side of the square input in pixels.
        patch_stride: r, stride of the 7 × 7 patch embedding in pixels, and of the masks.
        width, heads: channels and attention heads of the first stage; both double in every further one.
        stages: blocks of each of the four stages.
        windows: side of the attention windows of each stage, in tokens.
        global_blocks: blocks that attend globally, counted over all stages.
        position_grid: side of the learned background grid of positions, which is enlarged to the image.
        prompt_width: D, width of neck, prompts and decoder; divisible by 8 and by ``decoder_heads``.
        mask_channels: inner channels of the mask prompt's convolutions.
        decoder_mlp_width, decoder_heads, iou_width: of the mask decoder.
    """

    image_size: Side = 1024
    patch_stride: Side = 4
    width: Count = 144
    heads: Count = 2
    stages: tuple[Depth, ...] = (2, 6, 36, 4)
    windows: tuple[Count, ...] = (8, 4, 16, 8)
    global_blocks: tuple[Natural, ...] = (23, 33, 43)
    position_grid: Count = 7
    prompt_width: Count = 256
    mask_channels: Count = 16
    decoder_mlp_width: Count = 2048
    decoder_heads: Count = 8
    iou_width: Count = 256

    @property
    def grid(self) -> int:
        """g, cells per side of the image embedding."""
        return self.image_size // (4 * self.patch_stride)

    @property
    def mask_size(self) -> int:
        """4g, side of mask prompts and of output masks."""
        return 4 * self.grid


SAM2_L = SAM2Config()
SAM2_B_PLUS = SAM2Config(
    width=112, stages=(2, 3, 16, 3), windows=(8, 4, 14, 7), global_blocks=(12, 16, 20), position_grid=14
)
SAM2_S = SAM2Config(width=96, heads=1, stages=(1, 2, 11, 2), windows=(8, 4, 14, 7), global_blocks=(7, 10, 13))
SAM2_T = SAM2Config(width=96, heads=1, stages=(1, 2, 7, 2), windows=(8, 4, 14, 7), global_blocks=(5, 7, 9))
SAM2_MINI = SAM2Config(
    image_size=128,
    width=32,
    heads=1,
    stages=(1, 1, 2, 1),
    windows=(8, 4, 8, 4),
    global_blocks=(3,),
    prompt_width=64,
    decoder_mlp_width=128,
    decoder_heads=4,
    iou_width=64,
)
"""The miniature that benchmarks/miniatures pretrains."""


class Pyramid(NamedTuple):
    """Input of the decoder for N images.

    Attributes:
        embedding: (N, D, g, g) image embedding, ``no_mem_embed`` added.
        s1: (N, D/4, 2g, 2g).
        s0: (N, D/8, 4g, 4g).
    """

    embedding: Tensor
    s1: Tensor
    s0: Tensor


class DecodedMasks(NamedTuple):
    """Output of the mask decoder.

    Attributes:
        masks: (N, 4, 4g, 4g) logits; the first is the single-mask output.
        iou: (N, 4) predicted IoU of each.
        tokens: (N, 4, D) mask tokens after the transformer.
        object_score: (N, 1) logit that there is an object.
    """

    masks: Tensor
    iou: Tensor
    tokens: Tensor
    object_score: Tensor


class SAM2(nn.Module):
    """SAM 2 without its memory.

    Args:
        config: sizes.
        trunk: builds the trunk, for methods with a special one.

    Raises:
        ConfigError: an image size that cannot be halved often enough.
    """

    def __init__(self, config: SAM2Config, trunk: Callable[[SAM2Config], Trunk] | None = None) -> None:
        super().__init__()
        self.config = config
        step = config.patch_stride * math.lcm(8, config.windows[0])  # three halvings; whole tiles of window positions
        if config.image_size % step or not config.image_size:
            raise ConfigError(f"sam2.image_size must be a multiple of {step}, got {config.image_size}")
        self.image_encoder = ImageEncoder((trunk or Trunk)(config), config.prompt_width)
        self.sam_prompt_encoder = PromptEncoder(
            embed_dim=config.prompt_width,
            image_embedding_size=(config.grid, config.grid),
            input_image_size=(config.image_size, config.image_size),
            mask_in_chans=config.mask_channels,
        )
        self.sam_mask_decoder = MaskDecoder(
            transformer_dim=config.prompt_width,
            transformer=TwoWayTransformer(
                depth=2,
                embedding_dim=config.prompt_width,
                num_heads=config.decoder_heads,
                mlp_dim=config.decoder_mlp_width,
            ),
            iou_head_hidden_dim=config.iou_width,
            use_high_res_features=True,
            iou_prediction_use_sigmoid=True,
            pred_obj_scores=True,
            pred_obj_scores_mlp=True,
        )
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, config.prompt_width))
        nn.init.trunc_normal_(self.no_mem_embed, std=0.02)

    def encode(self, image: Tensor) -> Pyramid:
        """Encode normalised images (N, 3, S, S)."""
        return self.pyramid(self.image_encoder(image))

    def pyramid(self, levels: list[Tensor]) -> Pyramid:
        """Convert the neck's three levels, the finest first, to the decoder's input."""
        decoder = self.sam_mask_decoder
        embedding = levels[2] + self.no_mem_embed.reshape(1, -1, 1, 1)
        return Pyramid(embedding, s1=decoder.conv_s1(levels[1]), s0=decoder.conv_s0(levels[0]))

    def code(self) -> Tensor:
        """Return the Fourier position code of the image embedding, (1, D, g, g)."""
        encoder = self.sam_prompt_encoder
        return fourier_code(encoder.pe_layer, encoder.image_embedding_size).unsqueeze(0)

    def encode_mask(self, mask: Tensor) -> Tensor:
        """Convert mask prompts (N, 1, 4g, 4g) to dense embeddings (N, D, g, g)."""
        return self.sam_prompt_encoder.mask_downscaling(mask)

    def no_mask(self, n: int) -> Tensor:
        """Return the learned embedding for "no mask prompt", expanded to (n, D, g, g)."""
        g = self.config.grid
        return self.sam_prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(n, -1, g, g)

    def decode(self, pyramid: Pyramid, sparse: Tensor, dense: Tensor) -> DecodedMasks:
        """Decode N images with one prompt set each.

        Args:
            pyramid: of N images.
            sparse: (N, K, D) prompt tokens.
            dense: (N, D, g, g).
        """
        outputs = self.sam_mask_decoder.predict_masks(
            image_embeddings=pyramid.embedding,
            image_pe=self.code(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            repeat_image=False,
            high_res_features=[pyramid.s0, pyramid.s1],
        )
        return DecodedMasks(*outputs)  # type: ignore[call-arg] - four; annotated as two

    def stable_mask(self, decoded: DecodedMasks) -> Tensor:
        """Return the single mask (N, 1, 4g, 4g), or the best of the other three if it is unstable.

        Stability is #(logits > 0.05) / #(logits > -0.05); below 0.98 the mask with the highest predicted IoU among the
        other three is used. Meta's image predictor does this by default; methods without it use
        ``decoded.masks[:, :1]``.
        """
        return self.sam_mask_decoder._dynamic_multimask_via_stability(decoded.masks, decoded.iou)[0]


class Trunk(nn.Module):
    """Hiera (Ryali et al., ICML 2023) from the package's blocks.

    Attributes:
        stage_ends: index of the last block of each stage.
        channels: channels of the stages, the coarsest first.

    Args:
        config: sizes.
        block: builds a block from ``MultiScaleBlock``'s arguments.
    """

    def __init__(self, config: SAM2Config, block: Callable[..., MultiScaleBlock] = MultiScaleBlock) -> None:
        super().__init__()
        stride, grid, tile = config.patch_stride, config.position_grid, config.windows[0]
        self.patch_embed = PatchEmbed(stride=(stride, stride), embed_dim=config.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.width, grid, grid))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, config.width, tile, tile))
        self.blocks = nn.ModuleList()
        width, heads, window = config.width, config.heads, config.windows[0]
        for stage, blocks in enumerate(config.stages):
            for i in range(blocks):
                opens = stage > 0 and i == 0  # halves the map, still with the windows of the stage before
                new_width, heads = (2 * width, 2 * heads) if opens else (width, heads)
                is_global = len(self.blocks) in config.global_blocks
                self.blocks.append(
                    block(
                        dim=width,
                        dim_out=new_width,
                        num_heads=heads,
                        q_stride=(2, 2) if opens else None,
                        window_size=0 if is_global else window,
                    )
                )
                width, window = new_width, config.windows[stage]
        self.stage_ends = [end - 1 for end in accumulate(config.stages)]
        self.channels = [config.width * 2**stage for stage in reversed(range(len(config.stages)))]

    def embed(self, image: Tensor) -> Tensor:
        """Return patch tokens with positions, (N, S/r, S/r, width), of images (N, 3, S, S)."""
        x = self.patch_embed(image)
        height, width, side = x.shape[1], x.shape[2], self.pos_embed_window.shape[-1]
        background = F.interpolate(self.pos_embed, size=(height, width), mode="bicubic")
        positions = background + self.pos_embed_window.tile(1, 1, height // side, width // side)
        return x + positions.permute(0, 2, 3, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the maps (N, C, h, w) at the ends of the four stages, the finest first."""
        x, ends = self.embed(image), []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.stage_ends:
                ends.append(x.permute(0, 3, 1, 2))
        return ends


class TextTrunk(Trunk):
    """Hiera with a sentence passed through all blocks: RS2-SAM2's bidirectional hierarchical fusion.

    Args:
        config: sizes; every stage's width must be a multiple of `FUSION_RATIO` × `FUSION_HEADS`.
        text_width: channels of the words.
    """

    def __init__(self, config: SAM2Config, text_width: int) -> None:
        if config.width % (FUSION_RATIO * FUSION_HEADS):
            raise ConfigError(f"sam2.width must be a multiple of {FUSION_RATIO * FUSION_HEADS}, got {config.width}")
        super().__init__(config, partial(TextBlock, text_width))

    def forward(self, image: Tensor, words: Tensor, hidden: Tensor | None = None) -> list[Tensor]:  # type: ignore[override]
        """Encode N pairs.

        Args:
            image: (N, 3, S, S), normalised.
            words: t (N, L, D); their update in the last block is not used.
            hidden: (N, L) bool, words that the image does not attend to; None for none.

        Returns:
            The maps (N, C, h, w) at the ends of the four stages, the finest first.
        """
        x, ends = self.embed(image), []
        for i, block in enumerate(self.blocks):
            x, words = block(x, words, hidden)
            if i in self.stage_ends:
                ends.append(x.permute(0, 3, 1, 2))
        return ends


FUSION_RATIO = 4  # width of a block over that of its fusion layer and adapter
FUSION_HEADS = 4
TEXT_SHARE = 0.2  # α_t: share of the words that a block rewrites
ADAPTER_SCALE = 0.5  # α_i
ROWS = 16384  # tokens at once in the feed-forward parts without gradients


class TextBlock(MultiScaleBlock):
    """Hiera's block with a fusion layer after its attention and an adapter parallel to its MLP."""

    def __init__(self, text_width: int, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.fusion = FusionLayer(self.dim_out, text_width)
        self.adapter = Adapter(self.dim_out)

    def forward(self, x: Tensor, words: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Apply to x (N, h, w, C) and words t (N, L, D)."""
        y = self.norm1(x)
        shortcut = x if self.dim == self.dim_out else do_pool(self.proj(y), self.pool)  # type: ignore[arg-type] - None: no pooling
        y = self.attend(y)
        y, words = self.fusion(y, words, hidden)
        x = shortcut + y
        return x + in_rows(self.feed_forward, self.norm2(x)), words

    def attend(self, y: Tensor) -> Tensor:
        """Attend inside windows, which are halved with the map if the block opens a stage."""
        if not self.window_size:
            return self.attn(y)
        size, window = (y.shape[1], y.shape[2]), self.window_size
        y, padded = window_partition(y, window)
        y = self.attn(y)
        if self.q_stride:
            size, window = (size[0] // self.q_stride[0], size[1] // self.q_stride[1]), window // self.q_stride[0]
            padded = (size[0] + -size[0] % window, size[1] + -size[1] % window)
        return window_unpartition(y, window, padded, size)

    def feed_forward(self, z: Tensor) -> Tensor:
        """Both branches read the same normalised tokens."""
        return self.mlp(z) + ADAPTER_SCALE * self.adapter(z)


def in_rows(f: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Apply a function of single tokens to z (…, C); in parts without gradients, to save memory."""
    if torch.is_grad_enabled() or z.numel() <= ROWS * z.shape[-1]:
        return f(z)
    return torch.cat([f(rows) for rows in z.flatten(0, -2).split(ROWS)]).view_as(z)


class FusionLayer(nn.Module):
    """Image tokens read the words; the words read the image tokens that have read them.

    In the paper's formula the words read the earlier image tokens; the published program does this.
    """

    def __init__(self, width: int, text_width: int) -> None:
        super().__init__()
        narrow = width // FUSION_RATIO
        self.image_down, self.image_up = nn.Linear(width, narrow), nn.Linear(narrow, width)
        self.text_down, self.text_up = nn.Linear(text_width, narrow), nn.Linear(narrow, text_width)
        self.image_reads = nn.MultiheadAttention(narrow, FUSION_HEADS, batch_first=True)
        self.text_reads = nn.MultiheadAttention(narrow, FUSION_HEADS, batch_first=True)

    def forward(self, y: Tensor, words: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply to the whole map y (N, h, w, C) and words t (N, L, D); hidden (N, L) bool or None."""
        a = F.gelu(self.image_down(y)).flatten(1, 2)
        u = self.text_down(words)
        a = a + self.image_reads(a, u, u, key_padding_mask=hidden, need_weights=False)[0]
        u = u + self.text_reads(u, a, a, need_weights=False)[0]
        words = (1 - TEXT_SHARE) * words + TEXT_SHARE * self.text_up(u)
        return y + self.image_up(a).view_as(y), words


class Adapter(nn.Module):
    """Narrow, exact GELU, wide; no residual of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, width // FUSION_RATIO), nn.Linear(width // FUSION_RATIO, width)

    def forward(self, z: Tensor) -> Tensor:
        """Apply to (…, C)."""
        return self.up(F.gelu(self.down(z)))


class ImageEncoder(nn.Module):
    """Trunk and neck."""

    def __init__(self, trunk: Trunk, width: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = Neck(
            position_encoding=nn.Identity(),
            d_model=width,
            backbone_channel_list=trunk.channels,
            fpn_interp_model="nearest",
            fpn_top_down_levels=[2, 3],
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return three levels (N, D, ·, ·) of images (N, 3, S, S): sides 4g, 2g and g."""
        return self.neck(self.trunk(image))


class Neck(FpnNeck):
    """Feature pyramid without position maps."""

    def forward(self, xs: list[Tensor]) -> list[Tensor]:  # type: ignore[override]
        """Bring four maps to width D; the coarsest is added to the one before it and then dropped."""
        level0, level1, level2, level3 = (conv(x) for conv, x in zip(reversed(self.convs), xs, strict=True))
        return [level0, level1, level2 + cast(F.interpolate(level3.float(), scale_factor=2.0, mode="nearest"), level2)]
