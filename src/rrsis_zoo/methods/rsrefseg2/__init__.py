"""RSRefSeg 2: card and classes, which are imported on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rrsis_zoo.methods.method import Method
from rrsis_zoo.methods.rsrefseg2.card import CARD

if TYPE_CHECKING:
    from rrsis_zoo.methods.rsrefseg2.model import RSRefSeg2
    from rrsis_zoo.methods.rsrefseg2.module import RSRefSeg2Module


def _model() -> type[RSRefSeg2]:
    from rrsis_zoo.methods.rsrefseg2.model import RSRefSeg2

    return RSRefSeg2


def _module() -> type[RSRefSeg2Module]:
    from rrsis_zoo.methods.rsrefseg2.module import RSRefSeg2Module

    return RSRefSeg2Module


METHOD = Method(CARD, model=_model, module=_module)
