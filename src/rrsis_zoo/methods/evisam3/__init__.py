"""EviSAM3: card and classes, which are imported on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rrsis_zoo.methods.evisam3.card import CARD
from rrsis_zoo.methods.method import Method

if TYPE_CHECKING:
    from rrsis_zoo.methods.evisam3.model import EviSAM3
    from rrsis_zoo.methods.evisam3.module import EviSAM3Module


def _model() -> type[EviSAM3]:
    from rrsis_zoo.methods.evisam3.model import EviSAM3

    return EviSAM3


def _module() -> type[EviSAM3Module]:
    from rrsis_zoo.methods.evisam3.module import EviSAM3Module

    return EviSAM3Module


METHOD = Method(CARD, model=_model, module=_module)
