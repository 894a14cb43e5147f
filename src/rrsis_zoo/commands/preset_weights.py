"""Weights follow the preset: those of its card are used unless the user gives others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rrsis_zoo.commands.given_settings import given_settings
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.registry import method_at
from rrsis_zoo.models.card import MethodCard

_OPTION = "--model.init_args.weights"


def with_preset_weights(words: Sequence[str]) -> tuple[list[str], str | None]:
    """Add the weights of the preset if none are given, or only those of another preset that a config is for.

    Weights given as an option are the user's, and so are those of a config that are not its preset's own. Nothing is
    added beside a checkpoint.

    Args:
        words: of a command, with files for configurations; the plug-ins that they name are loaded.

    Returns:
        The words, and a message if weights of another preset were replaced.
    """
    given = given_settings(words)
    method = method_at(given.class_path) if given.class_path else None
    if method is None or any(source.values.get("ckpt_path") for source in given.sources):
        return list(words), None  # a checkpoint has its own weights
    preset: Any = None
    weights: Any = None
    of: Any = None  # the preset that was in force when weights were given
    stated = False
    roles: dict[str, Any] = {}  # given one by one, as options
    for source in given.sources:
        preset = source.init_args.get("preset", preset)
        if "weights" in source.init_args and source.option:
            if source.name.endswith(".weights"):
                return list(words), None
            roles |= source.init_args["weights"]
        elif "weights" in source.init_args:
            weights, of, stated = source.init_args["weights"], preset, True
    presets = method.card.presets
    if preset not in presets or (stated and (preset == of or not _are_own(method.card, of, weights))):
        return list(words), None
    own = dict(presets[preset].weights)
    if (own or None) == (weights or None):
        return list(words), None
    sources = ", ".join(f"{role} {source}" for role, source in (own | roles).items())
    note = f"weights follow preset {preset!r}: {sources or 'none, it starts from random ones'}"
    return [*words, f"{_OPTION}={json.dumps((own | roles) or None)}"], note


def check_sizes(card: MethodCard, preset: str, weights: Mapping[str, str]) -> None:
    """Refuse a foundation model that belongs to another preset only.

    Raises:
        ConfigError: such a source; the message has the preset's own.
    """
    own = card.presets[preset].weights if preset in card.presets else weights
    for role, source in weights.items():
        others = [name for name, other in card.presets.items() if other.weights.get(role) == source]
        if others and preset not in others:
            mend = own.get(role, "none")
            raise ConfigError(
                f"{card.name}, preset {preset!r}: weights.{role} {source} is what preset {others[0]!r} starts from and "
                f"has other sizes; leave the weights out, or give {_OPTION}.{role} {mend}"
            )


def _are_own(card: MethodCard, preset: Any, weights: Any) -> bool:
    """Return whether weights are those that a preset's card names."""
    if preset not in card.presets or isinstance(weights, str):
        return False
    return dict(weights or {}) == dict(card.presets[preset].weights)
