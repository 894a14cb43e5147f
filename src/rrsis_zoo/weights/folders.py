"""A model as a folder: written by ``save_pretrained`` and ``rrsis convert``, and shared on the hub.

config.json          method, configuration, tokenizer, provenance, training
model.safetensors    every tensor under our names, in its original dtype
tokenizer.*          the tokenizer's files, as published
skipped.safetensors  converted models only: entries of the authors' file that ours lacks, for converting back
presence.json        if calibrated: how likely an answer has a referent (`rrsis_zoo.models.presence`)
README.md            the card
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rrsis_zoo.errors import MissingWeightsError, OutputError, RRSISError, WeightsMismatchError
from rrsis_zoo.files import cannot_write, make_folder, read_bytes, read_json, write_bytes, write_json, write_text
from rrsis_zoo.schema import checked
from rrsis_zoo.weights.checkpoints import Saved
from rrsis_zoo.weights.description import TokenizerFiles, check_format, checked_meta
from rrsis_zoo.weights.files import read_state_dict, save_tensors
from rrsis_zoo.weights.places import outside
from rrsis_zoo.weights.training import IN_FOLDER

CONFIG, WEIGHTS, SKIPPED, CARD = "config.json", "model.safetensors", "skipped.safetensors", "README.md"
PRESENCE = "presence.json"
FILES = (CONFIG, WEIGHTS, "tokenizer.*", SKIPPED, PRESENCE, CARD)
"""Patterns of all files that a folder may hold."""

_LIBRARY = "rrsis-zoo"
_CONFIG_LIMIT = 16 * 2**20  # bytes
_TOKENIZER_LIMIT = 256 * 2**20
_PLAIN = re.compile(r"[A-Za-z0-9_]{1,64}")


def write_folder(
    folder: Path,
    description: Mapping[str, Any],
    state: Mapping[str, Tensor],
    skipped: Mapping[str, Tensor] | None = None,
    card: str | None = None,
    presence: str | None = None,
) -> None:
    """Write a model's files from its description and state dict; see the module's docstring.

    All of them are on the disk before the first one is moved into place; ``config.json``, without which a folder is not
    a model, is moved last. Files are replaced, not overwritten, so that models that are mapped to earlier ones do not
    change.

    Args:
        folder: to write to; it is created.
        description: method, configuration, tokenizer, provenance (`rrsis_zoo.weights.description`).
        state: our names to tensors.
        skipped: entries of the authors' file that ours lacks.
        card: text of ``README.md``; None keeps an existing one.
        presence: text of ``presence.json``.

    Raises:
        OutputError: a file cannot be written; existing files are unchanged.
    """
    config = {"library_name": _LIBRARY, **description}
    with _staged(folder) as place:
        if description["tokenizer"] is not None:
            plain = dict(description["tokenizer"])
            files = {key: value for key, value in plain.items() if isinstance(value, Tensor)}
            for key, content in files.items():
                write_bytes(place / f"tokenizer.{key}", content.cpu().numpy().tobytes())
                del plain[key]
            config["tokenizer"] = {**plain, "files": sorted(files)}
        _write_tensors(place / WEIGHTS, state)
        if skipped:
            _write_tensors(place / SKIPPED, skipped)
        if card is not None:
            write_text(place / CARD, card)
        if presence is not None:
            write_text(place / PRESENCE, presence)
        write_json(place / CONFIG, config)
    for name, written in ((SKIPPED, skipped), (PRESENCE, presence)):
        if not written:
            with cannot_write(folder / name):
                (folder / name).unlink(missing_ok=True)  # of an earlier model


@contextlib.contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder; afterwards its files are moved into the given one, ``config.json`` last.

    Raises:
        OutputError: the folder cannot be written to. If it was created here, it is removed again.
    """
    new = not os.path.exists(folder)
    make_folder(folder)
    place = folder / f".{secrets.token_hex(8)}.part"
    try:
        make_folder(place)
        yield place
        for path in place.iterdir():
            with cannot_write(folder / path.name):
                if os.path.isdir(folder / path.name):
                    raise IsADirectoryError(None, "it is a folder")
        for path in sorted(place.iterdir(), key=lambda path: path.name == CONFIG):
            with cannot_write(folder / path.name):
                os.replace(path, folder / path.name)
    except BaseException as error:
        if new:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OutputError):
            raise OutputError(str(error).replace(str(place), str(folder))) from error
        raise
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _write_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a state dict; tensors with several names (tied weights) are written once."""
    seen: dict[tuple[int, torch.Size], str] = {}
    unique = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tensor.shape)
        if tensor.numel() == 0 or seen.setdefault(place, name) == name:
            unique[name] = tensor
    save_tensors(unique, path)


def is_folder(path: Path) -> bool:
    """Return whether a folder holds a model of ours.

    Raises:
        WeightsMismatchError: its ``config.json`` cannot be read.
    """
    if not os.path.exists(path / CONFIG):
        return False
    try:
        config = read_json(path / CONFIG, _CONFIG_LIMIT, WeightsMismatchError)
    except RRSISError as error:
        raise WeightsMismatchError(f"{path} is not a model of rrsis-zoo: {error}") from error
    return isinstance(config, dict) and config.get("library_name") == _LIBRARY


def open_folder(folder: Path) -> Saved:
    """Open a model's folder; its tensors stay in their file.

    Raises:
        MissingWeightsError: one of its files is missing.
        WeightsMismatchError: not a model of ours, damaged, of another format version, or with a link to a file outside.
    """
    if not is_folder(folder):
        raise WeightsMismatchError(
            f"{folder} is not a model of rrsis-zoo: its {CONFIG} is missing or from another library"
        )
    what = str(folder / CONFIG)
    description = read_json(_present(folder, CONFIG), _CONFIG_LIMIT, WeightsMismatchError)
    check_format(description, what)
    if isinstance(tokenizer := description.get("tokenizer"), dict):
        state = {key: value for key, value in tokenizer.items() if key != "files"}
        for key in checked(TokenizerFiles, tokenizer, f"{what}: tokenizer", WeightsMismatchError).files:
            if not _PLAIN.fullmatch(key):
                raise WeightsMismatchError(f"{what}: tokenizer.files names {key!r}; letters, digits and _ are allowed")
            path = _present(folder, f"tokenizer.{key}")
            content = bytearray(read_bytes(path, _TOKENIZER_LIMIT, WeightsMismatchError))
            state[key] = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
        description["tokenizer"] = state
    description = checked_meta(description, what)
    weights = _present(folder, WEIGHTS)
    name = f"{description['model']} from {folder}"
    training = description.get(IN_FOLDER)
    return Saved(name, description, lambda: read_state_dict(weights), steady=True, training=training)


def _present(folder: Path, name: str) -> Path:
    path = folder / name
    if not os.path.exists(path):
        raise MissingWeightsError(
            f"{path} is missing: the folder was not written or fetched completely; write or fetch it again"
        )
    if outside(folder, path):
        raise WeightsMismatchError(f"{path} is a link to a place outside the folder: put the file itself there")
    return path
