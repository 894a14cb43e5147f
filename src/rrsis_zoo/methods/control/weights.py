"""How a timm backbone's released weights map to the control's."""

from __future__ import annotations

from pathlib import Path

from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.weights.files import read_state_dict
from rrsis_zoo.weights.load import fill_module


def _backbone(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill the levels in use; timm's feature networks have ``stages_0.`` instead of the file's ``stages.0.``."""
    backbone = model.get_submodule("backbone")
    places = backbone.state_dict()

    def rename(name: str) -> str | None:  # the classifier and coarser stages have no place
        return next((n for n in (name, name.replace(".", "_", 1)) if n in places), None)

    fill_module(backbone, lambda: read_state_dict(paths[0]), what=f"the backbone from {paths[0]}", rename=rename)


FOUNDATION_FILLERS = {"backbone": _backbone}
