"""The checkpoint passed to a command: checked before anything large is built, and compared with the settings.

Lightning's command line takes every setting of the model from a checkpoint's hyper-parameters, regardless of options
and configs, and imports the class that they name. Here the options count; the checkpoint only provides the weights.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrsis_zoo.errors import ConfigError, WeightsMismatchError
from rrsis_zoo.methods.method import Method
from rrsis_zoo.methods.registry import current_class_path, methods
from rrsis_zoo.models.configuration import change, from_plain, to_plain
from rrsis_zoo.training.checkpoint_io import local_path, read
from rrsis_zoo.training.progress import position
from rrsis_zoo.weights.checkpoints import Saved, read_checkpoint

_WORDS = ("best", "last", "hpc", "registry")
_CLASS = "_class_path"
_BUILT_FROM = ("preset", "settings", "weights")
_SHOWN = 4


@dataclass(frozen=True)
class GivenCheckpoint:
    """A checkpoint of ours, without its tensors.

    Attributes:
        path: absolute.
        saved: its model.
        hyper_parameters: the LightningModule's arguments in training; empty if it has none.
    """

    path: Path
    saved: Saved
    hyper_parameters: Mapping[str, Any]

    @property
    def meta(self) -> Mapping[str, Any]:
        """Description of its model, see `rrsis_zoo.weights.description`."""
        return self.saved.meta


def open_checkpoint(value: str, training: bool) -> GivenCheckpoint:
    """Check the file of ``--ckpt_path``. Nothing in it is run or imported.

    Args:
        value: of the option.
        training: whether a training is resumed from it.

    Raises:
        ConfigError: no path, a URL, one of Lightning's keywords for a checkpoint of an earlier command in the same
            process, or only weights although a training should be resumed.
        MissingDataError: the file does not exist.
        WeightsMismatchError: it is damaged, truncated, not a checkpoint of ours, or names a class that is not ours.
    """
    if not value.strip():
        raise ConfigError("--ckpt_path is empty: give the path of a file, or leave it out")
    path = local_path(value)
    if value in _WORDS and not os.path.exists(path):
        raise ConfigError(
            f"--ckpt_path {value} refers to a checkpoint of an earlier command in the same process, and there is none; "
            "give the path of a file, or rrsis fit --resume RUN_FOLDER"
        )
    content = read(path, map_location="cpu", mmap=True)
    saved = _checked(path)
    settings = _settings(content, path)
    _check_structure(content, path)
    if training:
        _check_resumes(content, path)
    return GivenCheckpoint(path, saved, settings)


def check_asked(checkpoint: GivenCheckpoint, method: Method, asked: Mapping[str, Any], training: bool) -> list[str]:
    """Compare the requested model with the checkpoint.

    Args:
        checkpoint: the given one.
        method: the requested one.
        asked: arguments of its LightningModule.
        training: whether the command trains; else settings of the training have no effect and are not compared.

    Returns:
        A line for every setting that differs; the requested value counts.

    Raises:
        ConfigError: the method or the configuration differs from that of the weights.
    """
    where = f"checkpoint {checkpoint.path}"
    model_name = checkpoint.meta["model"]
    if model_name != method.name:
        raise ConfigError(
            f"{where} is a checkpoint of {model_name}, but the configuration is for {method.name}: give "
            f"--config configs/{model_name}.yaml, or a checkpoint of {method.name}"
        )
    lines = _compare_configurations(checkpoint, method, asked, where)
    earlier = checkpoint.hyper_parameters
    if training and earlier.get("decay", asked["decay"]) != asked["decay"]:
        raise ConfigError(
            f"{where} was trained with decay {earlier['decay']!r}, which determines the groups of its optimiser's "
            f"state; this run has {asked['decay']!r}: use {earlier['decay']!r}, or start a new training from its "
            "weights"
        )
    for name in earlier:
        relevant = name in asked and name not in _BUILT_FROM and (training or name == "protocol")
        if relevant and _plain(earlier[name]) != _plain(asked[name]):
            lines.append(_line(name, earlier[name], asked[name]))
    return lines


def _compare_configurations(
    checkpoint: GivenCheckpoint, method: Method, asked: Mapping[str, Any], where: str
) -> list[str]:
    """Refuse another configuration than that of the weights; return a line for every differing evaluation setting."""
    kind = method.model()
    preset = asked["preset"]
    if preset not in kind.presets:
        return []  # reported when the model is built
    wanted = to_plain(change(kind.presets[preset], asked.get("settings") or {}, method.name))
    try:  # fields that a checkpoint lacks were introduced later: it was trained with their defaults
        trained = to_plain(from_plain(type(kind.presets[preset]), checkpoint.meta["config"]))
    except ConfigError as error:
        raise WeightsMismatchError(f"{checkpoint.path}: {error}") from error
    differing = _differences(trained, wanted)
    fixed = [difference for difference in differing if difference[0] not in kind.evaluation_settings]
    if fixed:
        shown = "; ".join(
            f"{name}: {trained_value!r} in the checkpoint, {wanted_value!r} requested"
            for name, trained_value, wanted_value in fixed[:_SHOWN]
        )
        more = f"; and {len(fixed) - _SHOWN} more" if len(fixed) > _SHOWN else ""
        before = checkpoint.hyper_parameters.get("preset", "another preset")
        raise ConfigError(
            f"{where} was trained with preset {before!r}, this run has {preset!r} and another configuration "
            f"({shown}{more}): give the configs and settings of its training"
        )
    return [_line(name, trained_value, wanted_value) for name, trained_value, wanted_value in differing]


def _line(name: str, trained: Any, wanted: Any) -> str:
    return f"{name} {_plain(wanted)!r} is used, the checkpoint was trained with {_plain(trained)!r}"


# -- content -----------------------------------------------------------------------------------------------------------


def _checked(path: Path) -> Saved:
    """Return the model in the checkpoint, after checking its description."""
    saved = read_checkpoint(path)
    meta = saved.meta
    try:
        known, plain = meta["model"] in methods(), isinstance(meta["config"], Mapping) and "tokenizer" in meta
    except (KeyError, TypeError) as error:
        raise WeightsMismatchError(f"{path}: the description of its model is damaged ({error!r})") from error
    if not known:
        raise WeightsMismatchError(
            f"{path} is a checkpoint of {meta['model']!r}; known: {', '.join(sorted(methods()))}"
        )
    if not plain:
        raise WeightsMismatchError(f"{path}: the description of its model is damaged: configuration or tokenizer")
    return saved


def _settings(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the LightningModule's arguments; a foreign class is refused, and none is imported."""
    settings = content.get("hyper_parameters") or {}
    if not isinstance(settings, Mapping):
        raise WeightsMismatchError(f"{path}: hyper_parameters must be named settings, got a {type(settings).__name__}")
    class_paths = {known.class_path for known in methods().values()}
    class_path = settings.get(_CLASS)
    if class_path is not None and not (isinstance(class_path, str) and current_class_path(class_path) in class_paths):
        raise WeightsMismatchError(
            f"{path} names the class {class_path!r}, which does not belong to a method: it could run code, so it is "
            "not imported"
        )
    # names that start with _ are Lightning's own
    return {str(name): value for name, value in settings.items() if not str(name).startswith("_")}


def _check_structure(content: Mapping[str, Any], path: Path) -> None:
    """Refuse a file that lacks what Lightning relies on."""
    for name, kind in (("state_dict", Mapping), ("pytorch-lightning_version", str)):
        if not isinstance(content.get(name), kind):
            raise WeightsMismatchError(f"{path} is not a checkpoint of rrsis fit: its {name} is missing or damaged")


def _check_resumes(content: Mapping[str, Any], path: Path) -> None:
    """Refuse to resume from a checkpoint without the state of its training."""
    states = ("loops", "optimizer_states", "lr_schedulers")
    if not all(content.get(name) for name in states):
        raise ConfigError(
            f"--ckpt_path {path} contains only weights, no state of a training to resume: to start a new training with "
            f"them, use --model.init_args.weights local:{path}"
        )
    try:
        position(content["loops"]["fit_loop"])
        sound = all(isinstance(content[name], list) and isinstance(content[name][0], Mapping) for name in states[1:])
    except (KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise WeightsMismatchError(f"{path}: the state of its training ({', '.join(states)}) is damaged")


# -- comparing ---------------------------------------------------------------------------------------------------------


def _differences(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Return the settings that differ in two configurations, with dotted names and both values."""
    differing: list[tuple[str, Any, Any]] = []
    for name in first:
        one, other = first[name], second.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            differing += _differences(one, other, f"{prefix}{name}.")
        elif _plain(one) != _plain(other):
            differing.append((f"{prefix}{name}", one, other))
    return differing


def _plain(value: Any) -> Any:
    """Return a value in the same form for checkpoints and command lines: tuples as lists, namespaces as mappings."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if hasattr(value, "__dict__") and not isinstance(value, type):  # jsonargparse's Namespace
        return {name: _plain(item) for name, item in vars(value).items()}
    return value
