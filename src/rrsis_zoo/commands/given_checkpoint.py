"""The checkpoint that a command is given: looked at before anything large is built, and held against what was asked.

Lightning's command line takes every setting of the model from a checkpoint's hyper-parameters, whatever the options and
the configs say, and imports the class that they name. Here the options count; the checkpoint brings the weights.
"""

from __future__ import annotations

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
from rrsis_zoo.weights.checkpoints import read_checkpoint

_WORDS = ("best", "last", "hpc", "registry")
_CLASS = "_class_path"
_BUILT_FROM = ("preset", "settings", "weights")
_SHOWN = 4


@dataclass(frozen=True)
class GivenCheckpoint:
    """A checkpoint of ours, without its tensors.

    Attributes:
        path: its file, absolute.
        meta: what it says of its model, see `rrsis_zoo.weights.checkpoints.meta`.
        hyper_parameters: the LightningModule's arguments that it was trained with; empty where it has none.
    """

    path: Path
    meta: Mapping[str, Any]
    hyper_parameters: Mapping[str, Any]


def open_checkpoint(given: str, training: bool) -> GivenCheckpoint:
    """Look at the file of ``--ckpt_path``. Nothing in it is run or imported.

    Args:
        given: the option's value.
        training: whether a training is to go on from it.

    Raises:
        ConfigError: no path, an address, one of Lightning's words for a checkpoint of an earlier command in the same
            process, or weights alone where a training is to go on.
        MissingDataError: there is no such file.
        WeightsMismatchError: it is damaged, cut short, not a checkpoint of ours, or names a class that is not ours.
    """
    if not given.strip():
        raise ConfigError("--ckpt_path is empty: give the path of a file, or leave it out")
    path = local_path(given)
    if given in _WORDS and not path.exists():
        raise ConfigError(
            f"--ckpt_path {given}: means a checkpoint of an earlier command in the same process, and there is none; "
            "give the path of a file, or rrsis fit --resume RUN_FOLDER"
        )
    content = read(path, map_location="cpu", mmap=True)
    meta = _checked_meta(path)
    settings = _settings(content, path)
    _check_structure(content, path)
    if training:
        _check_resumes(content, path)
    return GivenCheckpoint(path, meta, settings)


def check_asked(checkpoint: GivenCheckpoint, method: Method, asked: Mapping[str, Any], training: bool) -> list[str]:
    """Hold what was asked of the model against the checkpoint.

    Args:
        checkpoint: what was given.
        method: that was asked for.
        asked: arguments of its LightningModule.
        training: whether the command trains: else settings of the training change nothing and are not compared.

    Returns:
        A line for every setting in which they differ; the asked value counts.

    Raises:
        ConfigError: another method, or another configuration than the weights have.
    """
    where = f"checkpoint {checkpoint.path}"
    theirs = checkpoint.meta["model"]
    if theirs != method.name:
        raise ConfigError(
            f"{where} is a checkpoint of {theirs}, the configuration asks for {method.name}: give "
            f"--config configs/{theirs}.yaml, or a checkpoint of {method.name}"
        )
    lines = _compare_configurations(checkpoint, method, asked, where)
    earlier = checkpoint.hyper_parameters
    if training and earlier.get("decay", asked["decay"]) != asked["decay"]:
        raise ConfigError(
            f"{where} was trained with decay {earlier['decay']!r}, by which its optimiser's state is grouped; this run "
            f"asks for {asked['decay']!r}: go on with {earlier['decay']!r}, or begin a new training from its weights"
        )
    for name in earlier:
        relevant = name in asked and name not in _BUILT_FROM and (training or name == "protocol")
        if relevant and _plain(earlier[name]) != _plain(asked[name]):
            lines.append(_line(name, earlier[name], asked[name]))
    return lines


def _compare_configurations(
    checkpoint: GivenCheckpoint, method: Method, asked: Mapping[str, Any], where: str
) -> list[str]:
    """Refuse another configuration than the weights have; return a line for every setting of the evaluation."""
    kind = method.model()
    preset = asked["preset"]
    if preset not in kind.presets:
        return []  # building the model says so
    wanted = to_plain(change(kind.presets[preset], asked.get("settings") or {}, method.name))
    try:  # what a checkpoint does not say was added since it was written: it was trained with the default
        trained = to_plain(from_plain(type(kind.presets[preset]), checkpoint.meta["config"]))
    except ConfigError as error:
        raise WeightsMismatchError(f"{checkpoint.path}: {error}") from error
    differing = _differences(trained, wanted)
    fixed = [difference for difference in differing if difference[0] not in kind.evaluation_settings]
    if fixed:
        shown = "; ".join(f"{name}: {ours!r} there, {theirs!r} asked" for name, ours, theirs in fixed[:_SHOWN])
        more = f"; and {len(fixed) - _SHOWN} more" if len(fixed) > _SHOWN else ""
        before = checkpoint.hyper_parameters.get("preset", "another preset")
        raise ConfigError(
            f"{where} was made with preset {before!r}, this run asks for {preset!r}, and its configuration is another "
            f"({shown}{more}): give the configs and settings that it was trained with"
        )
    return [_line(name, ours, theirs) for name, ours, theirs in differing]


def _line(name: str, ours: Any, theirs: Any) -> str:
    return f"{name} {_plain(theirs)!r} is used, the checkpoint was made with {_plain(ours)!r}"


# -- what is in it -----------------------------------------------------------------------------------------------------


def _checked_meta(path: Path) -> Mapping[str, Any]:
    """Return what the checkpoint says of its model."""
    try:
        meta = read_checkpoint(path).meta
        known, plain = meta["model"] in methods(), isinstance(meta["config"], Mapping) and "tokenizer" in meta
    except (KeyError, TypeError) as error:
        raise WeightsMismatchError(f"{path}: what it says of its model is damaged ({error!r})") from error
    if not known:
        raise WeightsMismatchError(
            f"{path} is a checkpoint of {meta['model']!r}; known: {', '.join(sorted(methods()))}"
        )
    if not plain:
        raise WeightsMismatchError(f"{path}: what it says of its model is damaged: configuration or tokenizer")
    return meta


def _settings(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the LightningModule's arguments; a class of somebody else is refused, and none is imported."""
    settings = content.get("hyper_parameters") or {}
    if not isinstance(settings, Mapping):
        raise WeightsMismatchError(f"{path}: hyper_parameters must be named settings, got a {type(settings).__name__}")
    ours = {known.class_path for known in methods().values()}
    theirs = settings.get(_CLASS)
    if theirs is not None and not (isinstance(theirs, str) and current_class_path(theirs) in ours):
        raise WeightsMismatchError(
            f"{path} names the class {theirs!r}, which is no method's: such a class could run code, so it is not "
            "imported"
        )
    # names that begin with _ are Lightning's own
    return {str(name): value for name, value in settings.items() if not str(name).startswith("_")}


def _check_structure(content: Mapping[str, Any], path: Path) -> None:
    """Refuse a file that lacks what Lightning takes for granted."""
    for name, kind in (("state_dict", Mapping), ("pytorch-lightning_version", str)):
        if not isinstance(content.get(name), kind):
            raise WeightsMismatchError(f"{path} is no checkpoint of rrsis fit: its {name} is missing or damaged")


def _check_resumes(content: Mapping[str, Any], path: Path) -> None:
    """Refuse to train on from a checkpoint without the state of its training."""
    states = ("loops", "optimizer_states", "lr_schedulers")
    if not all(content.get(name) for name in states):
        raise ConfigError(
            f"--ckpt_path {path} holds weights alone, no state of a training to go on from: to begin a new training "
            f"with them, --model.init_args.weights local:{path}"
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
    """Return the settings in which two configurations differ, nested names dotted, with both values."""
    found: list[tuple[str, Any, Any]] = []
    for name in first:
        ours, theirs = first[name], second.get(name)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            found += _differences(ours, theirs, f"{prefix}{name}.")
        elif _plain(ours) != _plain(theirs):
            found.append((f"{prefix}{name}", ours, theirs))
    return found


def _plain(value: Any) -> Any:
    """Return a value as a checkpoint and a command line agree on it: lists for tuples, mappings as they are."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if hasattr(value, "__dict__") and not isinstance(value, type):  # jsonargparse's Namespace
        return {name: _plain(item) for name, item in vars(value).items()}
    return value
