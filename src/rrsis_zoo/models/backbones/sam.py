"""SAM (ViT image encoder, prompt encoder, mask decoder) from the ``segment-anything`` package.

Parameter names are those of SAM's released files (``image_encoder.…``, ``prompt_encoder.…``, ``mask_decoder.…``).
Two things differ from the package, without changing results:

* the image encoder's attention never holds an N × N bias (`RelPosAttention`), which is 5-7 times smaller at 1024 px;
* the mask decoder takes one image *per* prompt set (`BatchedMaskDecoder`) instead of one image for all of them.

The layer norms of the two-way transformer use eps 1e-6, as in transformers' SAM, with which RSRefSeg and
RSRefSeg 2 were trained; the package's own 1e-5 is a relative difference of about 2e-4 (docs/methods/rsrefseg.md §8).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.deferred import deferred
from rrsis_zoo.models.configuration import Count, Depth, Natural, Side
from rrsis_zoo.models.layers.precision import fourier_code
from rrsis_zoo.models.layers.rows import rows

with deferred("segment_anything"):
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer
    from segment_anything.modeling.image_encoder import Attention, get_rel_pos
    from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom

AttentionPath = Literal["auto", "augmented", "chunked"]
"""How attention with relative positions is computed, see `RelPosAttention`."""

PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class SAMConfig:
    """Sizes of a SAM.

    Attributes:
        image_size: side of the square input in pixels.
        patch_size: side of a patch in pixels; the embedding grid has ``image_size / patch_size`` cells per side.
        width, depth, heads, mlp_width: of the ViT.
        window: side of the local attention windows, in cells.
        global_blocks: blocks that attend globally.
        prompt_width: D, width of neck, prompts and decoder.
        mask_channels: inner channels of the mask prompt's convolutions.
        decoder_mlp_width, decoder_heads, iou_width: of the mask decoder.
        decoder_downsample: how much narrower its cross attentions are than D.
    """

    image_size: Side = 1024
    patch_size: Side = 16
    width: Count = 1024
    depth: Depth = 24
    heads: Count = 16
    mlp_width: Count = 4096
    window: Count = 14
    global_blocks: tuple[Natural, ...] = (5, 11, 17, 23)
    prompt_width: Count = 256
    mask_channels: Count = 16
    decoder_mlp_width: Count = 2048
    decoder_heads: Count = 8
    iou_width: Count = 256
    decoder_downsample: Count = 2

    @property
    def grid(self) -> int:
        """Cells per side of the image embedding."""
        return self.image_size // self.patch_size


SAM_L = SAMConfig()
SAM_B = SAMConfig(width=768, depth=12, heads=12, mlp_width=3072, global_blocks=(2, 5, 8, 11))
SAM_MINI = SAMConfig(
    image_size=128,
    patch_size=8,
    width=64,
    depth=4,
    heads=2,
    mlp_width=128,
    window=8,
    global_blocks=(1, 3),
    prompt_width=64,
    decoder_mlp_width=128,
    decoder_heads=4,
    iou_width=64,
)
"""The miniature that benchmarks/miniatures pretrains."""


class SAM(nn.Module):
    """SAM's three parts and the position code of its image embedding.

    ``position_code`` exists in addition to the prompt encoder's own copy because released checkpoints of methods built
    on transformers store the two under different names; base weights fill both with the same matrix.
    """

    def __init__(self, config: SAMConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = _image_encoder(config)
        self.prompt_encoder = PromptEncoder(
            embed_dim=config.prompt_width,
            image_embedding_size=(config.grid, config.grid),
            input_image_size=(config.image_size, config.image_size),
            mask_in_chans=config.mask_channels,
        )
        transformer = TwoWayTransformer(
            depth=2,
            embedding_dim=config.prompt_width,
            num_heads=config.decoder_heads,
            mlp_dim=config.decoder_mlp_width,
            attention_downsample_rate=config.decoder_downsample,
        )
        for module in transformer.layers.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6
        self.mask_decoder = BatchedMaskDecoder(
            transformer_dim=config.prompt_width, transformer=transformer, iou_head_hidden_dim=config.iou_width
        )
        self.position_code = PositionEmbeddingRandom(config.prompt_width // 2)

    def code(self, cells: int) -> Tensor:
        """Return the Fourier position code pe(n) of an n × n grid, (1, D, n, n), (x, y) at cell centres."""
        return fourier_code(self.position_code, (cells, cells)).unsqueeze(0)

    def encode_mask(self, mask: Tensor) -> Tensor:
        """Convert mask prompts (N, 1, 4g, 4g) to dense embeddings (N, D, g, g)."""
        return self.prompt_encoder.mask_downscaling(mask)

    def no_mask(self, n: int) -> Tensor:
        """Return the learned embedding for "no mask prompt", expanded to (n, D, g, g)."""
        g = self.config.grid
        return self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(n, -1, g, g)


def _image_encoder(config: SAMConfig) -> ImageEncoderViT:
    encoder = ImageEncoderViT(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        mlp_ratio=config.mlp_width / config.width,
        out_chans=config.prompt_width,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),  # type: ignore[arg-type]
        use_rel_pos=True,
        window_size=config.window,
        global_attn_indexes=config.global_blocks,
    )
    for i, block in enumerate(encoder.blocks):
        side = config.grid if i in config.global_blocks else config.window
        block.attn = RelPosAttention(config.width, num_heads=config.heads, use_rel_pos=True, input_size=(side, side))
    return encoder


class RelPosAttention(Attention):
    """SAM's attention with decomposed relative positions, without the N × N score and bias maps.

    The bias of query q and key k is rel_h[q, row(k)] + rel_w[q, column(k)]. Two ways give the same: *augmented*, the
    bias is part of the head dimension, as a dot product with one-hot rows and columns; *chunked*, queries are processed
    in chunks with their own slice of the bias. On a CPU the first keeps the backward pass small and the second has the
    fastest forward pass (measured). On a GPU the first is one call for all queries of all windows, without a mask, so
    that flash attention (half precision) or the memory-saving kernel can take it; the second is 16 calls with a mask
    for 64 × 64 cells.

    Attributes:
        attention: ``auto``, by device and gradients as said, or one of the two.
    """

    query_chunk = 256
    attention: AttentionPath = "auto"

    def forward(self, x: Tensor) -> Tensor:
        """Attend within x (B, H, W, C)."""
        b, h, w, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, h * w, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        grid = q.unflatten(2, (h, w))
        rel_h = torch.einsum("bnhwc,hkc->bnhwk", grid, relative_positions(h, self.rel_pos_h).to(q.dtype)).flatten(2, 3)
        rel_w = torch.einsum("bnhwc,wkc->bnhwk", grid, relative_positions(w, self.rel_pos_w).to(q.dtype)).flatten(2, 3)
        path = self.attention
        if path == "auto":
            path = "augmented" if torch.is_grad_enabled() or x.device.type != "cpu" else "chunked"
        out = (self._augmented if path == "augmented" else self._chunked)(q, k, v, rel_h, rel_w)
        return self.proj(out.transpose(1, 2).reshape(b, h, w, -1))

    def _augmented(self, q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
        h, w = rel_h.shape[-1], rel_w.shape[-1]
        row = torch.eye(h, dtype=k.dtype, device=k.device).repeat_interleave(w, 0)
        column = torch.eye(w, dtype=k.dtype, device=k.device).repeat(h, 1)
        where = torch.cat([row, column], -1).expand(*k.shape[:2], -1, -1)
        queries, keys = torch.cat([q * self.scale, rel_h, rel_w], -1), torch.cat([k, where], -1)
        # v is padded because the memory-saving kernels need equal head sizes, and a GPU's multiples of 8
        more = -queries.shape[-1] % 8 if k.device.type != "cpu" else 0
        if more:
            queries, keys = F.pad(queries, (0, more)), F.pad(keys, (0, more))
        out = F.scaled_dot_product_attention(queries, keys, F.pad(v, (0, h + w + more)), scale=1.0)
        return out[..., : v.shape[-1]]

    def _chunked(self, q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
        outs = []
        for part in zip(*(t.split(self.query_chunk, 2) for t in (q, rel_h, rel_w)), strict=True):
            bias = (part[1].unsqueeze(-1) + part[2].unsqueeze(-2)).flatten(-2)
            outs.append(F.scaled_dot_product_attention(part[0], k, v, attn_mask=bias, scale=self.scale))
        return torch.cat(outs, 2)


def relative_positions(side: int, table: Tensor) -> Tensor:
    """Return the row of a table (2 side - 1, C) for every pair of positions on a line, (side, side, C).

    Like segment_anything's ``get_rel_pos``, which is used for tables of another length, but with a reproducible
    gradient.
    """
    if len(table) != 2 * side - 1:
        return get_rel_pos(side, side, table)
    place = torch.arange(side, device=table.device)
    distance = place[:, None] - place + side - 1
    return rows(table, distance.flatten()).unflatten(0, (side, side))


class BatchedMaskDecoder(MaskDecoder):
    """SAM's mask decoder with one image per prompt set."""

    def forward(  # type: ignore[override]
        self, image: Tensor, position_code: Tensor, sparse: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode masks.

        Args:
            image: (N, D, g, g) image embeddings.
            position_code: (1, D, g, g).
            sparse: (N, K, D) prompt tokens.
            dense: (N, D, g, g) or broadcastable.

        Returns:
            mask logits (N, 4, 4g, 4g), one map per mask token, the first being the single-mask answer; predicted
            IoU (N, 4).
        """
        n = len(image)
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(n, -1, -1)
        source = image + dense
        tokens, source_out = self.transformer(
            source, position_code.expand(n, -1, -1, -1), torch.cat([own, sparse.to(own.dtype)], 1)
        )
        upscaled = self.output_upscaling(source_out.transpose(1, 2).unflatten(2, image.shape[-2:]))
        weights = torch.stack([mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], 1)
        masks = torch.einsum("ntc,nchw->nthw", weights, upscaled)
        return masks, self.iou_prediction_head(tokens[:, 0])
