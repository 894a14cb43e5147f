"""How released weights map to RSRefSeg 2: its foundation models', and the authors' own checkpoints."""

from __future__ import annotations

import re
from pathlib import Path

from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.weights.foundations import fill_sam, fill_sam2, fill_siglip
from rrsis_zoo.weights.names import SAM_TO_TRANSFORMERS, Rules, rename

# RSRefSeg 2 (docs/methods/rsrefseg2.md §11): SAM 2 keeps Meta's names, SAM 1 has transformers'
_OFFICIAL: Rules = (
    (r"^sam\.image_encoder\.", "backbone.model.image_encoder.base_model.model."),
    (r"^sam\.vision_encoder\.", "backbone.model.vision_encoder.base_model.model."),
    (r"^sam\.", "backbone.model."),
    (r"^siglip\.vision_model\.", "clip_vision_encoder.base_model.model.model."),
    (r"^siglip\.text_model\.", "clip_text_encoder.base_model.model.model."),
    (r"^siglip\.", "clip_text_encoder.base_model.model."),
    (r"^(logit_(?:scale|bias)[12])$", r"decode_head.\1"),
)
_PROMPTER: Rules = (
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


def published_operations() -> dict[str, list[str]]:
    """Return the ordered operation names of RSRefSeg 2's three kinds of blocks, as in its released configuration.

    Keys are the names of the lists in the published program.
    """
    return {
        official: [operation for read in reads.values() for operation in read] for official, reads in _CASCADE.values()
    }


def official_name(name: str) -> str:
    """Return the name of one of RSRefSeg 2's tensors in the authors' checkpoints."""
    if name.startswith("prompter."):
        return _prompter_name(name)
    if re.match(r"sam\.(image_encoder\.(blocks|neck\.\d|patch|pos)|prompt_encoder|mask_decoder|position_code)", name):
        name = f"sam.{rename(name.removeprefix('sam.'), SAM_TO_TRANSFORMERS)}"  # SAM 1 in transformers' names
    return rename(name, _OFFICIAL)


def _prompter_name(name: str) -> str:
    match = re.fullmatch(r"prompter\.(\w+)\.(\d+)\.(\w+)\.(attention|norm|mlp|mlp_norm)\.(.+)", name)
    if not match or match[1] not in _CASCADE:
        return rename(name, _PROMPTER)
    stage, block, read, part, rest = match.groups()
    official, reads = _CASCADE[stage]
    operation = reads[read][("attention", "norm", "mlp", "mlp_norm").index(part)]
    return f"prompter.{official}.{block}.{operation}.{rest}"


def _sam(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill ``model.sam``, a SAM 2.1 or a SAM as configured."""
    fill = fill_sam2 if model.config.backbone == "sam2" else fill_sam
    fill(model.get_submodule("sam"), paths[0])


def _siglip(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill ``model.siglip`` and set the tokenizer."""
    fill_siglip(model.get_submodule("siglip"), paths[0])
    model.read_tokenizer(paths[1])


FOUNDATION_FILLERS = {"sam": _sam, "siglip": _siglip}
