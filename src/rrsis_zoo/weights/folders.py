"""A model as a folder: what ``save_pretrained`` and ``rrsis convert`` write, and what is shared on the hub.

config.json          method, configuration, tokenizer, provenance
model.safetensors    every tensor under our names, in the dtype that it came in
tokenizer.*          the tokenizer's files, as their publishers wrote them
skipped.safetensors  converted models only: entries of the authors' file without a place in ours, for the way back
README.md            the card

A folder is read whole from itself: its files are plain names in it, and links that lead out of it are refused, but for
the hub's cache, which is made of links to its own ``blobs``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rrsis_zoo.errors import MissingDataError, MissingWeightsError, RRSISError, WeightsMismatchError
from rrsis_zoo.files import cannot_write, make_folder, read_bytes, read_json, writing
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.weights.checkpoints import Saved, load_saved, meta
from rrsis_zoo.weights.descriptions import FolderDescription, described
from rrsis_zoo.weights.files import load_state_dict, put_tensors
from rrsis_zoo.weights.sources import contained
from rrsis_zoo.weights.wrappers import unwrapped

CONFIG, WEIGHTS, SKIPPED, CARD = "config.json", "model.safetensors", "skipped.safetensors", "README.md"
FILES = (CONFIG, WEIGHTS, "tokenizer.*", SKIPPED, CARD)
"""All that a folder may hold, as patterns."""

_LIBRARY = "rrsis-zoo"
_CONFIG_LIMIT = 2**24
_TOKENIZER_LIMIT = 2**28  # SigLIP 2's has 35 MB


def write_model(model: ReferringSegmenter, folder: Path, card: str | None = None) -> None:
    """Write a model's configuration, tokenizer and weights; arguments and errors as `write_folder`."""
    write_folder(
        folder, {**meta(model), "provenance": model.provenance}, unwrapped(model.state_dict(), "the model"), card=card
    )


def write_folder(
    folder: Path,
    said: Mapping[str, Any],
    state: Mapping[str, Tensor],
    skipped: Mapping[str, Tensor] | None = None,
    card: str | None = None,
) -> None:
    """Write the files of a model from its `meta` and state dict; see the module's docstring.

    All of them are written beside their places first and then put there, ``config.json`` last: a disk that is full
    leaves what was there before, and nothing that is half written looks whole. Models that are mapped to earlier files
    stay what they are.

    Args:
        folder: to write to; it is made.
        said: the description.
        state: our names to tensors.
        skipped: entries of an authors' file without a place in ours.
        card: text of the card; None to leave the one that is there.

    Raises:
        OutputError: a file cannot be written.
    """
    make_folder(folder)
    config, files = {"library_name": _LIBRARY, **said}, {}
    if said["tokenizer"] is not None:
        plain = dict(said["tokenizer"])
        files = {key: plain.pop(key) for key in [k for k, value in plain.items() if isinstance(value, Tensor)]}
        config["tokenizer"] = {**plain, "files": sorted(files)}

    with ExitStack() as stack:  # left in the opposite order: what is entered first takes its place last

        def place(name: str) -> Path:
            return stack.enter_context(writing(folder / name))

        parts = {name: place(name) for name in (CONFIG, *([CARD] if card is not None else []), WEIGHTS)}
        with cannot_write(folder / CONFIG):
            parts[CONFIG].write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        if card is not None:
            with cannot_write(folder / CARD):
                parts[CARD].write_bytes(card.encode("utf-8", errors="replace"))
        for key, content in files.items():
            path = place(f"tokenizer.{key}")
            with cannot_write(folder / f"tokenizer.{key}"):
                path.write_bytes(content.numpy().tobytes())
        with cannot_write(folder / WEIGHTS):
            put_tensors(parts[WEIGHTS], state)
        if skipped:
            path = place(SKIPPED)
            with cannot_write(folder / SKIPPED):
                put_tensors(path, skipped)
        else:
            with cannot_write(folder / SKIPPED):
                (folder / SKIPPED).unlink(missing_ok=True)  # of what was here before


def is_folder(path: Path) -> bool:
    """Whether a folder is one of ours, or has a description that cannot be read, which `open_folder` then names."""
    if not (path / CONFIG).is_file():
        return False
    try:
        config = _config(path)
    except RRSISError:
        return True
    return isinstance(config, dict) and config.get("library_name") == _LIBRARY


def _config(folder: Path) -> Any:
    return read_json(contained(folder, CONFIG), _CONFIG_LIMIT, WeightsMismatchError)


def open_folder(folder: Path) -> Saved:
    """Read what a folder holds; its tensors stay in their file.

    Raises:
        MissingWeightsError: a file of it is missing.
        WeightsMismatchError: it is not one of ours, was written by a later version, says of itself what no model has,
            or leads out of itself by a link.
    """
    try:
        config = _config(folder)
    except MissingDataError as error:
        raise WeightsMismatchError(f"{folder} is no model of rrsis-zoo: its {CONFIG} is missing") from error
    except WeightsMismatchError as error:
        raise WeightsMismatchError(f"{folder} is no model of rrsis-zoo: {error}") from error
    if not isinstance(config, dict) or config.get("library_name") != _LIBRARY:
        raise WeightsMismatchError(f"{folder} is no model of rrsis-zoo: its {CONFIG} is of another library")
    said = described(FolderDescription, config, str(folder / CONFIG))
    if said.tokenizer is not None:
        state = {key: value for key, value in config["tokenizer"].items() if key != "files"}
        for key in said.tokenizer.files:
            content = read_bytes(_present(folder, f"tokenizer.{key}"), _TOKENIZER_LIMIT, WeightsMismatchError)
            state[key] = torch.frombuffer(bytearray(content) or bytearray(1), dtype=torch.uint8)[: len(content)]
        config["tokenizer"] = state
    weights = _present(folder, WEIGHTS)
    size = weights.stat().st_size
    return Saved(f"{said.model} from {folder}", config, lambda: load_state_dict(weights), steady=True, bytes=size)


def _present(folder: Path, name: str) -> Path:
    path = contained(folder, name)
    if not path.is_file():
        raise MissingWeightsError(f"{path} is missing: the folder was not written or fetched completely")
    return path


def read_folder(folder: Path) -> ReferringSegmenter:
    """Return the model of a folder in evaluation mode.

    Raises:
        MissingWeightsError, WeightsMismatchError: as `open_folder`, or weights that do not fit the configuration.
    """
    return load_saved(open_folder(folder))
