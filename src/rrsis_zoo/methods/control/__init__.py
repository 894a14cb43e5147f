"""The control: card and classes, which are imported on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rrsis_zoo.methods.control.card import CARD
from rrsis_zoo.methods.method import Method

if TYPE_CHECKING:
    from rrsis_zoo.methods.control.model import Control
    from rrsis_zoo.methods.control.module import ControlModule


def _model() -> type[Control]:
    from rrsis_zoo.methods.control.model import Control

    return Control


def _module() -> type[ControlModule]:
    from rrsis_zoo.methods.control.module import ControlModule

    return ControlModule


METHOD = Method(CARD, model=_model, module=_module)
