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

# segment-anything -> transformers (docs/methods/rsrefseg.md §8)
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

# sam2 -> transformers; what is said of a module first, then where it is
_SAM2_INSIDE: Rules = (
    (r"(blocks\.\d+)\.norm([12])\.", r"\1.layer_norm\2."),
    (r"(blocks\.\d+|transformer\.layers\.\d+)\.mlp\.layers\.0\.", r"\1.mlp.proj_in."),
    (r"(blocks\.\d+|transformer\.layers\.\d+)\.mlp\.layers\.1\.", r"\1.mlp.proj_out."),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"neck\.convs\.(\d+)\.conv\.", r"neck.convs.\1."),
    (r"mask_downscaling\.0\.", "mask_embed.conv1."),
    (r"mask_downscaling\.1\.", "mask_embed.layer_norm1."),
    (r"mask_downscaling\.3\.", "mask_embed.conv2."),
    (r"mask_downscaling\.4\.", "mask_embed.layer_norm2."),
    (r"mask_downscaling\.6\.", "mask_embed.conv3."),
    (r"pe_layer\.positional_encoding_gaussian_matrix$", "shared_embedding.positional_embedding"),
    (r"point_embeddings\.", "point_embed."),
    (r"(sam_mask_decoder\.transformer\..*attn.*)\.out_proj\.", r"\1.o_proj."),
    (r"(transformer\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"transformer\.norm_final_attn\.", "transformer.layer_norm_final_attn."),
    (r"output_upscaling\.0\.", "upscale_conv1."),
    (r"output_upscaling\.1\.", "upscale_layer_norm."),
    (r"output_upscaling\.3\.", "upscale_conv2."),
    (r"(output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head)\.layers\.1\.", r"\1.layers.0."),
    (r"(output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head)\.layers\.2\.", r"\1.proj_out."),
)
_SAM2_PLACES: Rules = (
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.", "vision_encoder.neck."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^no_mem_embed$", "no_memory_embedding"),
)

# transformers' SAM -> the prefixes of RSRefSeg's checkpoints (docs/methods/rsrefseg.md §9)
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

# RSRefSeg 2 (docs/methods/rsrefseg2.md §11): SAM 2 keeps Meta's names, SAM 1 has transformers'
_RSREFSEG2: Rules = (
    (r"^sam\.image_encoder\.", "backbone.model.image_encoder.base_model.model."),
    (r"^sam\.vision_encoder\.", "backbone.model.vision_encoder.base_model.model."),
    (r"^sam\.", "backbone.model."),
    (r"^siglip\.vision_model\.", "clip_vision_encoder.base_model.model.model."),
    (r"^siglip\.text_model\.", "clip_text_encoder.base_model.model.model."),
    (r"^siglip\.", "clip_text_encoder.base_model.model."),
    (r"^(logit_(?:scale|bias)[12])$", r"decode_head.\1"),
)
_RSREFSEG2_PROMPTER: Rules = (
    (r"^prompter\.p([12])$", r"prompter.text_query_pe_embedding\1"),
    (r"^prompter\.q([12])$", r"prompter.text_query_embedding\1"),
    (r"^prompter\.pP$", "prompter.prompt_pe_embedding"),
    (r"^prompter\.P$", "prompter.prompt_embedding"),
    (r"^prompter\.image_code\.table$", "prompter.img_pe"),
    (r"^prompter\.image_code\.fourier\..*$", "prompter.img_pe.positional_embedding"),
    (r"^prompter\.sparse_mlp\.", "prompter.sparse_prompt_mlp."),
    (r"^prompter\.dense\.conv\.", "prompter.dense_prompt_conv."),
    (r"^prompter\.dense\.projection\.", "prompter.dense_prompt_mlp."),
    (r"^prompter\.dense\.pool\.each\.", "prompter.dense_prompt_pool_mlp_1."),
    (r"^prompter\.dense\.pool\.together\.", "prompter.dense_prompt_pool_mlp_2."),
)
# Stage -> its list and, of every read, the operations attention, norm, MLP and norm: the published program configures
# a block by an ordered list of such names, and they are the names of its modules (docs/methods/rsrefseg2.md §4).
_CASCADE: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "decomposition": (
        "two_queries_text_attn_layers",
        {
            "q1_self": ("self_attn_query_query1", "norm_query1_1"),
            "q2_self": ("self_attn_query_query2", "norm_query2_1"),
            "q1_text": ("cross_attn_query_text_query1_text", "norm_query1_2", "mlp_query1_2", "norm_query1_3"),
            "q2_text": ("cross_attn_query_text_query2_text", "norm_query2_2", "mlp_query2_2", "norm_query2_3"),
            "q1_q2": ("cross_attn_query_query_query1_query2", "norm_query1_4", "mlp_query1_3", "norm_query1_5"),
            "q2_q1": ("cross_attn_query_query_query2_query1", "norm_query2_4", "mlp_query2_3", "norm_query2_5"),
        },
    ),
    "first_order": (
        "queries1_to_img_attn_layers",
        {
            "q1_self": ("self_attn_text_text_1", "norm_text_1"),
            "image_q1": ("cross_attn_img_text_1", "norm_img_1", "mlp_img_1", "norm_img_2"),
        },
    ),
    "second_order": (
        "prompt_queries2_img_attn_layers",
        {
            "q2_self": ("self_attn_text_1", "norm_text_1"),
            "image_q2": ("cross_attn_img_text_1", "norm_img_1", "mlp_img_1", "norm_img_2"),
            "prompts_self": ("self_attn_prompt_1", "norm_prompt_1"),
            "prompts_q2": ("cross_attn_prompt_text_1", "norm_prompt_2", "mlp_prompt_2", "norm_prompt_3"),
            "prompts_image": ("cross_attn_prompt_img_1", "norm_prompt_4", "mlp_prompt_3", "norm_prompt_5"),
        },
    ),
}

# ours -> the authors' checkpoints (docs/methods/evisam3.md §14-15); trunk, neck and decoder as transformers names them
_TRUNK = "image_encoder.vision_backbone.trunk."
_NECK = "image_encoder.vision_backbone.convs."
_EVISAM3: Rules = (
    (r"^sam\.trunk\.embeddings\.patch_embeddings\.projection\.", f"{_TRUNK}patch_embed.proj."),
    (r"^sam\.trunk\.embeddings\.position_embeddings$", f"{_TRUNK}pos_embed"),
    (r"^sam\.trunk\.layer_norm\.", f"{_TRUNK}ln_pre."),
    (r"^sam\.trunk\.layers\.(\d+)\.layer_norm(\d)\.", rf"{_TRUNK}blocks.\1.norm\2."),
    (r"^sam\.trunk\.layers\.(\d+)\.attention\.qkv\.", rf"{_TRUNK}blocks.\1.attn.qkv."),
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


def published_operations() -> dict[str, list[str]]:
    """Return the ordered operation names of RSRefSeg 2's three kinds of blocks, as its released configuration has them.

    Keys are the names of the published program's lists.
    """
    return {theirs: [operation for read in reads.values() for operation in read] for theirs, reads in _CASCADE.values()}


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


def sam2_to_transformers(names: Iterable[str]) -> dict[str, str]:
    """Map names of `rrsis_zoo.models.backbones.sam2.SAM2` to those of transformers' ``Sam2Model``.

    Its four point embeddings are the rows of one table there: ``point_embed.0.weight`` stands for the first.
    """
    return {name: rename(rename(name, _SAM2_INSIDE), _SAM2_PLACES) for name in names}


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


def rs2sam2(name: str) -> str:
    """Return the name of one of RS2-SAM2's tensors in the authors' checkpoints."""
    return rename(name, _RS2SAM2)


def rsrefseg2(name: str) -> str:
    """Return the name of one of RSRefSeg 2's tensors in the authors' checkpoints."""
    if name.startswith("prompter."):
        return _rsrefseg2_prompter(name)
    if re.match(r"sam\.(image_encoder\.(blocks|neck\.\d|patch|pos)|prompt_encoder|mask_decoder|position_code)", name):
        name = f"sam.{rename(name.removeprefix('sam.'), SAM_TO_TRANSFORMERS)}"  # SAM 1 in transformers' names
    return rename(name, _RSREFSEG2)


def _rsrefseg2_prompter(name: str) -> str:
    found = re.fullmatch(r"prompter\.(\w+)\.(\d+)\.(\w+)\.(attention|norm|mlp|mlp_norm)\.(.+)", name)
    if not found or found[1] not in _CASCADE:
        return rename(name, _RSREFSEG2_PROMPTER)
    stage, block, read, part, rest = found.groups()
    theirs, reads = _CASCADE[stage]
    operation = reads[read][("attention", "norm", "mlp", "mlp_norm").index(part)]
    return f"prompter.{theirs}.{block}.{operation}.{rest}"


def evisam3(name: str) -> str:
    """Return the name of one of EviSAM3's tensors in the checkpoints of the authors' program."""
    return rename(name, _EVISAM3)


# Meta's SAM 3 -> EviSAM3's checkpoints, by what a name holds (docs/methods/evisam3.md §14)
_SAM3_META: Rules = (
    (r"^.*\bvision_backbone\.(trunk\..*)$", r"image_encoder.vision_backbone.\1"),
    (r"^.*mask_decoder\.", "mask_decoder."),
    (r"^.*\bpe_layer\.", "pe_layer."),
    (r"^.*\bno_mask_embed\.", "no_mask_embed."),
)
# transformers' SAM 3 -> ours, whose trunk, neck and decoder have the names of its classes
_SAM3_TRANSFORMERS: Rules = (
    (r"^detector_model\.vision_encoder\.backbone\.", "sam.trunk."),
    (r"^tracker_model\.mask_decoder\.", "sam.mask_decoder."),
    (r"^tracker_model\.prompt_encoder\.no_mask_embed\.", "no_mask_embed."),
    (
        r"^tracker_model\.shared_image_embedding\.positional_embedding$",
        "sam.position_code.positional_encoding_gaussian_matrix",
    ),
)


def sam3_in_meta(neck: str) -> Rules:
    """Return the rules from Meta's SAM 3 to EviSAM3's checkpoints, with one of its two pyramids."""
    convs = {"detector": "convs", "tracker": "sam2_convs"}[neck]
    return ((rf"^.*\bvision_backbone\.{convs}\.", "image_encoder.vision_backbone.convs."), *_SAM3_META)


def sam3_in_transformers(neck: str) -> Rules:
    """Return the rules from transformers' SAM 3 to our names, with one of its two pyramids."""
    place = {"detector": r"detector_model\.vision_encoder\.neck", "tracker": "tracker_neck"}[neck]
    return ((rf"^{place}\.fpn_layers\.", "sam.neck.fpn_layers."), *_SAM3_TRANSFORMERS)
