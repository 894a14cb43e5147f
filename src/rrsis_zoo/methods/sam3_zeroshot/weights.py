"""How SAM 3's released weights map to the detector: transformers' file and Meta's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.weights.files import read_state_dict
from rrsis_zoo.weights.load import fill_module
from rrsis_zoo.weights.names import Rules, rename

_TRUNK, _NECK = r"^backbone\.vision_backbone\.trunk\.", r"^backbone\.vision_backbone\.convs\."
_TEXT = r"^backbone\.language_backbone\.encoder\."
_LAYERS, _PYRAMID = "vision_encoder.backbone.layers.", "vision_encoder.neck.fpn_layers."
_TOWER, _BLOCK = "text_encoder.text_model.", r"text_encoder.text_model.encoder.layers.\1."
_DECODER = r"^transformer\.decoder\."
_NORMED = {"norm1": "vision_cross_attn", "norm2": "self_attn", "norm3": "mlp", "catext_norm": "text_cross_attn"}
"""What each norm of a decoder layer follows."""

# Meta -> transformers, as far as the place of a tensor
_PLACES: Rules = (
    (rf"{_TRUNK}patch_embed\.proj\.", "vision_encoder.backbone.embeddings.patch_embeddings.projection."),
    (rf"{_TRUNK}pos_embed$", "vision_encoder.backbone.embeddings.position_embeddings"),
    (rf"{_TRUNK}ln_pre\.", "vision_encoder.backbone.layer_norm."),
    (rf"{_TRUNK}blocks\.(\d+)\.norm(\d)\.", rf"{_LAYERS}\1.layer_norm\2."),
    (rf"{_TRUNK}blocks\.(\d+)\.attn\.proj\.", rf"{_LAYERS}\1.attention.o_proj."),
    (rf"{_TRUNK}blocks\.(\d+)\.attn\.qkv\.", rf"{_LAYERS}\1.attention.in_proj_"),
    (rf"{_TRUNK}blocks\.", _LAYERS),
    (rf"{_NECK}0\.dconv_2x2_0\.", f"{_PYRAMID}0.scale_layers.0."),
    (rf"{_NECK}0\.dconv_2x2_1\.", f"{_PYRAMID}0.scale_layers.2."),
    (rf"{_NECK}(\d)\.dconv_2x2\.", rf"{_PYRAMID}\1.scale_layers.0."),
    (rf"{_NECK}(\d)\.conv_1x1\.", rf"{_PYRAMID}\1.proj1."),
    (rf"{_NECK}(\d)\.conv_3x3\.", rf"{_PYRAMID}\1.proj2."),
    (r"^backbone\.language_backbone\.resizer\.", "text_projection."),
    (rf"{_TEXT}positional_embedding$", f"{_TOWER}embeddings.position_embedding.weight"),
    (rf"{_TEXT}token_embedding\.", f"{_TOWER}embeddings.token_embedding."),
    (rf"{_TEXT}ln_final\.", f"{_TOWER}final_layer_norm."),
    (rf"{_TEXT}text_projection$", "text_encoder.text_projection.weight"),
    (rf"{_TEXT}transformer\.resblocks\.(\d+)\.ln_(\d)\.", rf"{_BLOCK}layer_norm\2."),
    (rf"{_TEXT}transformer\.resblocks\.(\d+)\.attn\.", rf"{_BLOCK}self_attn."),
    (rf"{_TEXT}transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", rf"{_BLOCK}mlp.fc1."),
    (rf"{_TEXT}transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", rf"{_BLOCK}mlp.fc2."),
    (r"^geometry_encoder\.norm\.", "geometry_encoder.prompt_layer_norm."),
    (r"^geometry_encoder\.img_pre_norm\.", "geometry_encoder.vision_layer_norm."),
    (r"^geometry_encoder\.encode_norm\.", "geometry_encoder.output_layer_norm."),
    (r"^geometry_encoder\.encode\.(\d+)\.norm(\d)\.", r"geometry_encoder.layers.\1.layer_norm\2."),
    (r"^geometry_encoder\.encode\.(\d+)\.", r"geometry_encoder.layers.\1."),
    (r"^transformer\.encoder\.layers\.(\d+)\.norm(\d)\.", r"detr_encoder.layers.\1.layer_norm\2."),
    (r"^transformer\.encoder\.", "detr_encoder."),
    *(
        (rf"{_DECODER}layers\.(\d+)\.{norm}\.", rf"detr_decoder.layers.\1.{part}_layer_norm.")
        for norm, part in _NORMED.items()
    ),
    (rf"{_DECODER}layers\.(\d+)\.cross_attn\.", r"detr_decoder.layers.\1.vision_cross_attn."),
    (rf"{_DECODER}layers\.(\d+)\.ca_text\.", r"detr_decoder.layers.\1.text_cross_attn."),
    (rf"{_DECODER}norm\.", "detr_decoder.output_layer_norm."),
    (rf"{_DECODER}bbox_embed\.", "detr_decoder.box_head."),
    (rf"{_DECODER}boxRPB_embed_", "detr_decoder.box_rpb_embed_"),
    (rf"{_DECODER}presence_token_head\.", "detr_decoder.presence_head."),
    (rf"{_DECODER}presence_token_out_norm\.", "detr_decoder.presence_layer_norm."),
    (_DECODER, "detr_decoder."),
    (r"^segmentation_head\.mask_predictor\.mask_embed\.", "mask_decoder.mask_embedder."),
    (r"^segmentation_head\.cross_attend_prompt\.", "mask_decoder.prompt_cross_attn."),
    (r"^segmentation_head\.cross_attn_norm\.", "mask_decoder.prompt_cross_attn_norm."),
    (r"^segmentation_head\.semantic_seg_head\.", "mask_decoder.semantic_projection."),
    (r"^segmentation_head\.instance_seg_head\.", "mask_decoder.instance_projection."),
    (r"^segmentation_head\.", "mask_decoder."),
    (r"^dot_prod_scoring\.prompt_mlp\.out_norm\.", "dot_product_scoring.text_mlp_out_norm."),
    (r"^dot_prod_scoring\.prompt_mlp\.", "dot_product_scoring.text_mlp."),
    (r"^dot_prod_scoring\.prompt_proj\.", "dot_product_scoring.text_proj."),
    (r"^dot_prod_scoring\.hs_proj\.", "dot_product_scoring.query_proj."),
)
_HEADS = re.compile(
    r"^(detr_decoder\.(?:box_head|box_rpb_embed_.|presence_head|ref_point_head)|dot_product_scoring\.text_mlp)"
    r"\.layers\.(\d+)\."
)
"""MLPs whose layers transformers counts from 1."""


def transformers_names(name: str) -> list[str]:
    """Return the names in transformers' class of a tensor of Meta's detector, without prefixes.

    Three names are those of queries, keys and values, in this order: the thirds of the tensor's rows.
    """
    name = rename(name, _PLACES).replace(".cross_attn_image.", ".cross_attn.")
    name = re.sub(r"\.linear(\d)\.", r".mlp.fc\1.", name)
    name = _HEADS.sub(lambda found: f"{found[1]}.layer{int(found[2]) + 1}.", name)
    if not name.startswith(_TOWER):
        name = name.replace(".out_proj.", ".o_proj.")
    packed = re.fullmatch(r"(.*\.)in_proj_(weight|bias)", name)
    return [f"{packed[1]}{part}_proj.{packed[2]}" for part in "qkv"] if packed else [name]


_DETECTOR = {"detector.", "detector_model."}
_NOT_READ = {
    "tracker*": "only video reads it",
    "*relative_position_index": "computed, not learned",
    "*.freqs_cis": "computed, not learned",
    "*rope_embeddings*": "computed, not learned",
    "*.position_ids": "computed, not learned",
    "*.attn_mask": "computed, not learned",
    "geometry_encoder.points_*": "only points as prompts are read by it",
}


def from_meta(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert Meta's detector, names without ``detector.``, to the names and shapes of transformers' class."""
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        names = transformers_names(name)
        if names[0].endswith("embeddings.position_embeddings"):
            tensor = tensor[:, 1:]  # the first row belongs to a class token
        elif names[0] == "text_encoder.text_projection.weight":
            tensor = tensor.T
        converted |= dict(zip(names, tensor.chunk(len(names)), strict=True))
    return converted


def _sam(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill ``model.sam`` from transformers' file or Meta's; what tracks objects through a video is left out."""

    def read() -> dict[str, Tensor]:
        state = read_state_dict(paths[0])
        prefix = next((p for p in _DETECTOR if any(name.startswith(p) for name in state)), "")
        state = {
            name.removeprefix(prefix): tensor
            for name, tensor in state.items()
            if name.startswith(prefix) and not name.startswith("geometry_encoder.points_", len(prefix))
        }
        return state if any(name.startswith("vision_encoder.") for name in state) else from_meta(state)

    fill_module(model.get_submodule("sam"), read, what=f"SAM 3 from {paths[0]}", ignore=_NOT_READ)


def _clip(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Set the tokenizer."""
    model.read_tokenizer(paths[0])


FOUNDATION_FILLERS = {"sam": _sam, "clip": _clip}
