"""LAVT: card and classes, which are imported on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rrsis_zoo.methods.lavt.card import CARD
from rrsis_zoo.methods.method import Method

if TYPE_CHECKING:
    from rrsis_zoo.methods.lavt.model import LAVT
    from rrsis_zoo.methods.lavt.module import LAVTModule


def _model() -> type[LAVT]:
    from rrsis_zoo.methods.lavt.model import LAVT

    return LAVT


def _module() -> type[LAVTModule]:
    from rrsis_zoo.methods.lavt.module import LAVTModule

    return LAVTModule


METHOD = Method(CARD, model=_model, module=_module)
