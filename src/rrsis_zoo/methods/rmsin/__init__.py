"""RMSIN: card and classes, which are imported on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rrsis_zoo.methods.method import Method
from rrsis_zoo.methods.rmsin.card import CARD

if TYPE_CHECKING:
    from rrsis_zoo.methods.rmsin.model import RMSIN
    from rrsis_zoo.methods.rmsin.module import RMSINModule


def _model() -> type[RMSIN]:
    from rrsis_zoo.methods.rmsin.model import RMSIN

    return RMSIN


def _module() -> type[RMSINModule]:
    from rrsis_zoo.methods.rmsin.module import RMSINModule

    return RMSINModule


METHOD = Method(CARD, model=_model, module=_module)
