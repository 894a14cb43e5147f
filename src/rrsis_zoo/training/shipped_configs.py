"""Names of the configurations shipped with the package: ``rrsis fit --config rs2sam2`` works in any folder."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from rrsis_zoo.errors import unknown_name

_OPTION = "--config"
_FOLDER = "configs/"
_NAME = re.compile(r"\w[\w-]*(/[\w-]+)*")
"""Form of a name: a file has a suffix, and the text of a configuration has a colon."""


def shipped_folder() -> Path:
    """Return the folder of the configurations: in an installed package, or next to its source in a clone."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if os.path.isdir(inside) else package.parents[1] / "configs"


def shipped_names() -> list[str]:
    """Return the names that ``--config`` takes, such as ``rs2sam2`` and ``overlays/rs2sam2_tiny``."""
    folder = shipped_folder()
    files = [*folder.glob("*.yaml"), *folder.glob("overlays/*.yaml")]
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in files)


def with_shipped(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Replace the names of shipped configurations, and paths that only exist in a clone, by the shipped files.

    An existing file is left unchanged.

    Args:
        arguments: of a command, with any number of ``--config VALUE`` or ``--config=VALUE``.

    Returns:
        The arguments, and a message for each path that was replaced.

    Raises:
        ConfigError: no shipped configuration has this name.
    """
    words: list[str] = []
    notes: list[str] = []
    is_value = False
    for word in arguments:
        option, equals, inline = word.partition("=")
        if is_value:
            words.append(_file(word, notes))
        elif option == _OPTION and equals:
            words.append(f"{option}={_file(inline, notes)}")
        else:
            words.append(word)
        is_value = not is_value and word == _OPTION
    return words, notes


def _file(value: str, notes: list[str]) -> str:
    """Return the file for a value of ``--config``; the value itself if it is left to the parser."""
    if _exists(value):
        return value
    if value.startswith(_FOLDER) and value.endswith(".yaml"):
        name = value.removeprefix(_FOLDER).removesuffix(".yaml")
        if name in shipped_names():
            path = shipped_folder() / f"{name}.yaml"
            notes.append(f"{value} does not exist here: the one shipped with rrsis-zoo is used, {path}")
            return str(path)
        return value
    if not _NAME.fullmatch(value):
        return value
    names = shipped_names()
    if value not in names:
        raise unknown_name("configuration", value, names)
    return str(shipped_folder() / f"{value}.yaml")


def _exists(value: str) -> bool:
    """Return whether a value is a path that can be read, and not a folder."""
    try:
        path = Path(value)
        return os.path.exists(path) and not os.path.isdir(path)
    except (OSError, ValueError):  # not a possible file name
        return False
