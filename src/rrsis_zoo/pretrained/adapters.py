"""Low-rank adapters: merged for inference, or in a small file of their own, without the foundation models' weights."""

from __future__ import annotations

import json
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from rrsis_zoo.errors import ConfigError, WeightsMismatchError
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.configuration import from_plain, to_plain
from rrsis_zoo.models.layers.lora import merged_state
from rrsis_zoo.schema import Strict, checked
from rrsis_zoo.weights.checkpoints import state_hash
from rrsis_zoo.weights.description import FORMAT, check_format
from rrsis_zoo.weights.files import read_metadata, read_state_dict, save_tensors
from rrsis_zoo.weights.load import LoadReport, fill_module
from rrsis_zoo.weights.skeleton import without_weights
from rrsis_zoo.weights.wrappers import is_lora, own_name, own_names

_KEY = "rrsis_adapters"


def merged(model: ReferringSegmenter) -> ReferringSegmenter:
    """Return the same model without adapters: their product is added to the adapted weights.

    The new model's configuration has ``adapt="full"``; tensors that were not adapted are shared with the old one.

    Raises:
        ConfigError: the model has no adapters.
    """
    _check_adapted(model)
    with without_weights():
        plain = type(model)(replace(model.config, adapt="full"))
    fill_module(plain, merged_state(model), what=f"merged {model.name}", share=True)
    if model.tokenizer_ready:
        plain.tokenizer = model.tokenizer
    plain.max_expressions = model.max_expressions
    return plain.eval()


def save_adapters(model: ReferringSegmenter, path: str | Path) -> None:
    """Write only what training changes: adapters, and fully trained parts with their buffers.

    The file records the configuration and the SHA-256 of everything that it leaves out.

    Args:
        model: an adapted model.
        path: a ``.safetensors`` file to write.

    Raises:
        ConfigError: the model has no adapters.
        OutputError: the file cannot be written.
    """
    _check_adapted(model)
    changed, base = _split(model)
    description = {
        "format": FORMAT,
        "model": model.name,
        "config": to_plain(model.config),
        "base_sha256": state_hash(base),
    }
    save_tensors(changed, Path(path), {_KEY: json.dumps(description)})


def load_adapters(model: ReferringSegmenter, path: str | Path) -> LoadReport:
    """Load adapters into a model with the weights that they were trained on.

    Args:
        model: of the same configuration, with its foundation models' weights loaded.
        path: a file written by ``save_adapters``.

    Raises:
        ConfigError: the model has no adapters, or another method or configuration.
        WeightsMismatchError: not a file of adapters, a damaged one, or adapters for other foundation weights.
    """
    _check_adapted(model)
    path = Path(path)
    state = read_state_dict(path)
    description = _description(path)
    if description.model != model.name:
        raise ConfigError(f"{path} holds adapters of {description.model}, not of {model.name}")
    try:
        config = from_plain(type(model.config), description.config)  # fields introduced later have their defaults
    except ConfigError as error:
        raise WeightsMismatchError(f"{path}: {error}") from error
    if config != model.config:
        raise ConfigError(f"{path} holds adapters of another configuration of {model.name}: {description.config}")
    changed, base = _split(model)
    if (own_hash := state_hash(base)) != description.base_sha256:
        raise WeightsMismatchError(
            f"{path} was trained on other foundation weights (sha256 {description.base_sha256[:12]}…) than this "
            f"model has ({own_hash[:12]}…): load those first"
        )
    return fill_module(
        model, state, what=f"adapters from {path}", may_be_missing=lambda name: own_name(name) not in changed
    )


def _check_adapted(model: ReferringSegmenter) -> None:
    adapted = any(is_lora(name) for name, _ in model.named_parameters())
    if not (adapted and is_dataclass(model.config) and hasattr(model.config, "adapt")):
        raise ConfigError(f"this {model.name} has no low-rank adapters (its configuration has no adapt='lora')")


def _split(model: ReferringSegmenter) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the entries that training changes, and the rest."""
    named = own_names(dict(model.named_parameters()))
    trained = {name for name, parameter in named.items() if parameter.requires_grad or is_lora(name)}
    owners = {name.rpartition(".")[0] for name in trained}
    changed, base = {}, {}
    for name, tensor in own_names(model.state_dict()).items():
        own_buffer = name not in named and name.rpartition(".")[0] in owners  # a norm's running statistics
        (changed if name in trained or own_buffer else base)[name] = tensor
    return changed, base


class _Description(Strict):
    model: str
    config: dict[str, Any]
    base_sha256: str


def _description(path: Path) -> _Description:
    content = read_metadata(path, _KEY)
    if content is None:
        raise WeightsMismatchError(f"{path} is not a file of adapters of rrsis-zoo")
    check_format(content, f"{_KEY} of {path}")
    return checked(_Description, content, f"{_KEY} of {path}", WeightsMismatchError)
