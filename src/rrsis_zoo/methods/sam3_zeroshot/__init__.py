"""Zero-shot SAM 3: card and classes, which are imported on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rrsis_zoo.methods.method import Method
from rrsis_zoo.methods.sam3_zeroshot.card import CARD

if TYPE_CHECKING:
    from rrsis_zoo.methods.sam3_zeroshot.model import SAM3ZeroShot
    from rrsis_zoo.methods.sam3_zeroshot.module import SAM3ZeroShotModule


def _model() -> type[SAM3ZeroShot]:
    from rrsis_zoo.methods.sam3_zeroshot.model import SAM3ZeroShot

    return SAM3ZeroShot


def _module() -> type[SAM3ZeroShotModule]:
    from rrsis_zoo.methods.sam3_zeroshot.module import SAM3ZeroShotModule

    return SAM3ZeroShotModule


METHOD = Method(CARD, model=_model, module=_module)
