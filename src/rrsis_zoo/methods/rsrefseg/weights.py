"""How released weights map to RSRefSeg: its foundation models', and the authors' own checkpoints."""

from __future__ import annotations

from pathlib import Path

from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.weights.foundations import fill_sam, fill_siglip
from rrsis_zoo.weights.names import SAM_TO_TRANSFORMERS, Rules, rename

# transformers' SAM -> the prefixes of RSRefSeg's checkpoints (docs/methods/rsrefseg.md §9)
_OFFICIAL: Rules = (
    (r"^vision_encoder\.", "backbone.base_model.model.model."),
    (r"^shared_image_embedding\.", "backbone.base_model.model.shared_image_embedding."),
    (r"^prompt_encoder\.", "sam_prompt_encoder.model."),
    (r"^mask_decoder\.", "sam_mask_decoder.model."),
    (r"^siglip\.vision_model\.", "clip_vision_encoder.base_model.model.model."),
    (r"^siglip\.text_model\.", "clip_text_encoder.base_model.model.model."),
    (r"^siglip\.(logit_scale|logit_bias)$", r"clip_text_encoder.base_model.model.\1"),
    (r"^prompter\.(down_channel|down_spatial)\.", r"prompter_\1."),
)


def official_name(name: str) -> str:
    """Return the name of one of RSRefSeg's tensors in the authors' checkpoints."""
    return rename(rename(name.removeprefix("sam."), SAM_TO_TRANSFORMERS), _OFFICIAL)


def _sam(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill ``model.sam``."""
    fill_sam(model.get_submodule("sam"), paths[0])


def _siglip(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill ``model.siglip`` and set the tokenizer."""
    fill_siglip(model.get_submodule("siglip"), paths[0])
    model.read_tokenizer(paths[1])


FOUNDATION_FILLERS = {"sam": _sam, "siglip": _siglip}
