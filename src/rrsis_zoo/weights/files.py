"""Weight files to state dicts and back: safetensors, torch files without code, and sharded sets of either."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from rrsis_zoo.errors import MissingDataError, MissingWeightsError, RRSISError, WeightsMismatchError
from rrsis_zoo.files import parse_json, regular_file, writing
from rrsis_zoo.weights.sources import INDEX_SUFFIX, contained, missing_shards, read_index
from rrsis_zoo.weights.torch_files import PICKLE, ZIP, read_torch
from rrsis_zoo.weights.wrappers import unwrapped

WRAPPERS = ("state_dict", "module", "model")
"""Keys under which training programs keep the state dict among other things (Lightning, DeepSpeed, many scripts)."""

_SAFETENSORS_HEADER_LIMIT = 100_000_000  # bytes; the format's own limit
_LFS_POINTER = b"version https://git-lfs"
_FLOATS = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
_OTHERS = ("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "complex64", "complex128")
_DTYPES = frozenset(getattr(torch, name) for name in (*_FLOATS, *_OTHERS))


# -- reading -----------------------------------------------------------------------------------------------------------


def load_state_dict(path: Path | str) -> dict[str, Tensor]:
    """Read the tensors of a weight file by name.

    The format is told from the content, not from the file's name. Tensors are mapped from the file, not read, wherever
    the format allows it (all but torch files of before 1.6), so that a file larger than the memory can be opened and
    nothing is held twice. Torch files are read without running code that they may hold.

    A state dict inside one of ``WRAPPERS`` is unpacked, and what wraps a module while it trains is left out of the
    names: ``module.`` in front of all of them (data parallel training), ``_orig_mod`` anywhere (``torch.compile``) and
    its like (`rrsis_zoo.weights.wrappers`).

    Args:
        path: a ``.safetensors`` or torch file, or a ``*.index.json`` beside its shards.

    Returns:
        Names to tensors on the CPU, without gradient. They are for reading: some share the file's pages.

    Raises:
        MissingWeightsError: there is no such file, or a shard is not beside its index.
        WeightsMismatchError: the file is empty, cut short, no weight file, holds code, or holds no single state dict.
    """
    path = weight_file(path)
    content = _read_shards(path) if path.name.endswith(INDEX_SUFFIX) else state_dict_in(read_any(path), path)
    return unwrapped(content, str(path))


def weight_file(path: Path | str) -> Path:
    """Return the path of a file that can be read.

    Raises:
        MissingWeightsError: there is none, or a folder.
        WeightsMismatchError: a pipe or a device, or no permission to read it.
    """
    path = Path(path)
    if path.is_dir():
        raise MissingWeightsError(f"there is no weight file {path}: it is a folder")
    try:
        return regular_file(path, WeightsMismatchError)
    except MissingDataError as error:
        raise MissingWeightsError(str(error).replace("there is no file", "there is no weight file", 1)) from error


def is_torch_file(path: Path) -> bool:
    """Whether a file begins as torch's own do, and is not called safetensors."""
    if path.suffix == ".safetensors" or not path.is_file():
        return False
    with _opened(path) as file:
        return file.read(4).startswith((ZIP, PICKLE))


def read_any(path: Path) -> Any:
    """Return what one file of any supported format holds; an empty file and pointers to one are named.

    Raises:
        WeightsMismatchError: as `load_state_dict`.
    """
    with _opened(path) as file:
        head = file.read(64)
    size = path.stat().st_size
    if size == 0:
        raise WeightsMismatchError(f"{path} is empty (0 bytes): fetch it again")
    if head.startswith(_LFS_POINTER):
        raise WeightsMismatchError(
            f"{path} is a Git LFS pointer of {size} bytes, not the weights: run git lfs pull, or fetch the file"
        )
    header = int.from_bytes(head[:8], "little")
    if path.suffix == ".safetensors" or (head[8:9] == b"{" and header <= _SAFETENSORS_HEADER_LIMIT):
        return _read_safetensors(path, size)
    if head.startswith((ZIP, PICKLE)):
        return read_torch(path)
    raise WeightsMismatchError(
        f"{path} is neither a safetensors nor a torch file: its {size} bytes begin with {head[:16]!r}"
    )


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as error:
        raise WeightsMismatchError(f"{path} cannot be read ({error.strerror or error})") from error


def _read_safetensors(path: Path, size: int) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # its own, and torch's for dtypes that it does not know
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
        entries = parse_json(header.decode(), str(path), WeightsMismatchError)
        return 8 + length + max(entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__")
    except (RRSISError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


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
        path = contained(index.parent, shard)
        content = state_dict_in(read_any(path), path)
        if content.keys() != names:
            differing = sorted(content.keys() ^ names)
            raise WeightsMismatchError(
                f"{index.parent / shard} does not hold what {index.name} says: {len(differing)} names differ, "
                f"the first is {differing[0]}"
            )
        state.update(content)
    return state


def state_dict_in(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the one state dict in what a file holds, its tensors plain and without gradient.

    Args:
        content: what was read.
        path: of the file.

    Raises:
        WeightsMismatchError: there is none, or several, or tensors of a kind that no weights have.
    """
    for _ in range(8):  # wrappers in wrappers
        if not isinstance(content, Mapping):
            raise WeightsMismatchError(f"{path} holds a {type(content).__name__}, not a state dict")
        entries = dict(dict.items(content)) if isinstance(content, dict) else dict(content)  # items may be hidden
        if not entries:
            raise WeightsMismatchError(f"{path} holds an empty state dict")
        wrapped = [key for key in WRAPPERS if isinstance(entries.get(key), Mapping)]
        if len(wrapped) > 1:
            raise WeightsMismatchError(
                f"{path} holds several state dicts ({', '.join(wrapped)}): save the one that is meant"
            )
        if not wrapped:
            return _tensors(entries, path)
        content = entries[wrapped[0]]
    raise WeightsMismatchError(f"{path} holds a state dict in too many others")


def _tensors(entries: dict[Any, Any], path: Path) -> dict[str, Tensor]:
    others = [str(name) for name, value in entries.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if others:
        raise WeightsMismatchError(
            f"{path} holds no state dict: {len(others)} of its {len(entries)} entries are no named tensors "
            f"({', '.join(others[:5])}), and there is none under {', '.join(WRAPPERS)}"
        )
    plain = {name: Tensor.detach(tensor) for name, tensor in entries.items()}
    for name, tensor in plain.items():
        if (
            type(tensor) is not Tensor
            or tensor.layout is not torch.strided
            or tensor.device.type != "cpu"
            or tensor.dtype not in _DTYPES
        ):
            raise WeightsMismatchError(f"{path}: {name} is no plain tensor of numbers")
    return plain


# -- writing -----------------------------------------------------------------------------------------------------------


def write_tensors(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as a safetensors file, whole or not at all.

    Args:
        path: of the file; its folder is made.
        state: names to tensors on any device. Tensors that are the same memory (tied weights) are written once, under
            the first name.
        metadata: texts that go into the header.

    Raises:
        OutputError: the file cannot be written; the one that was there before is as it was.
    """
    with writing(path) as temporary:
        put_tensors(temporary, state, metadata)


def put_tensors(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a path that `rrsis_zoo.files.writing` gave; arguments as `write_tensors`.

    Raises:
        OSError: it cannot be written.
    """
    seen: dict[tuple[int, torch.Size], str] = {}
    unique = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tensor.shape)
        if tensor.numel() == 0 or seen.setdefault(place, name) == name:
            unique[name] = tensor.detach().cpu().contiguous()
    path.touch()
    mode = path.stat().st_mode  # as this user's files are; the library's are for nobody else
    try:
        safetensors.torch.save_file(unique, path, metadata={"format": "pt", **(metadata or {})})
    except safetensors.SafetensorError as error:  # what the operating system said is in its text
        code = re.search(r"\(os error (\d+)\)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
    path.chmod(mode)
