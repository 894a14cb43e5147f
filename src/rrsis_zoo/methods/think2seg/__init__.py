"""Think2Seg: card and classes, which are imported on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rrsis_zoo.methods.method import Method
from rrsis_zoo.methods.think2seg.card import CARD

if TYPE_CHECKING:
    from rrsis_zoo.methods.think2seg.model import Think2Seg
    from rrsis_zoo.methods.think2seg.module import Think2SegModule


def _model() -> type[Think2Seg]:
    from rrsis_zoo.methods.think2seg.model import Think2Seg

    return Think2Seg


def _module() -> type[Think2SegModule]:
    from rrsis_zoo.methods.think2seg.module import Think2SegModule

    return Think2SegModule


METHOD = Method(CARD, model=_model, module=_module)
