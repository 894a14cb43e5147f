"""``--plugin``: methods of the user's own, on any command line."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Sequence
from typing import Any

from rrsis_zoo.commands.given_settings import given_settings
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.plugins import load_plugin

OPTION = "--plugin"
HELP = "also know the methods of this Python file, package folder or module; may be repeated"


def add_plugin(parser: argparse.ArgumentParser) -> None:
    """Add ``--plugin`` to a command; plug-ins are loaded while the arguments are parsed."""
    parser.add_argument(OPTION, action=_Load, metavar="FILE", help=HELP)


class _Load(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        load_plugin(values)


def with_plugins(words: Sequence[str], safe: bool = False) -> list[str]:
    """Load the plug-ins of a training command; those of the command line replace those of its configurations.

    Args:
        words: of the command, with files for configurations.
        safe: whether only the command line itself may name plug-ins.

    Returns:
        The words, with all plug-ins of the command line in one option, as the parser expects them.

    Raises:
        ConfigError: a plug-in that cannot be loaded, or one in a configuration although ``safe``.
    """
    names: list[str] = []
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option.removesuffix("+") == OPTION:  # with + it adds to a list
            names += _names(value if equals else next(rest, ""), OPTION)
        else:
            kept.append(word)
    for name in names or _configured(kept, safe):
        load_plugin(name)
    return [*kept, f"{OPTION}={json.dumps(list(dict.fromkeys(names)))}"] if names else kept


def _configured(words: Sequence[str], safe: bool) -> list[str]:
    """Return the plug-ins of the last configuration that names some."""
    sources = [source for source in given_settings(words).sources if source.values.get("plugin")]
    if sources and safe:
        raise ConfigError(
            f"{sources[-1].name} names a plug-in, which is code: with --safe it must be on the command line, {OPTION} "
            f"{' '.join(_names(sources[-1].values['plugin'], 'plugin'))}"
        )
    return _names(sources[-1].values["plugin"], f"plugin in {sources[-1].name}") if sources else []


def _names(value: Any, what: str) -> list[str]:
    if isinstance(value, str) and value.startswith("["):
        with contextlib.suppress(json.JSONDecodeError):
            value = json.loads(value)
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names) or not names:
        raise ConfigError(f"{what} must be a Python file, a package's folder or a module, or a list of them")
    if any(name.startswith("--") for name in names):
        raise ConfigError(f"{what} has no value: give a Python file, a package's folder or a module")
    return names
