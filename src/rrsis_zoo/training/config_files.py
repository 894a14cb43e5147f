"""Configurations of the command line: what stands for too much is refused before the parser makes anything of it.

A configuration may name others for its sections; and its strings are read as YAML again where a setting is no string.
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
"""Characters that a text may have without being looked at: too few to stand for much."""

_load = get_loader("yaml")


def guard_configs(arguments: Sequence[str] = ()) -> None:
    """Check the configurations that a command names, and its arguments; have all others checked as they are loaded.

    Args:
        arguments: of a command.

    Raises:
        ConfigError: a configuration, or one that it names, is no UTF-8 text or larger than `check_yaml` allows.
    """
    set_loader("yaml", _checked, (yaml.YAMLError,))
    seen: set[Path] = set()
    for word, after in zip(arguments, [*arguments, ""][1:], strict=True):
        option, _, value = word.partition("=") if word.startswith("--") else ("an argument", "", word)
        if option in _SECTIONS:
            _check_file(Path(value or after), seen)
        _check_text(value, f"the value of {option}")


def _checked(stream: str) -> Any:
    """Load a text as jsonargparse does, after a look at it and at the strings in it."""
    _check_text(stream, "a configuration")
    try:
        value = _load(stream)
    except ValueError as cause:  # a number of more digits than Python converts
        raise ConfigError(f"a configuration cannot be read ({cause})") from cause
    for text in _texts(value):
        _check_text(text, "a value in a configuration")
    return value


def _check_file(path: Path, seen: set[Path]) -> None:
    """Check a configuration file and those that it names; whether there is one is the parser's matter."""
    try:
        if not os.path.isfile(path) or path in seen:
            return
    except (OSError, ValueError):  # a text that no file can be called
        return
    seen.add(path)
    text = read_text(path, YAML_LIMIT, ConfigError)
    check_yaml(text, str(path))
    try:
        value = _load(text)
    except yaml.YAMLError:  # the parser says so in its own way
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
