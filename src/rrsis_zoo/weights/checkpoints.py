"""Our own checkpoints: which method, which configuration, which tokenizer, so that a file alone is a model."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import rrsis_zoo
from rrsis_zoo.errors import ConfigError, MissingWeightsError, WeightsMismatchError, unknown_name
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.configuration import from_plain, to_plain
from rrsis_zoo.registry import MODELS, card
from rrsis_zoo.weights.load import load_into
from rrsis_zoo.weights.pretrained import load_pretrained

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
class Checkpoint:
    """A checkpoint file of ours, read.

    Attributes:
        meta: see `meta`.
        state: the torch model's state dict.
    """

    meta: dict[str, Any]
    state: dict[str, Tensor]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file that `rrsis fit` wrote.

    Raises:
        MissingWeightsError: there is no such file.
        WeightsMismatchError: it is damaged, or not a checkpoint of ours.
    """
    if not path.is_file():
        raise MissingWeightsError(f"there is no checkpoint {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise WeightsMismatchError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as a checkpoint: it is damaged or of another kind"
        ) from error
    if not isinstance(content, dict) or META not in content:
        raise WeightsMismatchError(f"{path} is not a checkpoint of rrsis-zoo: it has no {META!r}")
    state = {name.removeprefix(_PREFIX): t for name, t in content["state_dict"].items() if name.startswith(_PREFIX)}
    return Checkpoint(content[META], state)


def build(said: Mapping[str, Any]) -> ReferringSegmenter:
    """Build the model that a checkpoint's `meta` describes, tokenizer included, with random weights."""
    kind = card(said["model"]).model()
    config_kind = type(next(iter(kind.presets.values())))
    model = kind(from_plain(config_kind, said["config"]))
    if said["tokenizer"] is not None:
        model.load_tokenizer_state(said["tokenizer"])
    return model


def load_model(
    name_or_path: str | Path, weights: str | Mapping[str, str] | None = None, preset: str | None = None
) -> ReferringSegmenter:
    """Return a torch model in evaluation mode.

    Args:
        name_or_path: a checkpoint that ``rrsis fit`` wrote, which needs nothing else; or a method's name.
        weights: with a name: ``local:PATH`` of such a checkpoint, or a source for each of the method's foundation
            models (``{"sam": "hub:facebook/sam-vit-base", …}``); None for random weights.
        preset: with a name: which sizes; the paper's first preset by default.

    Raises:
        ConfigError: unknown name or preset, or settings that exclude each other.
        MissingWeightsError, WeightsMismatchError: as the sources.
    """
    if str(name_or_path) not in MODELS:
        path = Path(name_or_path)
        if not path.suffix and not path.exists():
            card(str(name_or_path))  # a misspelt name gets the answer for names
        if weights is not None or preset is not None:
            raise ConfigError(f"{path} is a checkpoint: it says its own preset and weights")
        return _from_checkpoint(path)
    kind = card(str(name_or_path)).model()
    if isinstance(weights, str):
        if not weights.startswith("local:"):
            raise ConfigError(f"weights of a whole model must be local:PATH of a checkpoint, got {weights!r}")
        model = _from_checkpoint(Path(weights.removeprefix("local:")))
        if model.name != name_or_path:
            raise ConfigError(f"{weights} holds {model.name}, not {name_or_path}")
        if preset is not None and model.config != _preset(kind, preset):
            raise ConfigError(f"{weights} is not of preset {preset!r}: leave the preset out")
        return model
    model = kind.from_preset(preset or next(iter(kind.presets)))
    if weights is not None:
        load_pretrained(model, weights)
    return model.eval()


def _preset(kind: type[ReferringSegmenter], preset: str) -> Any:
    if preset not in kind.presets:
        raise unknown_name(f"preset of {kind.name}", preset, kind.presets)
    return kind.presets[preset]


def _from_checkpoint(path: Path) -> ReferringSegmenter:
    checkpoint = read_checkpoint(path)
    model = build(checkpoint.meta)
    load_into(model, checkpoint.state, what=f"{model.name} from {path}")
    return model.eval()


def weights_hash(model: ReferringSegmenter) -> str:
    """Return the SHA-256 of all names and values of a model, for the records that its numbers go into."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
