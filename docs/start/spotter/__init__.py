"""Spotter: the mean of the words weighs the channels of a small convolutional network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rrsis_zoo.methods.method import Method
from spotter.card import CARD

if TYPE_CHECKING:
    from spotter.model import Spotter
    from spotter.module import SpotterModule


def _model() -> type[Spotter]:
    from spotter.model import Spotter  # torch is imported when it is asked for

    return Spotter


def _module() -> type[SpotterModule]:
    from spotter.module import SpotterModule

    return SpotterModule


METHOD = Method(CARD, model=_model, module=_module)
