"""Weight files to state dicts: safetensors, torch files without code, and sharded sets of either."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from rrsis_zoo.errors import MissingWeightsError, WeightsMismatchError
from rrsis_zoo.weights.sources import INDEX_SUFFIX, missing_shards, read_index

WRAPPERS = ("state_dict", "module", "model")
"""Keys under which training programs keep the state dict among other things (Lightning, DeepSpeed, many scripts)."""

_SAFETENSORS_HEADER_LIMIT = 100_000_000  # bytes; the format's own limit
_LFS_POINTER = b"version https://git-lfs"


def load_state_dict(path: Path | str) -> dict[str, Tensor]:
    """Read the tensors of a weight file by name.

    The format is told from the content, not from the file's name. Tensors are mapped from the file, not read, wherever
    the format allows it (all but torch files of before 1.6), so that a file larger than the memory can be opened and
    nothing is held twice. Torch files are read without running code that they may hold.

    A state dict inside one of ``WRAPPERS`` is unpacked, and a prefix ``module.`` that all names share (left by data
    parallel training) is stripped.

    Args:
        path: a ``.safetensors`` or torch file, or a ``*.index.json`` beside its shards.

    Returns:
        Names to tensors on the CPU, without gradient. They are for reading: some share the file's pages.

    Raises:
        MissingWeightsError: there is no such file, or a shard is not beside its index.
        WeightsMismatchError: the file is empty, cut short, no weight file, holds code, or holds no single state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingWeightsError(f"there is no weight file {path}")
    content = _read_shards(path) if path.name.endswith(INDEX_SUFFIX) else _read(path)
    state = _state_dict_in(content, path)
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def _read(path: Path) -> Any:
    """Read one file of any supported format."""
    size = path.stat().st_size
    if size == 0:
        raise WeightsMismatchError(f"{path} is empty (0 bytes): fetch it again")
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
        return _read_torch(path, size, is_zip=head.startswith(b"PK"))
    raise WeightsMismatchError(
        f"{path} is neither a safetensors nor a torch file: its {size} bytes begin with {head[:16]!r}"
    )


def _read_safetensors(path: Path, size: int) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        promised = _promised_size(path)
        if promised is not None and size < promised:
            raise WeightsMismatchError(
                f"{path} is cut short: {size} of at least {promised} bytes are there; fetch it again"
            ) from error
        raise WeightsMismatchError(f"{path} ({size} bytes) is not a safetensors file: {error}") from error


def _promised_size(path: Path) -> int | None:
    """Return how many bytes a safetensors file's header promises at least; None where the header itself is damaged."""
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
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


def _read_torch(path: Path, size: int, is_zip: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # a damaged pickle can fail in any way; the cause is kept
        # Torch's own text advises to load without the guard; what matters in it is which object it refused.
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise WeightsMismatchError(
                f"{path} holds {refused[1]}, not only tensors; such a file can run code when it is read, so it is not: "
                "save its state dict alone, or as safetensors, with the program that made it"
            ) from error
        raise WeightsMismatchError(
            f"{path} ({size} bytes) is damaged or cut short, or no torch file of weights: fetch it again"
        ) from error


def _read_shards(index: Path) -> dict[str, Tensor]:
    """Read all shards of an index; each tensor from the shard that the index names."""
    lacking = missing_shards(index)
    if lacking:
        raise MissingWeightsError(f"{', '.join(lacking)} must lie beside {index}, which names them")
    names_of: dict[str, set[str]] = defaultdict(set)
    for name, shard in read_index(index).items():
        names_of[shard].add(name)
    state: dict[str, Tensor] = {}
    for shard, names in sorted(names_of.items()):
        content = _state_dict_in(_read(index.parent / shard), index.parent / shard)
        if content.keys() != names:
            differing = sorted(content.keys() ^ names)
            raise WeightsMismatchError(
                f"{index.parent / shard} does not hold what {index.name} says: {len(differing)} names differ, "
                f"the first is {differing[0]}"
            )
        state.update(content)
    return state


def _state_dict_in(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the one state dict in what a file holds."""
    if not isinstance(content, Mapping):
        raise WeightsMismatchError(f"{path} holds a {type(content).__name__}, not a state dict")
    if not content:
        raise WeightsMismatchError(f"{path} holds an empty state dict")
    wrapped = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
    if len(wrapped) > 1:
        raise WeightsMismatchError(
            f"{path} holds several state dicts ({', '.join(wrapped)}): save the one that is meant"
        )
    if wrapped:
        return _state_dict_in(content[wrapped[0]], path)
    others = [str(name) for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if others:
        raise WeightsMismatchError(
            f"{path} holds no state dict: {len(others)} of its {len(content)} entries are no named tensors "
            f"({', '.join(others[:5])}), and there is none under {', '.join(WRAPPERS)}"
        )
    return {name: tensor.detach() for name, tensor in content.items()}
