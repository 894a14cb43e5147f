"""The configurations that come with the package, by name: ``rrsis fit --config rs2sam2`` from any folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rrsis_zoo.errors import unknown_name

_OPTION = "--config"
_FOLDER = "configs/"
_NAME = re.compile(r"\w[\w-]*(/[\w-]+)*")
"""What may be a name: a file has a suffix, and the text of a configuration has a colon."""


def shipped_folder() -> Path:
    """Return where the configurations lie: in an installed package, or beside its source in a clone."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parents[1] / "configs"


def shipped_names() -> list[str]:
    """Return the names that ``--config`` takes, such as ``rs2sam2`` and ``overlays/rs2sam2_tiny``."""
    folder = shipped_folder()
    files = [*folder.glob("*.yaml"), *folder.glob("overlays/*.yaml")]
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in files)


def with_shipped(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Replace the names of shipped configurations by their files, and paths that only a clone has by the shipped ones.

    A file that exists is taken as it is.

    Args:
        arguments: of a command, with any number of ``--config VALUE`` or ``--config=VALUE``.

    Returns:
        The arguments, and a line for each path that was not there.

    Raises:
        ConfigError: a name that no shipped configuration has.
    """
    words: list[str] = []
    notes: list[str] = []
    is_value = False
    for word in arguments:
        option, equals, value = word.partition("=")
        if is_value:
            words.append(_file(word, notes))
        elif option == _OPTION and equals:
            words.append(f"{option}={_file(value, notes)}")
        else:
            words.append(word)
        is_value = not is_value and word == _OPTION
    return words, notes


def _file(given: str, notes: list[str]) -> str:
    """Return the file that a value of ``--config`` stands for; the value itself where that is the parser's matter."""
    if _exists(given):
        return given
    if given.startswith(_FOLDER) and given.endswith(".yaml"):
        name = given.removeprefix(_FOLDER).removesuffix(".yaml")
        if name in shipped_names():
            path = shipped_folder() / f"{name}.yaml"
            notes.append(f"{given} is not in this folder: the one that comes with rrsis-zoo is taken, {path}")
            return str(path)
        return given
    if not _NAME.fullmatch(given):
        return given
    names = shipped_names()
    if given not in names:
        raise unknown_name("configuration", given, names)
    return str(shipped_folder() / f"{given}.yaml")


def _exists(given: str) -> bool:
    """Tell whether a value is a file, or another thing that can be read; a folder that is called so is none."""
    try:
        path = Path(given)
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):  # a text that no file can be called
        return False
