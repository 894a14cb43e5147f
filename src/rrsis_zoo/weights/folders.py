"""A model as a folder: what ``save_pretrained`` and ``rrsis convert`` write, and what is shared on the hub.

config.json          method, configuration, tokenizer, provenance
model.safetensors    every tensor under our names, in the dtype that it came in
tokenizer.*          the tokenizer's files, as their publishers wrote them
skipped.safetensors  converted models only: entries of the authors' file without a place in ours, for the way back
README.md            the card
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from rrsis_zoo.errors import MissingWeightsError, WeightsMismatchError
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.weights.checkpoints import Saved, load_saved, meta
from rrsis_zoo.weights.files import load_state_dict

CONFIG, WEIGHTS, SKIPPED, CARD = "config.json", "model.safetensors", "skipped.safetensors", "README.md"
FILES = (CONFIG, WEIGHTS, "tokenizer.*", SKIPPED, CARD)
"""All that a folder may hold, as patterns."""

_LIBRARY = "rrsis-zoo"


def write_model(model: ReferringSegmenter, folder: Path) -> None:
    """Write a model's configuration, tokenizer and weights; the folder must exist.

    Files are replaced as a whole, so that models that are mapped to earlier ones stay what they are.
    """
    write_folder(folder, {**meta(model), "provenance": model.provenance}, model.state_dict())


def write_folder(
    folder: Path, said: Mapping[str, Any], state: Mapping[str, Tensor], skipped: Mapping[str, Tensor] | None = None
) -> None:
    """Write the files of a model from its `meta` and state dict; see the module's docstring."""
    config = {"library_name": _LIBRARY, **said}
    if said["tokenizer"] is not None:
        plain = dict(said["tokenizer"])
        files = {key: value for key, value in plain.items() if isinstance(value, Tensor)}
        for key, content in files.items():
            _replace(folder / f"tokenizer.{key}", lambda path, c=content: path.write_bytes(c.numpy().tobytes()))
            del plain[key]
        config["tokenizer"] = {**plain, "files": sorted(files)}
    _write_tensors(folder / WEIGHTS, state)
    if skipped:
        _write_tensors(folder / SKIPPED, skipped)
    else:
        (folder / SKIPPED).unlink(missing_ok=True)  # of what was here before
    text = json.dumps(config, indent=1) + "\n"
    _replace(folder / CONFIG, lambda path: path.write_text(text, encoding="utf-8"))


def _write_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a state dict, tensors that have several names (tied weights) once."""
    seen: dict[tuple[int, torch.Size], str] = {}
    unique = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tensor.shape)
        if tensor.numel() == 0 or seen.setdefault(place, name) == name:
            unique[name] = tensor.detach().cpu().contiguous()
    _replace(path, lambda temporary: save_file(unique, temporary, metadata={"format": "pt"}))


def _replace(path: Path, write: Any) -> None:
    temporary = path.with_name(f".{path.name}.part")
    write(temporary)
    os.replace(temporary, path)


def is_folder(path: Path) -> bool:
    """Whether a folder is one of ours."""
    try:
        config = json.loads((path / CONFIG).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("library_name") == _LIBRARY


def open_folder(folder: Path) -> Saved:
    """Read what a folder holds; its tensors stay in their file.

    Raises:
        MissingWeightsError: a file of it is missing.
        WeightsMismatchError: it is not one of ours, or was written by a later version.
    """
    if not is_folder(folder):
        raise WeightsMismatchError(f"{folder} is no model of rrsis-zoo: its {CONFIG} is missing or of another library")
    said = json.loads((folder / CONFIG).read_bytes())
    if said.get("format") != 1:
        raise WeightsMismatchError(f"{folder / CONFIG} has format {said.get('format')!r}; this version reads format 1")
    if said["tokenizer"] is not None:
        state = {key: value for key, value in said["tokenizer"].items() if key != "files"}
        for key in said["tokenizer"]["files"]:
            content = bytearray(_present(folder / f"tokenizer.{key}").read_bytes())
            state[key] = torch.frombuffer(content, dtype=torch.uint8)
        said["tokenizer"] = state
    weights = _present(folder / WEIGHTS)
    return Saved(f"{said['model']} from {folder}", said, lambda: load_state_dict(weights), steady=True)


def _present(path: Path) -> Path:
    if not path.is_file():
        raise MissingWeightsError(f"{path} is missing: the folder was not written or fetched completely")
    return path


def read_folder(folder: Path) -> ReferringSegmenter:
    """Return the model of a folder in evaluation mode.

    Raises:
        MissingWeightsError, WeightsMismatchError: as `open_folder`, or weights that do not fit the configuration.
    """
    return load_saved(open_folder(folder))
