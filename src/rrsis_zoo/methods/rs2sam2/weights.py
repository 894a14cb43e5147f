"""How released weights map to RS2-SAM2: its foundation models', and the authors' own checkpoints."""

from __future__ import annotations

from pathlib import Path

from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.weights.foundations import fill_beit3, fill_sam2
from rrsis_zoo.weights.names import Rules, rename

# RS2-SAM2's modules -> its published checkpoints; union encoder and SAM 2 keep their released names
_OFFICIAL: Rules = (
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


def official_name(name: str) -> str:
    """Return the name of one of RS2-SAM2's tensors in the authors' checkpoints."""
    return rename(name, _OFFICIAL)


def _sam(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill ``model.sam``, apart from what the method adds to every block of the trunk."""
    fill_sam2(model.get_submodule("sam"), paths[0], new=("*.fusion.*", "*.adapter.*"))


def _beit3(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill ``model.union`` and set the tokenizer."""
    fill_beit3(model.get_submodule("union"), paths[0])
    model.read_tokenizer(paths[1])


FOUNDATION_FILLERS = {"sam": _sam, "beit3": _beit3}
