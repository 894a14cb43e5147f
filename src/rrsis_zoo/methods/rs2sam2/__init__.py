"""RS2-SAM2: card and classes, which are imported on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rrsis_zoo.methods.method import Method
from rrsis_zoo.methods.rs2sam2.card import CARD

if TYPE_CHECKING:
    from rrsis_zoo.methods.rs2sam2.model import RS2SAM2
    from rrsis_zoo.methods.rs2sam2.module import RS2SAM2Module


def _model() -> type[RS2SAM2]:
    from rrsis_zoo.methods.rs2sam2.model import RS2SAM2

    return RS2SAM2


def _module() -> type[RS2SAM2Module]:
    from rrsis_zoo.methods.rs2sam2.module import RS2SAM2Module

    return RS2SAM2Module


METHOD = Method(CARD, model=_model, module=_module)
