"""Configurations of the command line: those that would expand to too much are refused before they are parsed.

A configuration may name others for its sections, and its strings are parsed as YAML again if a setting is not a string.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.files import read_text
from rrsis_zoo.yaml_files import YAML_LIMIT, check_yaml

_SECTIONS = ("--config", "--model", "--data", "--trainer")
_HARMLESS = 100
"""Length in characters up to which a text is not checked: too short to expand to much."""

_load = get_loader("yaml")


def guard_configs(arguments: Sequence[str] = ()) -> None:
    """Check the configurations that a command names, and its arguments; all others are checked when they are loaded.

    Args:
        arguments: of a command.

    Raises:
        ConfigError: a configuration, or one that it names, is not UTF-8 text or larger than `check_yaml` allows.
    """
    set_loader("yaml", _checked, (yaml.YAMLError,))
    seen: set[Path] = set()
    for word, after in zip(arguments, [*arguments, ""][1:], strict=True):
        option, _, value = word.partition("=") if word.startswith("--") else ("an argument", "", word)
        if option in _SECTIONS:
            _check_file(Path(value or after), seen)
        _check_text(value, f"the value of {option}")


def _checked(stream: str) -> Any:
    """Load a text like jsonargparse, but check it and the strings in it."""
    _check_text(stream, "a configuration")
    try:
        value = _load(stream)
    except ValueError as cause:  # a number with more digits than Python converts
        raise ConfigError(f"a configuration cannot be read ({cause})") from cause
    for text in _texts(value):
        _check_text(text, "a value in a configuration")
    return value


def _check_file(path: Path, seen: set[Path]) -> None:
    """Check a configuration file and those that it names; a missing file is left to the parser."""
    try:
        if not os.path.isfile(path) or path in seen:
            return
    except (OSError, ValueError):  # not a possible file name
        return
    seen.add(path)
    text = read_text(path, YAML_LIMIT, ConfigError)
    check_yaml(text, str(path))
    try:
        value = _load(text)
    except yaml.YAMLError:  # reported by the parser
        return
    except ValueError as cause:
        raise ConfigError(f"{path} cannot be read ({cause})") from cause
    for inner in _texts(value):
        _check_text(inner, f"a value in {path}")
        if inner.endswith((".yaml", ".yml")):
            _check_file(path.parent / inner, seen)


def _check_text(text: str, what: str) -> None:
    if len(text) > _HARMLESS:
        check_yaml(text, what)


def _texts(value: Any) -> Iterable[str]:
    """Yield the strings in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
