"""Names of tensors in released files, made from ours.

A rule is a regular expression and its replacement; the first that matches a name is applied, once. Going from ours
to theirs is enough: the names of a module are known, so the inverse is a look-up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from rrsis_zoo.models.base import ReferringSegmenter

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

# ours -> the authors' checkpoints (spec evisam3 §14-15); trunk, neck and decoder as transformers names them
_TRUNK = "image_encoder.vision_backbone.trunk."
_NECK = "image_encoder.vision_backbone.convs."
_EVISAM3: Rules = (
    (r"^sam\.trunk\.embeddings\.patch_embeddings\.projection\.", f"{_TRUNK}patch_embed.proj."),
    (r"^sam\.trunk\.embeddings\.position_embeddings$", f"{_TRUNK}pos_embed"),
    (r"^sam\.trunk\.layer_norm\.", f"{_TRUNK}ln_pre."),
    (r"^sam\.trunk\.layers\.(\d+)\.layer_norm(\d)\.", rf"{_TRUNK}blocks.\1.norm\2."),
    (r"^sam\.trunk\.layers\.(\d+)\.attention\.[qkv]_proj\.", rf"{_TRUNK}blocks.\1.attn.qkv."),
    (r"^sam\.trunk\.layers\.(\d+)\.attention\.o_proj\.", rf"{_TRUNK}blocks.\1.attn.proj."),
    (r"^sam\.trunk\.layers\.", f"{_TRUNK}blocks."),
    (r"^sam\.neck\.fpn_layers\.0\.scale_layers\.0\.", f"{_NECK}0.dconv_2x2_0."),
    (r"^sam\.neck\.fpn_layers\.0\.scale_layers\.2\.", f"{_NECK}0.dconv_2x2_1."),
    (r"^sam\.neck\.fpn_layers\.1\.scale_layers\.0\.", f"{_NECK}1.dconv_2x2."),
    (r"^sam\.neck\.fpn_layers\.(\d)\.proj1\.", rf"{_NECK}\1.conv_1x1."),
    (r"^sam\.neck\.fpn_layers\.(\d)\.proj2\.", rf"{_NECK}\1.conv_3x3."),
    (r"^sam\.position_code\.", "pe_layer."),
    (r"^sam\.(mask_decoder\.transformer\..*)\.o_proj\.", r"\1.out_proj."),
    (r"^sam\.(mask_decoder\.transformer\.layers\.\d+)\.layer_norm(\d)\.", r"\1.norm\2."),
    (r"^sam\.(mask_decoder\.transformer\.layers\.\d+\.mlp)\.proj_in\.", r"\1.lin1."),
    (r"^sam\.(mask_decoder\.transformer\.layers\.\d+\.mlp)\.proj_out\.", r"\1.lin2."),
    (r"^sam\.mask_decoder\.transformer\.layer_norm_final_attn\.", "mask_decoder.transformer.norm_final_attn."),
    (r"^sam\.mask_decoder\.upscale_conv1\.", "mask_decoder.output_upscaling.0."),
    (r"^sam\.mask_decoder\.upscale_layer_norm\.", "mask_decoder.output_upscaling.1."),
    (r"^sam\.mask_decoder\.upscale_conv2\.", "mask_decoder.output_upscaling.3."),
    (r"^sam\.(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.proj_in\.", r"\1.layers.0."),
    (r"^sam\.(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.0\.", r"\1.layers.1."),
    (r"^sam\.(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.proj_out\.", r"\1.layers.2."),
    (r"^sam\.mask_decoder\.", "mask_decoder."),
    *(
        (rf"^prompt_generator\.stages\.{n}\.{ours}\.", f"{_TRUNK}prompt_generator.{theirs}.")
        for n in range(4)
        for ours, theirs in (
            (r"picture\.0", f"handcrafted_generator{n + 1}.proj"),
            (r"picture\.1", f"handcrafted_generator{n + 1}.norm"),
            ("embedding", f"embedding_generator{n + 1}"),
            (r"lightweight\.(\d+)", rf"lightweight_mlp{n + 1}_\1.0"),
            ("shared", f"shared_mlp{n + 1}"),
        )
    ),
    *(
        (rf"^evidence_adapters\.(\d+)\.{ours}", rf"space_adapters.\1.{theirs}")
        for ours, theirs in (
            (r"down\.", "D_fc1."),
            (r"up\.", "D_fc2."),
            (r"vision_from_text\.", "vlfusion.multihead_attn."),
            (r"text_from_vision\.", "lvfusion.multihead_attn."),
            (r"gather\.", "evidence_attn."),
            (r"text_to_evidence\.", "txt_to_evi."),
            (r"vision_to_evidence\.", "vis_to_evi."),
            (r"evidence_to_hidden\.", "evi_to_hid."),
            *(
                (rf"rectify_{way}\.{ours}", theirs.format(short))
                for way, short in (("vision", "ev"), ("text", "el"))
                for ours, theirs in (
                    (r"attention\.", "{}_attn."),
                    (r"norm\.", "{}_norm."),
                    (r"gate\.", "gate_{}."),
                    ("scale$", "ls_{}"),
                )
            ),
            ("", ""),
        )
    ),
    (r"^mlp_adapters\.(\d+)\.down\.", r"mlp_adapters.\1.D_fc1."),
    (r"^mlp_adapters\.(\d+)\.up\.", r"mlp_adapters.\1.D_fc2."),
    (r"^union\.", "mm_extractor.beit3."),
    (r"^prior\.attention\.", "vmtoken.multihead_attn."),
    (r"^prior\.text_hidden\.", "text_hidden_fcs.0."),
    (r"^prior\.", ""),
    (r"^experts\.clutter_norm\.", "spec_prompt_delta.exp_clut_norm."),
    (r"^experts\.(.*\.arc\d)\.router\.norm\.", r"spec_prompt_delta.\1.rounting_func.norm.norm."),
    (r"^experts\.(.*\.arc\d)\.router\.", r"spec_prompt_delta.\1.rounting_func."),
    (r"^experts\.", "spec_prompt_delta."),
    (r"^dense_projection\.", "mask_prompt_proj."),
)

# entries that the authors' programs write a second time under another name
_ALIASES: dict[str, Rules] = {
    "evisam3": (
        (r"^spec_prompt_delta\.exp_detail\.", "spec_prompt_delta.experts.0."),
        (r"^spec_prompt_delta\.exp_elong\.", "spec_prompt_delta.experts.1."),
        (r"^spec_prompt_delta\.exp_clutter\.", "spec_prompt_delta.experts.2."),
    )
}


# RS2-SAM2's modules -> its published checkpoints; union encoder and SAM 2 keep their released names
_RS2SAM2: Rules = (
    (r"^union\.", "mm_extractor.beit3."),
    (r"^sparse_head\.", "text_hidden_fcs.0."),
    (r"^word_head\.", "text_feat_linear."),
    (r"^boundary_head\.", "text2one_linear."),
    (r"^mask_prompt\.read\.", "vmtoken.multihead_attn."),
    (r"^mask_prompt\.linear\.", "mask_linear."),
    (r"^mask_prompt\.product\.", "mask_product."),
    (r"^post_fusion\.", "visual_model.sam_mask_decoder.vlfusion_module.multihead_attn."),
    (r"^sam\.(.*)\.fusion\.image_down\.", r"visual_model.\1.Space_Adapter.D_fc1."),
    (r"^sam\.(.*)\.fusion\.image_up\.", r"visual_model.\1.Space_Adapter.D_fc2."),
    (r"^sam\.(.*)\.fusion\.text_down\.", r"visual_model.\1.Space_Adapter.text_in_linear."),
    (r"^sam\.(.*)\.fusion\.text_up\.", r"visual_model.\1.Space_Adapter.text_out_linear."),
    (r"^sam\.(.*)\.fusion\.image_reads\.", r"visual_model.\1.Space_Adapter.vlfusion_module.multihead_attn."),
    (r"^sam\.(.*)\.fusion\.text_reads\.", r"visual_model.\1.Space_Adapter.lvfusion_module.multihead_attn."),
    (r"^sam\.(.*)\.adapter\.down\.", r"visual_model.\1.MLP_Adapter.D_fc1."),
    (r"^sam\.(.*)\.adapter\.up\.", r"visual_model.\1.MLP_Adapter.D_fc2."),
    (r"^sam\.", "visual_model."),
)

RS2SAM2_SKIPPED: dict[str, str] = dict.fromkeys(
    (
        "visual_model.memory_attention.*",
        "visual_model.memory_encoder.*",
        "visual_model.obj_ptr_proj.*",
        "visual_model.mask_downsample.*",
        "visual_model.maskmem_tpos_enc",
        "visual_model.no_mem_pos_enc",
        "visual_model.no_obj_ptr",
        "meo_linear.*",
        "mm_extractor.beit3.vision_embed.mask_token",
    ),
    "the published program never uses it",
)
"""Entries of RS2-SAM2's published checkpoints that have no place here, and why."""


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


@dataclass(frozen=True)
class Slice:
    """Where one of our tensors lies inside an official one that is larger: a fused projection, a longer table.

    Attributes:
        axis: along which it is a part.
        start: its first row there.
        size: of the official tensor there.
    """

    axis: int
    start: int
    size: int

    def take(self, official: Tensor, ours: Tensor) -> Tensor:
        """Return the part of the official tensor that is ours."""
        return official.narrow(self.axis, self.start, ours.shape[self.axis])

    def whole(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the official tensor's shape for ours."""
        return (*shape[: self.axis], self.size, *shape[self.axis + 1 :])


def official_names(model: ReferringSegmenter) -> dict[str, str]:
    """Map every parameter and buffer of a method to its name in the authors' checkpoints.

    Several of ours may share one official tensor (`official_slices`).

    Raises:
        KeyError: no map is known for the method.
    """
    return {name: official_name(model.name, name) for name in model.state_dict()}


def official_name(method: str, name: str) -> str:
    """Return the name in the authors' checkpoints of one of our tensors."""
    return _OFFICIAL[method](name)


def official_slices(model: ReferringSegmenter) -> dict[str, Slice]:
    """Return, for those of our tensors that are only a part of an official one, which part."""
    find = _SLICES.get(model.name)
    if find is None:
        return {}
    found = {name: find(name, tensor) for name, tensor in model.state_dict().items()}
    return {name: part for name, part in found.items() if part is not None}


def official_alias(method: str, name: str) -> str:
    """Return the name under which an official tensor is stored once; most are stored once anyway."""
    return rename(name, _ALIASES.get(method, ()))


def _rsrefseg(name: str) -> str:
    return rename(rename(name.removeprefix("sam."), SAM_TO_TRANSFORMERS), _RSREFSEG)


def _rs2sam2(name: str) -> str:
    return rename(name, _RS2SAM2)


def _evisam3(name: str) -> str:
    return rename(name, _EVISAM3)


def _evisam3_slice(name: str, ours: Tensor) -> Slice | None:
    if projection := re.search(r"^sam\.trunk\.layers\.\d+\.attention\.([qkv])_proj\.", name):
        rows = ours.shape[0]
        return Slice(axis=0, start="qkv".index(projection[1]) * rows, size=3 * rows)
    if name == "sam.trunk.embeddings.position_embeddings":
        return Slice(axis=1, start=1, size=ours.shape[1] + 1)  # the first row is a class token's
    return None


_OFFICIAL: dict[str, Callable[[str], str]] = {
    "rsrefseg": _rsrefseg,
    "rs2sam2": _rs2sam2,
    "evisam3": _evisam3,
}
_SLICES: dict[str, Callable[[str, Tensor], Slice | None]] = {"evisam3": _evisam3_slice}
