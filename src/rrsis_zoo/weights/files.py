"""Reading weight files as state dicts: safetensors, torch files without code, and sharded sets of either."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from rrsis_zoo.errors import MissingDataError, MissingWeightsError, OutputError, WeightsMismatchError
from rrsis_zoo.files import parse_json, regular_file, writing
from rrsis_zoo.weights.places import no_url, outside
from rrsis_zoo.weights.sources import INDEX_SUFFIX, missing_shards, read_index
from rrsis_zoo.weights.torchfiles import read_torch
from rrsis_zoo.weights.wrappers import own_names

WRAPPERS = ("state_dict", "module", "model")
"""Keys that training programs store the state dict under (Lightning, DeepSpeed, many scripts)."""

_SAFETENSORS_HEADER_LIMIT = 100_000_000  # bytes; the format's own limit
_LFS_POINTER = b"version https://git-lfs"
_NESTED = 4  # levels of nested state dicts that are unpacked
_EXPANDED = 2**31  # bytes that a tensor may have, even if its storage is smaller; our largest one has 1.2e9


def weight_file(path: Path | str) -> Path:
    """Return the path of a weight file after checking that it is a regular file.

    Raises:
        MissingWeightsError: it does not exist, or is a folder.
        WeightsMismatchError: a named pipe, a device, or empty.
        ConfigError: a URL.
    """
    no_url(str(path))
    try:
        path = regular_file(path, WeightsMismatchError)
    except MissingDataError as error:
        raise MissingWeightsError(f"there is no weight file {path} ({error})") from error
    except WeightsMismatchError as error:
        if os.path.isdir(Path(path)):
            raise MissingWeightsError(f"there is no weight file {path}: it is a folder") from error
        raise
    if path.stat().st_size == 0:
        raise WeightsMismatchError(f"{path} is empty (0 bytes): fetch it again")
    return path


def read_state_dict(path: Path | str, joined: Mapping[str, str] | None = None) -> dict[str, Tensor]:
    """Read the tensors of a weight file by name.

    The format is recognised by the content, not by the file's name. Tensors are memory-mapped if the format allows it
    (all but torch files from before 1.6), so that a file may be larger than the memory and nothing is held twice. Code
    in torch files is not run.

    A state dict inside one of ``WRAPPERS`` is unpacked. Parts of names that come from wrappers (``module.`` of data
    parallel training, ``_orig_mod.`` of torch.compile, FSDP's) are removed.

    Args:
        path: a ``.safetensors`` or torch file, or a ``*.index.json`` beside its shards.
        joined: further state dicts beside the first: key -> prefix that their names get. They may be absent.

    Returns:
        Names to tensors on the CPU, without gradient. Do not write to them: some share memory with the file.

    Raises:
        MissingWeightsError: the file does not exist, or a shard is missing from the folder of its index.
        WeightsMismatchError: the file is empty, truncated, not a weight file, contains code, or does not contain
            exactly one state dict.
    """
    path = weight_file(path)
    content = _read_shards(path) if path.name.endswith(INDEX_SUFFIX) else _read(path)
    state = own_names(_state_dict_in(content, path), str(path))
    for key, prefix in (joined or {}).items():
        if isinstance(part := content.get(key), Mapping):
            state |= {f"{prefix}{name}": tensor for name, tensor in own_names(_state_dict_in(part, path)).items()}
    return state


def is_torch_file(path: Path) -> bool:
    """Return whether a file starts like a torch file: a zip archive, or a pickle from torch before 1.6."""
    with path.open("rb") as file:
        return file.read(4).startswith((b"PK\x03\x04", b"\x80"))


def _read(path: Path) -> Any:
    """Read one file of any supported format."""
    size = weight_file(path).stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(_LFS_POINTER):
        raise WeightsMismatchError(
            f"{path} is a Git LFS pointer of {size} bytes, not the weights: run git lfs pull, or fetch the file"
        )
    header = int.from_bytes(head[:8], "little")
    if path.suffix == ".safetensors" or (head[8:9] == b"{" and header <= _SAFETENSORS_HEADER_LIMIT):
        return _read_safetensors(path, size)
    if head.startswith((b"PK\x03\x04", b"\x80")):  # a zip archive, or a pickle of torch before 1.6
        return read_torch(path)
    raise WeightsMismatchError(
        f"{path} ({size} bytes) is neither a safetensors nor a torch file: it starts with {head[:16]!r}"
    )


def _read_safetensors(path: Path, size: int) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # its own error, or any other one for a dtype that torch does not have
        promised = _promised_size(path)
        if promised is not None and size < promised:
            raise WeightsMismatchError(
                f"{path} is truncated: it has {size} of at least {promised} bytes; fetch it again"
            ) from error
        raise WeightsMismatchError(f"{path} ({size} bytes) is not a safetensors file: {error}") from error


def _promised_size(path: Path) -> int | None:
    """Return the minimum size in bytes according to a safetensors file's header; None if the header is damaged."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _SAFETENSORS_HEADER_LIMIT:
            return None
        header = file.read(length)
    if len(header) < length:
        return 8 + length
    try:
        entries = json.loads(header)
        return 8 + length + max(entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return None


def read_metadata(path: Path, key: str) -> Any:
    """Return a JSON value from a safetensors file's metadata; None if there is no such key, or for other formats.

    Raises:
        MissingWeightsError: the file does not exist.
        WeightsMismatchError: the file cannot be read, or the value is not JSON.
    """
    if weight_file(path).suffix != ".safetensors":
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(key)
    except Exception as error:  # as above
        raise WeightsMismatchError(f"{path} is not a safetensors file: {error}") from error
    return None if text is None else parse_json(text, f"{key} of {path}", WeightsMismatchError)


def _read_shards(index: Path) -> dict[str, Tensor]:
    """Read all shards of an index; each tensor from the shard that the index names."""
    lacking = missing_shards(index)
    if lacking:
        raise MissingWeightsError(f"{', '.join(lacking)} must be in the folder of {index}, which names them")
    names_of: dict[str, set[str]] = defaultdict(set)
    for name, shard in read_index(index).items():
        names_of[shard].add(name)
    state: dict[str, Tensor] = {}
    for shard, names in sorted(names_of.items()):
        path = index.parent / shard
        if outside(index.parent, path):
            raise WeightsMismatchError(f"{path} is a link to a place outside its folder: put the file itself there")
        content = _state_dict_in(_read(path), path)
        if content.keys() != names:
            differing = sorted(content.keys() ^ names)
            raise WeightsMismatchError(
                f"{path} does not match {index.name}: {len(differing)} names differ, the first is {differing[0]}; "
                "fetch both again"
            )
        state.update(content)
    return state


def _state_dict_in(content: Any, path: Path, depth: int = 0) -> dict[str, Tensor]:
    """Return the only state dict in the content of a file."""
    if not isinstance(content, Mapping):
        raise WeightsMismatchError(f"{path} holds a {type(content).__name__}, not a state dict")
    if not content:
        raise WeightsMismatchError(f"{path} holds an empty state dict")
    wrapped = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
    if len(wrapped) > 1:
        raise WeightsMismatchError(f"{path} holds several state dicts ({', '.join(wrapped)}): save only one of them")
    if wrapped:
        if depth == _NESTED:
            raise WeightsMismatchError(f"{path} has state dicts nested in more than {_NESTED} levels")
        return _state_dict_in(content[wrapped[0]], path, depth + 1)
    others = [str(name) for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if others:
        raise WeightsMismatchError(
            f"{path} holds no state dict: {len(others)} of its {len(content)} entries are not named tensors "
            f"({', '.join(others[:5])}), and it has none under {', '.join(WRAPPERS)}"
        )
    return {name: _plain(tensor, name, path) for name, tensor in content.items()}


def _plain(tensor: Tensor, name: str, path: Path) -> Tensor:
    """Return a tensor without gradient; refuse one with values that are not in the file."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        kind = "quantised" if tensor.is_quantized else tensor.layout if tensor.device.type == "cpu" else tensor.device
        raise WeightsMismatchError(f"{path}: {name} is not a plain tensor ({kind}): save it as one")
    if tensor.numel() * tensor.element_size() > max(_EXPANDED, tensor.untyped_storage().nbytes()):
        raise WeightsMismatchError(
            f"{path}: {name} has the shape {tuple(tensor.shape)}, too large for the values in the file"
        )
    return tensor.detach()


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file, completely or not at all.

    Args:
        tensors: names to tensors, no two of which share memory; on any device.
        path: of the file; its folder is created.
        metadata: texts for its header.

    Raises:
        OutputError: it cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with writing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # the user's default; the library's would keep everyone else out
        try:
            safetensors.torch.save_file(plain, temporary, metadata={"format": "pt", **(metadata or {})})
        except safetensors.SafetensorError as error:  # a full disk, too, is reported only in the text
            why = str(error).rpartition("Error: ")[2] or str(error)
            raise OutputError(f"{path} cannot be written ({why})") from error
        temporary.chmod(mode)
