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
        """Return the encoding of *no* boxes, (M, 1, d): a learned vector that has seen the coarsest map."""
        m = len(coarse)
        encoded = self.geometry_encoder(  # one box that is no box: its row is hidden, and comes after the token's
            box_embeddings=coarse.new_zeros(m, 1, 4),
            box_mask=torch.zeros(m, 1, dtype=torch.bool, device=coarse.device),
            box_labels=torch.zeros(m, 1, dtype=torch.long, device=coarse.device),
            img_feats=(coarse,),
            img_pos_embeds=(self.positions(coarse),),
        )
        return encoded.last_hidden_state[:, :1]  # type: ignore[index] - it is given

    def positions(self, coarse: Tensor) -> Tensor:
        """Return the sine positions of a map (M, d, g, g), of its shape."""
        return self.sines(coarse.shape, coarse.device, coarse.dtype)

    def words(self, ids: Tensor, read: Tensor) -> Tensor:
        """Return text rows (N, L, d) of ids (N, L); equal sentences are read once. ``read``: bool (N, L)."""
        distinct, back = torch.unique(torch.cat([ids, read.long()], 1), dim=0, return_inverse=True)
        ids, read = distinct.split(ids.shape[1], 1)
        text: Any = self.get_text_features(input_ids=ids, attention_mask=read)  # type: ignore[arg-type]
        return text.pooler_output[back]

    def find(self, coarse: Tensor, prompt: Tensor, valid: Tensor) -> Instances:
        """Find instances.

        Args:
            coarse: (N, d, g, g), of each prompt's image.
            prompt: (N, P, d), text rows, and the geometry token.
            valid: bool (N, P), rows that are read.
        """
        encoded = self.detr_encoder(
            vision_features=[coarse],
            text_features=prompt,
            vision_pos_embeds=[self.positions(coarse)],
            text_mask=valid,
        )
        decoded = self.detr_decoder(
            vision_features=encoded.last_hidden_state,
            text_features=encoded.text_features,
            vision_pos_encoding=encoded.pos_embeds_flattened,
            text_mask=valid,
            spatial_shapes=encoded.spatial_shapes,
        )
        queries = decoded.intermediate_hidden_states[-1]
        boxes = inverse_sigmoid(decoded.reference_boxes[-1]) + self.detr_decoder.box_head(queries)
        logits = self.dot_product_scoring(
            decoder_hidden_states=queries[None], text_features=encoded.text_features, text_mask=valid
        )
        return Instances(
            logits[0].squeeze(-1),
            box_cxcywh_to_xyxy(boxes.sigmoid()),
            decoded.presence_logits[-1],
            queries,
            encoded.last_hidden_state,
        )

    def masks(
        self, pyramid: list[Tensor], encoded: Tensor, queries: Tensor, prompt: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the mask logits of K instances, (N, K, 4g, 4g), and of all of the kind together, (N, 1, 4g, 4g).

        Args:
            pyramid: of each prompt's image.
            encoded, prompt, valid: as in `find`.
            queries: (N, K, d), any of the decoder's.
        """
        drawn = self.mask_decoder(
            decoder_queries=queries,
            backbone_features=pyramid,
            encoder_hidden_states=encoded,
            prompt_features=prompt,
            prompt_mask=valid,
        )
        return drawn.pred_masks, drawn.semantic_seg


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
