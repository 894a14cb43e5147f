"""Public names of the methods. Imports no torch."""

from __future__ import annotations

from rrsis_zoo.cards import control, evisam3, rs2sam2, rsrefseg, rsrefseg2
from rrsis_zoo.cards.card import ModelCard
from rrsis_zoo.errors import unknown_name

MODELS: dict[str, ModelCard] = {
    card.name: card for card in (rsrefseg.CARD, rs2sam2.CARD, rsrefseg2.CARD, evisam3.CARD, control.CARD)
}


def list_models() -> list[str]:
    """Return the public names of all methods.

    Example:
        >>> list_models()
        ['rsrefseg', 'rs2sam2', 'rsrefseg2', 'evisam3', 'control']
    """
    return list(MODELS)


def card(name: str) -> ModelCard:
    """Return a method's card.

    Raises:
        ConfigError: no method of that name.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return MODELS[name]
