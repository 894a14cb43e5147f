"""The checkpoint that a command is given: looked at before anything large is built, and held against what was asked.

Lightning's command line takes every setting of the model from a checkpoint's hyper-parameters, whatever the options and
the configs say, and loads addresses with code. Here the options count; the checkpoint brings the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rrsis_zoo.errors import ConfigError, WeightsMismatchError
from rrsis_zoo.files import regular_file
from rrsis_zoo.models.configuration import change, from_plain, to_plain
from rrsis_zoo.registry import card
from rrsis_zoo.weights.checkpoints import read_checkpoint

_WORDS = ("best", "last", "hpc")
_OF_TRAINING = ("loops", "optimizer_states", "lr_schedulers")
_FOUNDATIONS = "weights"
_BUILT_FROM = ("preset", "settings", _FOUNDATIONS)


@dataclass(frozen=True)
class GivenCheckpoint:
    """A checkpoint of ours, without its tensors.

    Attributes:
        path: its file.
        meta: what it says of its model, see `rrsis_zoo.weights.checkpoints.meta`.
        hyper_parameters: the LightningModule's arguments that it was trained with; empty where it has none.
        resumes: whether it holds the state of a training, and not weights alone.
    """

    path: Path
    meta: Mapping[str, Any]
    hyper_parameters: Mapping[str, Any]
    resumes: bool


def open_checkpoint(given: str) -> GivenCheckpoint:
    """Look at the file of ``--ckpt_path``. Nothing in it is run or imported.

    Raises:
        ConfigError: an address, or one of Lightning's words for a checkpoint of an earlier command in the same process.
        MissingDataError, MissingWeightsError: there is no such file.
        WeightsMismatchError: it is damaged, cut short, or not a checkpoint of ours.
    """
    path = local_path(given)
    regular_file(path, WeightsMismatchError)
    saved = read_checkpoint(path)
    # read_checkpoint has opened it: tensors stay in the file
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    said = content.get("hyper_parameters") or {}
    if not isinstance(said, Mapping):
        raise WeightsMismatchError(f"{path}: hyper_parameters must be named settings, got {type(said).__name__}")
    # names that begin with _ are Lightning's own: among them a class that it would import
    settings = {str(name): value for name, value in said.items() if not str(name).startswith("_")}
    resumes = all(name in content for name in _OF_TRAINING)
    return GivenCheckpoint(path, saved.meta, settings, resumes)


def local_path(given: str) -> Path:
    """Return the path of ``--ckpt_path``, ``~`` expanded.

    Raises:
        ConfigError: no path of a file on this machine.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", given):
        raise ConfigError(
            f"--ckpt_path {given}: must be a file on this machine; addresses are not read, because what comes from one "
            "could run code: fetch the file and give its path"
        )
    if given in _WORDS and not Path(given).exists():
        raise ConfigError(
            f"--ckpt_path {given}: means a checkpoint of an earlier command in the same process, and there is none; "
            "give the path of a file, or rrsis fit --resume RUN_FOLDER"
        )
    return Path(given).expanduser()


def check_asked(checkpoint: GivenCheckpoint, method: str, asked: Mapping[str, Any], training: bool) -> list[str]:
    """Hold what was asked of the model against the checkpoint.

    Args:
        checkpoint: what was given.
        method: name of the method that was asked for.
        asked: arguments of its LightningModule.
        training: whether the command trains: else settings of the training change nothing and are not compared.

    Returns:
        A line for every setting in which they differ; the asked value counts.

    Raises:
        ConfigError: another method, or another configuration than the weights have.
    """
    where = f"--ckpt_path {checkpoint.path}"
    if checkpoint.meta["model"] != method:
        raise ConfigError(
            f"{where} is a checkpoint of {checkpoint.meta['model']}, the configuration asks for {method}: give "
            f"--config configs/{checkpoint.meta['model']}.yaml, or a checkpoint of {method}"
        )
    kind = card(method).model()
    preset = asked["preset"]
    wanted = (
        to_plain(change(kind.presets[preset], asked.get("settings") or {}, method)) if preset in kind.presets else {}
    )
    config_kind = type(next(iter(kind.presets.values())))
    trained = to_plain(from_plain(config_kind, checkpoint.meta["config"]))
    differing = dict(_differences(trained, wanted)) if wanted else {}
    free = {name: both for name, both in differing.items() if name in kind.evaluation_settings}
    if fixed := {name: both for name, both in differing.items() if name not in free}:
        before = checkpoint.hyper_parameters.get("preset", "another preset")
        shown = "; ".join(
            f"{name}: {ours!r} there, {theirs!r} asked" for name, (ours, theirs) in list(fixed.items())[:4]
        )
        more = f"; and {len(fixed) - 4} more" if len(fixed) > 4 else ""
        raise ConfigError(
            f"{where} was made with preset {before!r}, this run asks for {preset!r}, and its configuration is another "
            f"({shown}{more}): give the configs and settings that it was trained with"
        )
    decay = checkpoint.hyper_parameters.get("decay", asked.get("decay"))
    if training and decay != asked.get("decay"):
        raise ConfigError(
            f"{where} was trained with decay {decay!r}, by which its optimiser's state is grouped; this run asks for "
            f"{asked.get('decay')!r}: go on with {decay!r}, or begin a new training from its weights"
        )
    compared = {
        name: (checkpoint.hyper_parameters[name], asked[name]) for name in checkpoint.hyper_parameters if name in asked
    }
    lines = [f"{name} {theirs!r} is used, the checkpoint has {ours!r}" for name, (ours, theirs) in free.items()]
    for name, (ours, theirs) in compared.items():
        relevant = name not in _BUILT_FROM and (training or name == "protocol")
        if relevant and _plain(ours) != _plain(theirs):
            lines.append(f"{name} {theirs!r} is used, the checkpoint was made with {ours!r}")
    return lines


def check_resumes(checkpoint: GivenCheckpoint) -> None:
    """Refuse to train on from a checkpoint without the state of its training.

    Raises:
        ConfigError: it holds weights alone.
    """
    if not checkpoint.resumes:
        raise ConfigError(
            f"--ckpt_path {checkpoint.path} holds weights alone, no state of a training to go on from: to begin a new "
            f"training with them, --model.init_args.weights local:{checkpoint.path}"
        )


def _differences(
    first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = ""
) -> list[tuple[str, tuple[Any, Any]]]:
    """Return the settings in which two configurations differ, nested names dotted."""
    found = []
    for name in first:
        ours, theirs = first[name], second.get(name)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            found += _differences(ours, theirs, f"{prefix}{name}.")
        elif _plain(ours) != _plain(theirs):
            found.append((f"{prefix}{name}", (ours, theirs)))
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
