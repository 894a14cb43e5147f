"""How released weights map to RMSIN: those of LAVT, and what RMSIN adds under its authors' names."""

from __future__ import annotations

from rrsis_zoo.methods.lavt.weights import FOUNDATION_FILLERS, OFFICIAL
from rrsis_zoo.weights.names import Rules, rename

_STAGE = r"^backbone\.stages\.(\d)\."
_CSA = r"^backbone\.cross\.csa(\d)\."
_ADDED: Rules = (
    *(
        (
            rf"{_STAGE}position_weights\.{unit}\.{own}\.",
            rf"backbone.layers.\1.visual_residual.repblock.brb_{official}{suffix}.",
        )
        for unit, suffix in (("first", ""), ("second", "_2"))
        for own, official in (("pointwise", "1x1"), ("spatial", "3x3"), ("identity", "identity"))
    ),
    (rf"{_STAGE}visual_gate\.", r"backbone.layers.\1.visual_gate."),
    *(
        (rf"{_CSA}{own}\.", rf"backbone.cim.block.0.csa\1.m.{official}.")
        for own, official in (
            ("by_two", "DWConv1"),
            ("by_three", "DWConv2"),
            (r"qkv\.linear", "attention.qkv.c"),
            (r"qkv\.bn", "attention.qkv.bn"),
            ("local", "attention.parallel_conv.1"),
            ("positions", "attention.proj"),
            ("out", "attention.to_out"),
            ("bn1", "bn1"),
            ("bn4", "bn4"),
            ("conv", "conv"),
        )
    ),
    *((rf"^backbone\.cross\.intra_ff\.{i}\.", f"backbone.cim.block.0.intra_ff.m.ff{i + 1}.m.") for i in range(4)),
    (r"^backbone\.cross\.ff\.", "backbone.cim.block.0.ff.m."),
    (r"^backbone\.cross\.back\.(\d)\.", r"backbone.cim.fusion.\1."),
    (r"^backbone\.cross\.", "backbone.cim."),
    *(
        (rf"^decoder\.steps\.{i}\.conv2\.router\.{own}", f"classifier.conv2_{4 - i}.rounting_func.{official}")
        for i in range(3)
        for own, official in ((r"norm\.", "norm.norm."), ("", ""))
    ),
)


def official_name(name: str) -> str:
    """Return the name of one of RMSIN's tensors in the authors' checkpoints."""
    return rename(name, (*_ADDED, *OFFICIAL))


__all__ = ["FOUNDATION_FILLERS", "official_name"]
