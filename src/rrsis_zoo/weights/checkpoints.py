"""Our own checkpoints: they contain method, configuration and tokenizer, so that the file alone is a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rrsis_zoo.errors import MissingWeightsError, WeightsMismatchError
from rrsis_zoo.weights.description import checked_meta
from rrsis_zoo.weights.files import is_torch_file, weight_file
from rrsis_zoo.weights.torchfiles import read_torch
from rrsis_zoo.weights.training import TRAINING
from rrsis_zoo.weights.wrappers import own_names

META = "rrsis_meta"
_PREFIX = "model."  # of the LightningModule's attribute


@dataclass(frozen=True)
class Saved:
    """A complete model of ours in a file or folder.

    Attributes:
        what: name and path of the model, for error messages.
        meta: description of the model, see `rrsis_zoo.weights.description`.
        open: opens the torch model's state dict.
        steady: whether the file is never modified in place, so that a model may stay mapped to it.
        training: record of the training, unchecked (`rrsis_zoo.weights.training`); None if there is none.
    """

    what: str
    meta: dict[str, Any]
    open: Callable[[], dict[str, Tensor]]
    steady: bool
    training: Any = None


def read_checkpoint(path: Path) -> Saved:
    """Read a checkpoint of `rrsis fit`.

    Raises:
        MissingWeightsError: the file does not exist.
        WeightsMismatchError: it is damaged, not a checkpoint of ours, or has no valid description of a model.
        ConfigError: its path is a URL.
    """
    try:
        saved = _saved_at(path)
    except MissingWeightsError as error:
        raise MissingWeightsError(str(error).replace("no weight file", "no checkpoint", 1)) from error
    if saved is None:
        raise WeightsMismatchError(f"{path} is not a checkpoint of rrsis-zoo: it has no {META!r}")
    return saved


def checkpoint_at(path: Path) -> Saved | None:
    """Return our checkpoint at a path; None for an intact file of another kind.

    Raises:
        MissingWeightsError: the file does not exist.
        WeightsMismatchError: it is damaged, or has no valid description of a model.
        ConfigError: its path is a URL.
    """
    return _saved_at(path) if is_torch_file(weight_file(path)) else None


def _saved_at(path: Path) -> Saved | None:
    content = read_torch(weight_file(path))
    if not isinstance(content, dict) or META not in content:
        return None
    description = checked_meta(content[META], f"{META} of {path}")
    if not isinstance(content.get("state_dict"), dict):
        raise WeightsMismatchError(f"{path} is incomplete: it has no state_dict")
    what = f"{description['model']} from {path}"

    def state() -> dict[str, Tensor]:
        entries = own_names(read_torch(path)["state_dict"], str(path))
        ours = {n.removeprefix(_PREFIX): t for n, t in entries.items() if n.startswith(_PREFIX)}
        return own_names(ours, str(path))

    return Saved(what, description, state, steady=False, training=content.get(TRAINING))


def weights_hash(model: nn.Module) -> str:
    """Return the SHA-256 of all names and values of a model, for the records of its results."""
    return state_hash(own_names(model.state_dict()))


def state_hash(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names and values of a state dict, in its order."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
