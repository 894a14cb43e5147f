"""What can be refused of a training command within a moment, before torch is imported."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rrsis_zoo.commands.given_settings import CONFIG_OPTIONS, GivenSettings, Source, given_settings
from rrsis_zoo.commands.setting_names import TOP, names_in
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.registry import list_models, methods
from rrsis_zoo.training.config_files import guard_configs
from rrsis_zoo.training.shipped_configs import shipped_names, with_shipped

_HELP = {"--help", "-h"}
_OURS = re.compile(r"rrsis_zoo\.(?:methods|training)\.(\w+)\.")
_MODEL = frozenset(("class_path", "init_args", "dict_kwargs"))


def check_early(command: str, words: Sequence[str]) -> None:
    """Refuse a misspelt setting, an unknown preset, and a command line that names no method.

    What is not certain here is left to the parser.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        words: its arguments.

    Raises:
        ConfigError: such a command line; the message has the nearest name, or the command to give instead. Or a
            configuration that must not be read, see `guard_configs`.
    """
    if not _HELP.isdisjoint(words):
        return
    files = with_shipped(words)[0]
    guard_configs(files)
    given = given_settings(files)
    for source in given.sources:
        _check_names(source, given.class_path, command)
    _check_preset(given)
    if not any(option in ("--resume", "--print_config") for option in given.options):
        _check_method(command, words, given)


# -- names -------------------------------------------------------------------------------------------------------------


def _check_names(source: Source, class_path: str | None, command: str) -> None:
    for name, inner in source.values.items():
        if name not in TOP:
            raise _unknown(source, "", name, TOP, command)
        if not isinstance(inner, Mapping):
            continue
        if name == "model":
            _check_model(source, inner, class_path, command)
        else:
            _check_section(source, name, inner, command)


def _check_model(source: Source, model: Mapping[str, Any], class_path: str | None, command: str) -> None:
    if class_path is None or not _OURS.match(class_path):
        return  # another class may take anything
    arguments = names_in("model.init_args") or frozenset()
    for name in model:
        short = source.option and name in arguments  # --model.preset is --model.init_args.preset
        if name not in _MODEL and not short and not name.startswith("help"):
            known = _MODEL | arguments if source.option else _MODEL
            raise _unknown(source, "model.", name, known, command)
    if isinstance(inner := model.get("init_args"), Mapping):
        _check_section(source, "model.init_args", inner, command)


def _check_section(source: Source, section: str, values: Mapping[str, Any], command: str) -> None:
    known = names_in(section)
    if known is None:
        return
    for name in values:
        plain = str(name).removesuffix("+")
        if plain not in known and not (source.option and plain == "help"):
            raise _unknown(source, f"{section}.", plain, known, command)


def _unknown(source: Source, section: str, name: Any, known: Iterable[str], command: str) -> ConfigError:
    close = get_close_matches(str(name), sorted(known), n=1)
    if source.option:
        near = f"did you mean --{section}{close[0]}?" if close else f"rrsis {command} --help lists the options"
        return ConfigError(f"unknown option --{section}{name}: {near}")
    near = f"did you mean {section}{close[0]}?" if close else f"rrsis {command} --help lists the settings"
    return ConfigError(f"{source.name}: unknown setting {section}{name}: {near}")


def _check_preset(given: GivenSettings) -> None:
    match = _OURS.match(given.class_path or "")
    preset = next((s.init_args["preset"] for s in reversed(given.sources) if "preset" in s.init_args), None)
    if match and isinstance(preset, str) and match[1] in methods():
        methods()[match[1]].card.preset_named(preset)


# -- a method ----------------------------------------------------------------------------------------------------------


def _check_method(command: str, words: Sequence[str], given: GivenSettings) -> None:
    configs = [source for source in given.sources if not source.option]
    if command != "fit" and (given.others or (not configs and "--ckpt_path" in given.options)):
        return  # a checkpoint knows its method
    if not given.class_path and not configs:
        if not given.others:
            raise _nothing_given(command)
        _check_forgotten_option(command, words, given)
        return
    classes = [i for i, source in enumerate(given.sources) if source.class_path]
    parts = [i for i, source in enumerate(given.sources) if source.init_args]
    if classes and not (parts and parts[0] < classes[0]):
        return
    if not classes and given.others:
        return
    part = given.sources[parts[0]] if parts else configs[0]
    raise ConfigError(
        f"{part.name} {'changes settings of a method' if parts else 'names no method'}: give the method's "
        f"configuration first: {_with_method_first(command, words)}"
    )


def _nothing_given(command: str) -> ConfigError:
    if command != "fit":
        return ConfigError(
            f"rrsis {command} needs a model: `rrsis {command} CHECKPOINT` (or a run's folder), or a --config with "
            "--ckpt_path"
        )
    names = ", ".join(name for name in shipped_names() if not name.startswith("overlays/"))
    return ConfigError(
        f"rrsis {command} needs a configuration, for instance: rrsis {command} --config rsrefseg --data.root ROOT; "
        f"known: {names}, or a file"
    )


def _check_forgotten_option(command: str, words: Sequence[str], given: GivenSettings) -> None:
    """Refuse configurations without their option; other words are left to the parser."""
    known = shipped_names()
    if any(word in known or word.endswith((".yaml", ".yml")) for word in given.others):
        meant = [f"--config {shlex.quote(word)}" if word in given.others else shlex.quote(word) for word in words]
        raise ConfigError(f"a configuration is given with --config: {' '.join(['rrsis', command, *meant])}")


def _with_method_first(command: str, words: Sequence[str]) -> str:
    """Return the command with the configuration of the method that an overlay is for."""
    parts = [part for word in words for part in _split(word)]
    pairs = list(zip(["", *parts], parts, strict=False))
    configs = [word for before, word in pairs if before in CONFIG_OPTIONS]
    rest = [word for before, word in pairs if before not in CONFIG_OPTIONS and word not in CONFIG_OPTIONS]
    whole = [value for value in configs if Path(value).stem in list_models()] or [_method_of(configs)]
    ordered = [*whole, *(value for value in configs if value not in whole)]
    return shlex.join(["rrsis", command, *(part for value in ordered for part in ("--config", value)), *rest])


def _split(word: str) -> list[str]:
    option, equals, value = word.partition("=")
    return [option, value] if option in CONFIG_OPTIONS and equals else [word]


def _method_of(overlays: Sequence[str]) -> str:
    """Return the configuration of the method that overlays are named after: beside them, or the shipped one."""
    for value in overlays:
        path = Path(value)
        names = [name for name in list_models() if path.stem.startswith(f"{name}_")]
        if names:
            beside = path.parent.parent / f"{names[0]}.yaml"
            return str(beside) if path.suffix and beside.is_file() else names[0]
    return "METHOD"
