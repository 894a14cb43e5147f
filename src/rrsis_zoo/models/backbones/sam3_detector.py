"""SAM 3's image detector: transformers' ``Sam3Model`` in the steps of the common interface.

A sentence gives Q candidate instances with a score, a box and a mask each, one probability that the image has anything
of the kind, and one map of all such pixels together. Parameter names are those of transformers' class.

Two things differ from calling that class with a text alone (docs/methods/sam3_zeroshot.md §3): the *geometry token*
that Meta's program appends to every prompt, and layer norms with eps 1e-5 in the trunk.

Symbols: M images, N prompts, L text positions, d width, g cells per side of the trunk's map, Q instances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import CLIPTextConfig, Sam3Config, Sam3Model
from transformers.models.sam3.configuration_sam3 import (
    Sam3DETRDecoderConfig,
    Sam3DETREncoderConfig,
    Sam3GeometryEncoderConfig,
    Sam3MaskDecoderConfig,
    Sam3VisionConfig,
    Sam3ViTConfig,
)
from transformers.models.sam3.modeling_sam3 import Sam3SinePositionEmbedding, box_cxcywh_to_xyxy, inverse_sigmoid

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.models.configuration import Count, Depth, Natural, Side
from rrsis_zoo.models.layers.host import to_device


@dataclass(frozen=True)
class SAM3DetectorConfig:
    """Sizes of the detector; the defaults are the released model.

    Attributes:
        image_size: side of the square input in pixels, a multiple of ``patch_size``.
        patch_size: side of a patch in pixels.
        width, depth, heads, mlp_width: of the ViT.
        window, global_blocks: side of its local attention windows in cells, and the blocks that attend globally.
        position_size: side in pixels of the image that its position table belongs to.
        detector_width, detector_heads, detector_mlp_width: d, and attention heads and MLP width of all that follows.
        geometry_depth, encoder_depth, decoder_depth: layers of the geometry encoder, fusion encoder and decoder.
        queries: Q.
        roi_size: of the geometry encoder's box layers, which nothing here reads.
        vocabulary, text_positions: rows of the text tower's tables.
        text_width, text_depth, text_heads, text_projection: of the text tower; its projection is never read.
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
    detector_width: Count = 256
    detector_heads: Count = 8
    detector_mlp_width: Count = 2048
    geometry_depth: Depth = 3
    encoder_depth: Depth = 6
    decoder_depth: Depth = 6
    queries: Count = 200
    roi_size: Count = 7
    vocabulary: Count = 49408
    text_positions: Count = 32
    text_width: Count = 1024
    text_depth: Depth = 24
    text_heads: Count = 16
    text_projection: Count = 512

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ConfigError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if not self.decoder_depth:
            raise ConfigError("decoder_depth must be at least 1")

    @property
    def grid(self) -> int:
        """g."""
        return self.image_size // self.patch_size


class Instances(NamedTuple):
    """What the detector finds for N prompts.

    Attributes:
        logits: (N, Q), of each candidate being an instance of the prompt *if* there is any.
        boxes: (N, Q, 4), x0 y0 x1 y1 as shares of the width and height, not clipped.
        presence: (N, 1), logit that the image has anything of the kind.
        queries: (N, Q, d), the decoder's last states, from which the masks are read.
        encoded: (N, g², d), the image as the prompt's words have changed it.
    """

    logits: Tensor
    boxes: Tensor
    presence: Tensor
    queries: Tensor
    encoded: Tensor


class SAM3Detector(Sam3Model):
    """The detector, without boxes as prompts."""

    def __init__(self, config: SAM3DetectorConfig) -> None:
        super().__init__(_sizes(config))
        self.sines = Sam3SinePositionEmbedding(config.detector_width // 2, normalize=True)

    def pyramid(self, image: Tensor) -> list[Tensor]:
        """Encode normalised images (M, 3, S, S): maps (M, d, ·, ·) with 4g, 2g and g cells per side."""
        return list(self.vision_encoder(image).fpn_hidden_states[:3])

    def geometry_token(self, coarse: Tensor) -> Tensor:
        """Return the encoding of *no* boxes, (M, 1, d): a learned vector that has seen the coarsest map.

        The class's own ``forward`` wants a box and looks into its mask. Here a second row takes the place of a hidden
        box, so that sums have the same order.
        """
        encoder: Any = self.geometry_encoder
        token = encoder.cls_embed.weight.expand(len(coarse), 2, -1).contiguous()
        token = encoder.prompt_layer_norm(encoder.final_proj(token))
        seen, positions = (x.flatten(2).transpose(1, 2) for x in (coarse, self.positions(coarse)))
        read = seen_by(torch.arange(2, device=token.device)[None].expand(len(token), -1) < 1, 2)
        for layer in encoder.layers:
            token = layer(prompt_feats=token, vision_feats=seen, vision_pos_encoding=positions, prompt_mask=read)
        return encoder.output_layer_norm(token)[:, :1]

    def positions(self, coarse: Tensor) -> Tensor:
        """Return the sine positions of a map (M, d, g, g), of its shape."""
        return self.sines(coarse.shape, coarse.device, coarse.dtype)

    def words(self, ids: Tensor, read: Tensor) -> Tensor:
        """Return text rows (N, L, d) on the model's device; equal sentences are read once.

        Args:
            ids: int64 (N, L), on the host.
            read: bool (N, L), on the host.
        """
        length = ids.shape[1]
        distinct, back = torch.unique(torch.cat([ids, read.long()], 1), dim=0, return_inverse=True)
        ids, read = distinct.split(length, 1)
        mask = None
        if not read.all():  # of each pair of positions: given one row a sentence, the class would look into it
            mask = to_device(read.bool(), self.device)[:, None, None]
            mask = mask & torch.ones(length, length, dtype=torch.bool, device=self.device).tril()
        text: Any = self.get_text_features(input_ids=to_device(ids, self.device), attention_mask=mask)  # type: ignore[arg-type]
        return text.pooler_output[to_device(back, self.device)]

    def find(self, coarse: Tensor, prompt: Tensor, valid: Tensor, complete: bool = False) -> Instances:
        """Find instances.

        Args:
            coarse: (N, d, g, g), of each prompt's image.
            prompt: (N, P, d), text rows, and the geometry token.
            valid: bool (N, P), rows that are read.
            complete: whether all of them are.
        """
        positions = self.positions(coarse)
        encoded = self.fuse(coarse, positions, prompt, None if complete else valid)
        decoded = self.detr_decoder(
            vision_features=encoded,
            text_features=prompt,
            vision_pos_encoding=positions.flatten(2).transpose(1, 2),
            text_mask=None if complete else seen_by(valid, 1 + self.detr_decoder.query_embed.num_embeddings),
            spatial_shapes=torch.tensor([coarse.shape[-2:]]),  # on the host, where it is read
        )
        queries = decoded.intermediate_hidden_states[-1]
        boxes = inverse_sigmoid(decoded.reference_boxes[-1]) + self.detr_decoder.box_head(queries)
        logits = self.dot_product_scoring(decoder_hidden_states=queries[None], text_features=prompt, text_mask=valid)
        return Instances(
            logits[0].squeeze(-1),
            box_cxcywh_to_xyxy(boxes.sigmoid()),
            decoded.presence_logits[-1],
            queries,
            encoded,
        )

    def fuse(self, coarse: Tensor, positions: Tensor, prompt: Tensor, valid: Tensor | None) -> Tensor:
        """Return the image as the prompt changes it, (N, g², d): the layers of transformers' encoder, one by one.

        Its own ``forward`` looks into the mask, and copies the map's size to the device.
        """
        x, code = (part.flatten(2).transpose(1, 2) for part in (coarse, positions))
        mask = None if valid is None else seen_by(valid, x.shape[1])
        for layer in self.detr_encoder.layers:
            x = layer(x, prompt_feats=prompt, vision_pos_encoding=code, prompt_cross_attn_mask=mask)
        return x

    def masks(
        self,
        pyramid: list[Tensor],
        encoded: Tensor,
        queries: Tensor,
        prompt: Tensor,
        valid: Tensor,
        complete: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return the mask logits of K instances, (N, K, 4g, 4g), and of all of the kind together, (N, 1, 4g, 4g).

        Args:
            pyramid: of each prompt's image.
            encoded, prompt, valid, complete: as in `find`.
            queries: (N, K, d), any of the decoder's.
        """
        drawn = self.mask_decoder(
            decoder_queries=queries,
            backbone_features=pyramid,
            encoder_hidden_states=encoded,
            prompt_features=prompt,
            prompt_mask=None if complete else seen_by(valid, encoded.shape[1]),
        )
        return drawn.pred_masks, drawn.semantic_seg


def seen_by(valid: Tensor, queries: int) -> Tensor:
    """Return which rows each of some queries may read, (N, 1, queries, P), of valid rows bool (N, P).

    Of each pair: given one row a prompt, transformers' classes would look into it, and wait for the device.
    """
    return valid[:, None, None].expand(-1, 1, queries, -1)


def _sizes(config: SAM3DetectorConfig) -> Sam3Config:
    c = config
    common = {"hidden_size": c.detector_width, "num_attention_heads": c.detector_heads, "layer_norm_eps": 1e-5}
    layers = {**common, "intermediate_size": c.detector_mlp_width}
    trunk = Sam3ViTConfig(
        hidden_size=c.width,
        intermediate_size=c.mlp_width,
        num_hidden_layers=c.depth,
        num_attention_heads=c.heads,
        image_size=c.image_size,
        patch_size=c.patch_size,
        layer_norm_eps=1e-5,  # as in Meta's program; transformers' default is 1e-6
        window_size=c.window,
        global_attn_indexes=list(c.global_blocks),
        pretrain_image_size=c.position_size,
    )
    vision = Sam3VisionConfig(
        backbone_config=trunk,
        fpn_hidden_size=c.detector_width,
        scale_factors=[4.0, 2.0, 1.0, 0.5],  # the last one is in the files but never used
        layer_norm_eps=1e-5,
    )
    text = CLIPTextConfig(
        vocab_size=c.vocabulary,
        hidden_size=c.text_width,
        intermediate_size=4 * c.text_width,
        projection_dim=c.text_projection,
        num_hidden_layers=c.text_depth,
        num_attention_heads=c.text_heads,
        max_position_embeddings=c.text_positions,
        hidden_act="gelu",
        bos_token_id=c.vocabulary - 2,
        eos_token_id=c.vocabulary - 1,
    )
    return Sam3Config(
        vision_config=vision,
        text_config=text,
        geometry_encoder_config=Sam3GeometryEncoderConfig(num_layers=c.geometry_depth, roi_size=c.roi_size, **layers),
        detr_encoder_config=Sam3DETREncoderConfig(num_layers=c.encoder_depth, **layers),
        detr_decoder_config=Sam3DETRDecoderConfig(num_layers=c.decoder_depth, num_queries=c.queries, **layers),
        mask_decoder_config=Sam3MaskDecoderConfig(**common),
        attn_implementation="sdpa",  # type: ignore[call-arg] - taken by every configuration of transformers
    )
