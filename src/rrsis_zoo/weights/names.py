"""Names of tensors in released files, made from ours.

A rule is a regular expression and its replacement; the first that matches a name is applied, once. Going from ours
to theirs is enough: the names of a module are known, so the inverse is a look-up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.registry import card

Rules = Sequence[tuple[str, str]]

# segment-anything -> transformers (spec rsrefseg §8.1)
SAM_TO_TRANSFORMERS: Rules = (
    (r"^image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^image_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_encoder.layers.\1.layer_norm\2."),
    (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (r"^image_encoder\.", "vision_encoder."),
    (r"^position_code\.positional_encoding_gaussian_matrix$", "shared_image_embedding.positional_embedding"),
    (
        r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$",
        "prompt_encoder.shared_embedding.positional_embedding",
    ),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"^prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^mask_decoder\.transformer\.layers\.(\d+)\.norm(\d)\.", r"mask_decoder.transformer.layers.\1.layer_norm\2."),
    (r"^mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.0\.", r"\1.proj_in."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.1\.", r"\1.layers.0."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.2\.", r"\1.proj_out."),
)

# transformers' SAM -> the prefixes of RSRefSeg's checkpoints (spec rsrefseg §9)
_RSREFSEG: Rules = (
    (r"^vision_encoder\.", "backbone.base_model.model.model."),
    (r"^shared_image_embedding\.", "backbone.base_model.model.shared_image_embedding."),
    (r"^prompt_encoder\.", "sam_prompt_encoder.model."),
    (r"^mask_decoder\.", "sam_mask_decoder.model."),
    (r"^siglip\.vision_model\.", "clip_vision_encoder.base_model.model.model."),
    (r"^siglip\.text_model\.", "clip_text_encoder.base_model.model.model."),
    (r"^siglip\.(logit_scale|logit_bias)$", r"clip_text_encoder.base_model.model.\1"),
    (r"^prompter\.(down_channel|down_spatial)\.", r"prompter_\1."),
)


def rename(name: str, rules: Rules) -> str:
    """Apply the first rule that matches; a name that none matches stays as it is."""
    for pattern, replacement in rules:
        renamed, hits = re.subn(pattern, replacement, name, count=1)
        if hits:
            return renamed
    return name


def sam_to_transformers(names: Iterable[str]) -> dict[str, str]:
    """Map names of `rrsis_zoo.models.backbones.sam.SAM` to those of transformers' ``SamModel``."""
    return {name: rename(name, SAM_TO_TRANSFORMERS) for name in names}


def official_names(model: ReferringSegmenter) -> dict[str, str]:
    """Map every parameter and buffer of a method to its name in the authors' checkpoints.

    Raises:
        ConfigError: the method has no authors but us.
    """
    official = card(model.name).official
    if official is None:
        raise ConfigError(f"{model.name} is this project's own: nobody else has written weights of it")
    return {name: official.name(name) for name in model.state_dict()}


def rsrefseg(name: str) -> str:
    """Return the name of one of RSRefSeg's tensors in the authors' checkpoints."""
    return rename(rename(name.removeprefix("sam."), SAM_TO_TRANSFORMERS), _RSREFSEG)
