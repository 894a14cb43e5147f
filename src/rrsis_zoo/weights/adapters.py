"""Low-rank adapters: merged for inference, or alone in a small file that goes with the foundation models' weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from rrsis_zoo.errors import ConfigError, WeightsMismatchError
from rrsis_zoo.files import expanded, parse_json
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.configuration import to_plain
from rrsis_zoo.models.layers.lora import is_lora, merged_state
from rrsis_zoo.weights.checkpoints import state_hash
from rrsis_zoo.weights.descriptions import FORMAT, AdapterDescription, described
from rrsis_zoo.weights.files import load_state_dict, write_tensors
from rrsis_zoo.weights.load import LoadReport, load_into
from rrsis_zoo.weights.skeleton import without_weights
from rrsis_zoo.weights.wrappers import unwrapped_name

_KEY = "rrsis_adapters"


def merged(model: ReferringSegmenter) -> ReferringSegmenter:
    """Return the same model without adapters: their product is added to the weights that they adapt.

    The new model's configuration says ``adapt="full"``; tensors that were not adapted are shared with the old one.

    Raises:
        ConfigError: the model has no adapters.
    """
    _check_adapted(model)
    with without_weights():
        plain = type(model)(replace(model.config, adapt="full"))
    load_into(plain, merged_state(model), what=f"merged {model.name}", share=True)
    if model.tokenizer_ready:
        plain.tokenizer = model.tokenizer
    plain.max_expressions = model.max_expressions
    return plain.eval()


def save_adapters(model: ReferringSegmenter, path: str | Path) -> None:
    """Write what training changed and nothing else: adapters, and the parts that train as a whole, with their buffers.

    The file names the configuration and the SHA-256 of everything that it leaves out.

    Args:
        model: an adapted model.
        path: a ``.safetensors`` file to write.

    Raises:
        ConfigError: the model has no adapters, or a path of another suffix.
        OutputError: the file cannot be written.
    """
    _check_adapted(model)
    path = expanded(path)
    if path.suffix != ".safetensors":
        raise ConfigError(f"adapters are written as safetensors: give a name that ends in .safetensors, got {path}")
    changed, base = _split(model)
    said = {"format": FORMAT, "model": model.name, "config": to_plain(model.config), "base_sha256": state_hash(base)}
    write_tensors(path, changed, {_KEY: json.dumps(said)})


def load_adapters(model: ReferringSegmenter, path: str | Path) -> LoadReport:
    """Put adapters on a model that holds the weights that they were trained on.

    Args:
        model: of the same configuration, with its foundation models' weights loaded.
        path: a file of ``save_adapters``.

    Raises:
        ConfigError: the model has no adapters, or is another method or configuration.
        WeightsMismatchError: not a file of adapters, a damaged one, or adapters of another base.
    """
    _check_adapted(model)
    path = expanded(path)
    state = load_state_dict(path)
    said = _said(path)
    if said.model != model.name:
        raise ConfigError(f"{path} holds adapters of {said.model}, not of {model.name}")
    if said.config != json.loads(json.dumps(to_plain(model.config))):
        raise ConfigError(f"{path} holds adapters of another configuration of {model.name}: {said.config}")
    changed, base = _split(model)
    if (ours := state_hash(base)) != said.base_sha256:
        raise WeightsMismatchError(
            f"{path} was trained on other foundation weights (sha256 {said.base_sha256[:12]}…) than this model's "
            f"({ours[:12]}…): load those first"
        )
    return load_into(model, state, what=f"adapters from {path}", may_be_missing=lambda name: name not in changed)


def _check_adapted(model: ReferringSegmenter) -> None:
    adapted = any(is_lora(name) for name, _ in model.named_parameters())
    if not (adapted and is_dataclass(model.config) and hasattr(model.config, "adapt")):
        raise ConfigError(f"this {model.name} has no low-rank adapters (its configuration has no adapt='lora')")


def _split(model: ReferringSegmenter) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the entries that training changes, and the rest, by names without wrappers."""
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad or is_lora(name)}
    owners = {name.rpartition(".")[0] for name in trained}
    parameters = {name for name, _ in model.named_parameters()}
    changed, base = {}, {}
    for name, tensor in model.state_dict().items():
        own_buffer = name not in parameters and name.rpartition(".")[0] in owners  # a norm's running statistics
        (changed if name in trained or own_buffer else base)[unwrapped_name(name)] = tensor
    return changed, base


def _said(path: Path) -> AdapterDescription:
    metadata: Mapping[str, str] = {}
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
        except SafetensorError as error:
            raise WeightsMismatchError(f"{path} is not a safetensors file: {error}") from error
    if _KEY not in metadata:
        raise WeightsMismatchError(f"{path} is no file of adapters of rrsis-zoo")
    what = f"{path}, {_KEY}"
    return described(AdapterDescription, parse_json(metadata[_KEY], what, WeightsMismatchError), what)
