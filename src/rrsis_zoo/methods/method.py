"""The registry's entry for a method: its card, and functions that return its classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rrsis_zoo.models.card import MethodCard

if TYPE_CHECKING:
    from rrsis_zoo.models.base import ReferringSegmenter
    from rrsis_zoo.training.module import RRSISModule


@dataclass(frozen=True)
class Method:
    """A method of the zoo.

    Attributes:
        card: the facts about it.
        model: returns the torch class; importing it takes seconds, so listing the methods does not do it.
        module: returns the LightningModule class.
    """

    card: MethodCard
    model: Callable[[], type[ReferringSegmenter]]
    module: Callable[[], type[RRSISModule]]

    def __repr__(self) -> str:
        return f"Method({self.name!r})"

    @property
    def name(self) -> str:
        """Public name."""
        return self.card.name

    @property
    def class_path(self) -> str:
        """The LightningModule's import path, as used in configs."""
        kind = self.module()
        return f"{kind.__module__}.{kind.__qualname__}"
