"""Our own checkpoints: which method, which configuration, which tokenizer, so that a file alone is a model."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import rrsis_zoo
from rrsis_zoo.errors import MissingWeightsError, WeightsMismatchError
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.configuration import from_plain, to_plain
from rrsis_zoo.registry import card
from rrsis_zoo.weights.load import load_into
from rrsis_zoo.weights.skeleton import without_weights

META = "rrsis_meta"
_PREFIX = "model."  # of the LightningModule's attribute


def meta(model: ReferringSegmenter) -> dict[str, Any]:
    """Return what a checkpoint must say of a model besides its tensors."""
    return {
        "format": 1,
        "version": rrsis_zoo.__version__,
        "model": model.name,
        "config": to_plain(model.config),
        "tokenizer": model.tokenizer_state() if model.tokenizer_ready else None,
    }


@dataclass(frozen=True)
class Saved:
    """A whole model of ours in a file or folder.

    Attributes:
        what: what and where it is, as an error says it.
        meta: see `meta`; ``provenance`` too where it is known.
        open: opens the torch model's state dict.
        steady: whether the file is never written in place, so that a model may stay mapped to it.
    """

    what: str
    meta: dict[str, Any]
    open: Callable[[], dict[str, Tensor]]
    steady: bool


def read_checkpoint(path: Path) -> Saved:
    """Read a file that `rrsis fit` wrote.

    Raises:
        MissingWeightsError: there is no such file.
        WeightsMismatchError: it is damaged, or not a checkpoint of ours.
    """
    if not path.is_file():
        raise MissingWeightsError(f"there is no checkpoint {path}")
    content = _open(path)
    if not isinstance(content, dict) or META not in content:
        raise WeightsMismatchError(f"{path} is not a checkpoint of rrsis-zoo: it has no {META!r}")

    def state() -> dict[str, Tensor]:
        entries = _open(path)["state_dict"].items()
        return {name.removeprefix(_PREFIX): tensor for name, tensor in entries if name.startswith(_PREFIX)}

    said = content[META]
    return Saved(f"{said['model']} from {path}", said, state, steady=False)


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint of ours; False for anything else, damaged files too."""
    try:
        content = _open(path)
    except WeightsMismatchError:
        return False
    return isinstance(content, dict) and META in content


def _open(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise WeightsMismatchError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as a checkpoint: it is damaged or of another kind"
        ) from error


def build(said: Mapping[str, Any]) -> ReferringSegmenter:
    """Build the model that a checkpoint's `meta` describes, tokenizer included, with random weights."""
    kind = card(said["model"]).model()
    config_kind = type(next(iter(kind.presets.values())))
    model = kind(from_plain(config_kind, said["config"]))
    if said["tokenizer"] is not None:
        model.load_tokenizer_state(said["tokenizer"])
    return model


def load_saved(saved: Saved) -> ReferringSegmenter:
    """Return the saved model in evaluation mode; its memory is taken once, or is the file's where that is steady."""
    with without_weights():
        model = build(saved.meta)
    load_into(model, saved.open, what=saved.what, share=saved.steady)
    if saved.meta.get("provenance"):
        model.provenance = {**saved.meta["provenance"], "saved_again": True}  # whatever happens to it from here on
    return model.eval()


def weights_hash(model: ReferringSegmenter) -> str:
    """Return the SHA-256 of all names and values of a model, for the records that its numbers go into."""
    return state_hash(model.state_dict())


def state_hash(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names and values of a state dict, in its order."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
