"""The settings that a command line gives, in order: of every configuration, then of the options. No torch.

The parser, which needs torch, merges them all. What was given where is only known before that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rrsis_zoo.errors import RRSISError
from rrsis_zoo.yaml_files import check_yaml, read_yaml

CONFIG_OPTIONS = ("--config", "-c")
FLAGS = frozenset(
    {"--untrained", "--safe", "--profile", "--with-targets", "--with_targets", "--print_config", "--help", "-h"}
)
"""Options without a value, or with one after ``=`` only."""

SECTIONS = ("model", "data", "trainer")
"""Settings that may be the name of a file with their content."""


@dataclass(frozen=True)
class Source:
    """Settings from one place.

    Attributes:
        name: the configuration's, or the option as written.
        values: nested as in a configuration; values of options are strings or parsed YAML.
        option: whether it is an option, not a configuration.
    """

    name: str
    values: Mapping[str, Any]
    option: bool = False

    @property
    def init_args(self) -> Mapping[str, Any]:
        """Return the arguments of the model's class, in the short form ``model.NAME`` too."""
        model = self.values.get("model")
        if not isinstance(model, Mapping):
            return {}
        inner = model.get("init_args")
        short = {name: value for name, value in model.items() if name not in ("class_path", "init_args")}
        return {**(short if self.option else {}), **(inner if isinstance(inner, Mapping) else {})}

    @property
    def class_path(self) -> str | None:
        """Return the model's class; None if this source does not name it."""
        model = self.values.get("model")
        found = model.get("class_path") if isinstance(model, Mapping) else model
        return found if isinstance(found, str) and found else None


@dataclass
class GivenSettings:
    """A command line.

    Attributes:
        sources: in the order in which they apply.
        others: words that belong to no option.
        options: names of the options, as written without their value.
    """

    sources: list[Source] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)

    @property
    def class_path(self) -> str | None:
        """Return the model's class: the last one given."""
        return next((s.class_path for s in reversed(self.sources) if s.class_path), None)


def given_settings(words: Sequence[str]) -> GivenSettings:
    """Read the options of a command and the configurations that they name.

    Args:
        words: without the command's name.

    Returns:
        What can be read; configurations that cannot are left out, the parser reports them.
    """
    given = GivenSettings()
    options: list[Source] = []
    for option, value in _pairs(words, given.others):
        given.options.append(option)
        if option in CONFIG_OPTIONS:
            given.sources += _configuration(value)
        elif option.startswith("--"):
            path = option.removeprefix("--").split(".")
            inner: Any = _value(path, value)
            for name in reversed(path):
                inner = {name.removesuffix("+"): inner}
            options.append(Source(option, inner, option=True))
    given.sources += options
    return given


def _pairs(words: Sequence[str], others: list[str]) -> Iterator[tuple[str, str]]:
    """Yield options with their values; words that are neither are appended to ``others``."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if not word.startswith("-") or word == "-":
            others.append(word)
        elif equals or option in FLAGS:
            yield option, value
        elif rest and not rest[0].startswith("--"):
            yield option, rest.pop(0)
        else:
            yield option, ""


def _configuration(value: str) -> list[Source]:
    content = _yaml_file(Path(value)) if _is_file(value) else _yaml(value)
    if not isinstance(content, Mapping):
        return []
    folder = Path(value).parent
    values = {str(name).removesuffix("+"): inner for name, inner in content.items()}
    for name in SECTIONS:
        section = values.get(name)
        if isinstance(section, str) and _is_file(folder / section):
            values[name] = _yaml_file(folder / section)
    return [Source(value, values)]


def _value(path: Sequence[str], value: str) -> Any:
    if len(path) == 1 and path[0] in SECTIONS and value.endswith((".yaml", ".yml")) and _is_file(value):
        return _yaml_file(Path(value))
    return _yaml(value)


def _yaml_file(path: Path) -> Any:
    try:
        return read_yaml(path)
    except RRSISError:  # reported by the check of all configurations, which follows
        return None


def _yaml(text: str) -> Any:
    """Return a value as YAML; the text itself if it is none."""
    import yaml

    try:
        check_yaml(text, "a value")
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError, RRSISError):
        return text


def _is_file(value: str | Path) -> bool:
    try:
        return os.path.isfile(value)
    except (OSError, ValueError):  # not a possible file name
        return False
