"""How released weights map to LAVT: Swin's and BERT's, and the authors' own checkpoints."""

from __future__ import annotations

import re
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.weights.files import read_state_dict
from rrsis_zoo.weights.load import fill_module
from rrsis_zoo.weights.names import Rules, rename

_STAGE = r"^backbone\.stages\.(\d)\."
OFFICIAL: Rules = (
    *(
        (rf"{_STAGE}fusion\.{own}\.", rf"backbone.layers.\1.fusion.{official}.")
        for own, official in (
            ("query", "image_lang_att.f_query.0"),
            ("key", "image_lang_att.f_key.0"),
            ("value", "image_lang_att.f_value.0"),
            ("said", "image_lang_att.W.0"),
            ("own", "vis_project.0"),
            ("joint", "project_mm.0"),
        )
    ),
    (rf"{_STAGE}gate\.", r"backbone.layers.\1.res_gate."),
    (rf"{_STAGE}merging\.", r"backbone.layers.\1.downsample."),
    (_STAGE, r"backbone.layers.\1."),
    (r"^backbone\.norms\.(\d)\.", r"backbone.norm\1."),
    *((rf"^decoder\.steps\.{i}\.(\w+)\.", rf"classifier.\1_{4 - i}.") for i in range(3)),
    (r"^decoder\.head\.", "classifier.conv1_1."),
)
"""Ours -> the authors' checkpoints; Swin's blocks and BERT keep their released names."""


def official_name(name: str) -> str:
    """Return the name of one of LAVT's tensors in the authors' checkpoints."""
    return rename(name, OFFICIAL)


_UNUSED = {
    "*.relative_position_index": "computed, not learned",
    "*.attn_mask": "computed, not learned",
    "norm.*": "only the classifier reads it",
    "head.*": "only the classifier reads it",
}
_NEW = ("*.fusion.*", "*.gate.*", "norms.*", "cross.*", "*.position_weights.*", "*.visual_gate.*")
"""What the methods add to Swin."""


def _swin(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill the trunk from Microsoft's file, or from timm's version of it."""
    backbone = model.get_submodule("backbone")

    def read() -> dict[str, Tensor]:
        state = read_state_dict(paths[0])
        if any(name.startswith("layers.3.downsample.") for name in state):  # timm merges at the start of a stage
            state = {re.sub(r"^layers\.(\d)\.downsample", _one_less, name): t for name, t in state.items()}
        return {name: _resized(name, tensor, backbone) for name, tensor in state.items()}

    fill_module(
        backbone, read, what=f"Swin from {paths[0]}", rename=_swin_name, may_be_missing=_NEW, ignore=_UNUSED
    )  # fmt: skip


def _one_less(found: re.Match[str]) -> str:
    return f"layers.{int(found[1]) - 1}.downsample"


def _swin_name(name: str) -> str:
    return re.sub(r"^layers\.(\d)\.", r"stages.\1.", name).replace(".downsample.", ".merging.")


def _resized(name: str, tensor: Tensor, backbone: nn.Module) -> Tensor:
    """Return a table of relative positions at the trunk's window, bicubically resized if the file has another."""
    if not name.endswith(".relative_position_bias_table"):
        return tensor
    place = dict(backbone.named_parameters()).get(_swin_name(name))
    if place is None or place.shape[0] == tensor.shape[0]:
        return tensor
    old, new = (round(rows**0.5) for rows in (tensor.shape[0], place.shape[0]))
    maps = tensor.T.reshape(1, -1, old, old)
    return F.interpolate(maps, (new, new), mode="bicubic", align_corners=False).flatten(2)[0].T.contiguous()


_PRETRAINING = {
    "cls.*": "only pretraining reads it",
    "*pooler.*": "LAVT reads the words",
    "*.position_ids": "computed, not learned",
}


def _bert(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill BERT from Google's release in transformers' form, and set the tokenizer."""

    def name_here(name: str) -> str:
        name = name.removeprefix("bert.")
        return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")

    fill_module(
        model.get_submodule("text_encoder"),
        lambda: read_state_dict(paths[0]),
        what=f"BERT from {paths[0]}",
        rename=name_here,
        ignore=_PRETRAINING,
    )
    model.read_tokenizer(paths[1])


FOUNDATION_FILLERS = {"swin": _swin, "bert": _bert}
