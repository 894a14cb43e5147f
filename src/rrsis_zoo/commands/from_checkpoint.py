"""``rrsis test CKPT`` without a configuration: the checkpoint has its own.

A checkpoint says which method with which sizes it is, and which data it was trained on. Both become the first
``--config`` of the command, so that all other configs and options count more.
"""

from __future__ import annotations

import inspect
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrsis_zoo.commands.given_checkpoint import open_checkpoint
from rrsis_zoo.commands.given_settings import FLAGS
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.sources import SOURCES
from rrsis_zoo.errors import ConfigError, MissingDataError, MissingWeightsError, WeightsMismatchError
from rrsis_zoo.files import expanded
from rrsis_zoo.loading import kind_of
from rrsis_zoo.methods.registry import methods
from rrsis_zoo.metrics.protocols import PROTOCOLS
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.configuration import from_plain, to_plain
from rrsis_zoo.pretrained.whole import find_whole
from rrsis_zoo.training.module import RRSISModule
from rrsis_zoo.training.run_folder import best_in
from rrsis_zoo.training.runs import CONFIG
from rrsis_zoo.training.shipped_configs import with_shipped
from rrsis_zoo.weights.checkpoints import Saved
from rrsis_zoo.weights.folders import is_folder, open_folder
from rrsis_zoo.weights.training import Training, checked_training
from rrsis_zoo.yaml_files import read_yaml

_COMMANDS = ("validate", "test", "predict")
_OWN = ("--ckpt_path", "--model.init_args.weights")
_OF_THE_MACHINE = ("batch_size", "eval_batch_size", "num_workers", "pin_memory", "seed")
"""Settings of the data that make sense with any dataset."""


@dataclass(frozen=True)
class Given:
    """The model that a command was given instead of a configuration.

    Attributes:
        name: as the user wrote it.
        dataset: of its training; None if it does not say.
        root: folder of its training's data, as it was written there; None if it is not kept.
    """

    name: str
    dataset: str | None
    root: str | None

    def check_root(self, data: Any) -> None:
        """Refuse the folder of the training's data if it is not on this machine.

        Args:
            data: settings of the command's data.

        Raises:
            MissingDataError: there is no such folder; the message says which option gives it.
        """
        if self.root is None or (data.dataset, data.root) != (self.dataset, self.root):
            return
        path, source = expanded(self.root), SOURCES[data.dataset]
        # scenes are generated in no other place: the file may be a stranger's
        generated = source.make is not None and path == source.default_root
        if not generated and not os.path.lexists(path):
            raise MissingDataError(
                f"{self.name} was trained on data in {self.root} ({data.dataset} layout), which does not exist here: "
                "give their folder with --data.root FOLDER"
            )


def with_checkpoint(arguments: Sequence[str]) -> tuple[list[str], Given | None]:
    """Replace the model given to ``rrsis validate``, ``test`` or ``predict`` by its configuration and weights.

    Args:
        arguments: of a command; ``arguments[0]`` is its name.

    Returns:
        Arguments with the model's configuration first; and the model, None if the arguments name none.

    Raises:
        ConfigError: two models, or one that does not say what data it was trained on, with no other data given.
        MissingDataError, MissingWeightsError: there is no such model.
        WeightsMismatchError: it is damaged, or not a model of ours.
    """
    command, words = arguments[0], list(arguments[1:])
    if command not in _COMMANDS or not {"--help", "-h"}.isdisjoint(words):
        return list(arguments), None
    loose = _loose(words)
    options = {word.partition("=")[0] for word in words if word.startswith("-")}
    if not loose and "--ckpt_path" in options and not any(_configures(name) for name in options):
        return _replaced(command, *_taken(words, "--ckpt_path"))
    if not loose and not any(_configures(name) for name in options):
        raise ConfigError(
            f"rrsis {command} needs a model: `rrsis {command} CHECKPOINT` (or a run's folder), or a --config with "
            "--ckpt_path"
        )
    if not loose:
        return list(arguments), None
    if len(loose) > 1:
        given = ", ".join(words[i] for i in loose)
        raise ConfigError(f"rrsis {command} takes one checkpoint, got {given}; all other settings are --options")
    if twice := sorted(options & set(_OWN)):
        raise ConfigError(
            f"rrsis {command} got {words[loose[0]]} and {twice[0]}: give one of them, they both say what the model is"
        )
    return _replaced(command, words[loose[0]], words[: loose[0]] + words[loose[0] + 1 :])


def _loose(words: Sequence[str]) -> list[int]:
    """Return the places of words that are neither options nor their values."""
    loose, is_value = [], False
    for i, word in enumerate(words):
        if is_value:
            is_value = False
        elif word.startswith("-") and len(word) > 1:
            is_value = "=" not in word and word not in FLAGS
        else:
            loose.append(i)
    return loose


def _configures(option: str) -> bool:
    return option in ("--config", "-c") or option == "--model" or option.startswith("--model.class_path")


def _taken(words: list[str], option: str) -> tuple[str, list[str]]:
    """Return the value of an option, and the other words."""
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == option:
            return (
                (value, words[:i] + words[i + 1 :])
                if equals
                else ("".join(words[i + 1 : i + 2]), words[:i] + words[i + 2 :])
            )
    raise AssertionError(option)


def _replaced(command: str, name: str, words: list[str]) -> tuple[list[str], Given]:
    place, saved, hyper_parameters = _opened(name)
    training = checked_training(saved.training, name)
    kind = kind_of(saved)
    preset, settings = _sizes(kind, saved, hyper_parameters.get("preset"))
    init_args = {"preset": preset, **({"settings": settings} if settings else {}), **_of_training(hyper_parameters)}
    config: dict[str, Any] = {"model": {"class_path": methods()[kind.name].class_path, "init_args": init_args}}
    if training is not None:
        config["trainer"] = {"precision": training.precision}
    given = Given(name, None, None)
    if training is not None and training.settings is not None:
        dataset = training.settings.get("dataset", _default_dataset())
        asked = _asked_dataset(words)
        known = training.settings if asked in (None, dataset) else _only(training.settings, _OF_THE_MACHINE)
        config["data"] = _known(known, name)
        given = Given(name, dataset, known.get("root"))
    _check_data(command, name, place, training, words)
    if os.path.isdir(place):
        return [command, "--config", json.dumps(config), *words, "--model.init_args.weights", f"local:{place}"], given
    return [command, "--config", json.dumps(config), *words, "--ckpt_path", str(place)], given


def _opened(name: str) -> tuple[Path, Saved, Mapping[str, Any]]:
    """Return the place of a model, the model, and the arguments of its LightningModule as far as they are known."""
    if not name.strip():
        raise ConfigError("the checkpoint's path is empty")
    path = find_whole(name) if name.startswith(("local:", "hub:")) else expanded(name)
    if os.path.isdir(path):
        if is_folder(path):
            return path.absolute(), open_folder(path), {}
        path = best_in(path)
    try:
        opened = open_checkpoint(str(path), training=False)
    except (MissingDataError, MissingWeightsError) as error:
        raise MissingDataError(
            f"{error}; give a checkpoint, the folder of a run, or a folder of save_pretrained or rrsis convert"
        ) from error
    return opened.path, opened.saved, opened.hyper_parameters


def _sizes(kind: type[ReferringSegmenter], saved: Saved, preset: Any) -> tuple[str, dict[str, Any]]:
    """Return the preset of a saved model, or the one most like it, and the settings that differ."""
    try:
        config = to_plain(from_plain(kind.configuration_kind(), saved.meta["config"]))
    except ConfigError as error:
        raise WeightsMismatchError(f"{saved.what}: {error}") from error
    names = [preset] if isinstance(preset, str) and preset in kind.presets else list(kind.presets)
    changes = {name: _changes(to_plain(kind.presets[name]), config) for name in names}
    nearest = min(names, key=lambda name: _leaves(changes[name]))
    return nearest, changes[nearest]


def _of_training(hyper_parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the other settings of the training, for the record: of these, only the protocol matters to a test."""
    known = inspect.signature(RRSISModule.__init__).parameters.keys() - {"self", "preset", "settings", "weights"}
    kept = {name: value for name, value in hyper_parameters.items() if name in known and _is_plain(value)}
    if kept.get("protocol") not in PROTOCOLS:
        kept.pop("protocol", None)
    return kept


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(name, str) for name in value) and all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))


def _changes(base: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what changes one configuration into another, nested like them."""
    changes: dict[str, Any] = {}
    for name, value in wanted.items():
        if isinstance(value, Mapping):
            if inner := _changes(base[name], value):
                changes[name] = inner
        elif value != base[name]:
            changes[name] = list(value) if isinstance(value, tuple) else value
    return changes


def _leaves(changes: Mapping[str, Any]) -> int:
    return sum(_leaves(value) if isinstance(value, Mapping) else 1 for value in changes.values())


# -- data --------------------------------------------------------------------------------------------------------------


def _check_data(command: str, name: str, place: Path, training: Training | None, words: Sequence[str]) -> None:
    """Refuse a model that does not say what data it was trained on, or where they are, if the command does not either.

    Raises:
        ConfigError: what to give.
    """
    options = {word.partition("=")[0] for word in words if word.startswith("-")}
    if not options.isdisjoint({"--config", "-c", "--data"}):
        return
    how = f"as in `rrsis {command} {name} --data.dataset rrsis-d --data.root FOLDER`"
    if training is None or training.settings is None:
        if "--data.dataset" in options:
            return
        beside = place.parent.parent / CONFIG
        config = f"`--config {beside}`, its run's" if os.path.isfile(beside) else "the --config of its training"
        raise ConfigError(f"{name} does not say what data it was trained on: give them, {how}, or {config}")
    dataset = training.settings.get("dataset", _default_dataset())
    if os.path.isdir(place) and "--data.root" not in options and _asked_dataset(words) is None:
        raise ConfigError(f"{name} does not keep where its data ({dataset} layout) are: give --data.root FOLDER")


def _known(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the kept settings of the data.

    Raises:
        WeightsMismatchError: one that this version does not have.
    """
    unknown = sorted(settings.keys() - RRSISDataModule.defaults().keys())
    if unknown:
        raise WeightsMismatchError(
            f"{name} was trained with a setting of the data that this version does not know, {', '.join(unknown)}: "
            "update rrsis-zoo"
        )
    return dict(settings)


def _only(settings: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in names}


def _default_dataset() -> str:
    return str(RRSISDataModule.defaults()["dataset"])


def _asked_dataset(words: Sequence[str]) -> str | None:
    """Return the dataset that options and configs ask for; None if they leave it as it is."""
    asked = None
    words, _ = with_shipped(words)
    for i, word in enumerate(words):
        option, equals, value = word.partition("=")
        value = value if equals else words[i + 1] if i + 1 < len(words) else ""
        if option == "--data.dataset":
            asked = value
        elif option in ("--config", "-c") and os.path.isfile(value):
            section = _section(Path(value))
            asked = section.get("dataset", asked)
    return asked


def _section(config: Path) -> Mapping[str, Any]:
    """Return a configuration's section about the data, which may be a file of its own."""
    content = read_yaml(config)
    section = content.get("data") if isinstance(content, Mapping) else None
    if isinstance(section, str) and os.path.isfile(config.parent / section):
        section = read_yaml(config.parent / section)
    return section if isinstance(section, Mapping) else {}
