"""RSRefSeg: card and classes, which are imported on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rrsis_zoo.methods.method import Method
from rrsis_zoo.methods.rsrefseg.card import CARD

if TYPE_CHECKING:
    from rrsis_zoo.methods.rsrefseg.model import RSRefSeg
    from rrsis_zoo.methods.rsrefseg.module import RSRefSegModule


def _model() -> type[RSRefSeg]:
    from rrsis_zoo.methods.rsrefseg.model import RSRefSeg

    return RSRefSeg


def _module() -> type[RSRefSegModule]:
    from rrsis_zoo.methods.rsrefseg.module import RSRefSegModule

    return RSRefSegModule


METHOD = Method(CARD, model=_model, module=_module)
