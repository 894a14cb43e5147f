"""How released weights are loaded: Meta's or transformers' SAM 2.1, and the folder of a chat model."""

from __future__ import annotations

from pathlib import Path

from rrsis_zoo.methods.think2seg.writers import DIALECTS, ChatWriter
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.weights.foundations import fill_sam2


def _sam(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill ``model.sam``."""
    fill_sam2(model.get_submodule("sam"), paths[0])


def _writer(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Load the language model of the folder that holds the files; a scripted writer stays."""
    config = model.config
    if config.writer == "chat":
        model.writer = ChatWriter(paths[0].parent, DIALECTS[config.dialect], config.max_new_tokens)  # type: ignore[assignment]


FOUNDATION_FILLERS = {"sam": _sam, "writer": _writer}
