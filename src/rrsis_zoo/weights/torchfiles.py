"""Torch files: their structure is checked before torch reads them, and no code in them is ever run.

``torch.load`` with ``weights_only=True`` refuses anything that could run code. Otherwise it trusts the file: it
decompresses, allocates whatever size is requested, and hashes any key. That is checked here and in
`rrsis_zoo.weights.pickles`.
"""

from __future__ import annotations

import argparse
import io
import mmap
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from rrsis_zoo.errors import WeightsMismatchError
from rrsis_zoo.files import reason
from rrsis_zoo.weights.pickles import Refused, examine

PICKLE_LIMIT = 128 * 2**20
"""Largest size in bytes of the pickle in a torch file, which names the tensors but has no values. Ours take 1 MB."""

_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the first pickle in a file from torch before 1.6
_PICKLES = 5  # in such a file, before the values
_examined: set[tuple[int, ...]] = set()


def read_torch(path: Path) -> Any:
    """Return the content of a torch file; tensors are memory-mapped if it is from torch 1.6 or later.

    Args:
        path: of a regular file.

    Raises:
        WeightsMismatchError: not a torch file, truncated, damaged, compressed, or not only plain values and tensors.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    stat = path.stat()
    version = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if version not in _examined:  # a large file is opened many times while it is read
        (_check_archive if is_zip else _check_pickles)(path, size)
        _examined.add(version)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # see `rrsis_zoo.weights.pickles`
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # a damaged file can fail in any way; the cause is kept
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise WeightsMismatchError(
                f"{path} ({size} bytes) needs more memory than there is: it is damaged, or too large"
            ) from error
        raise WeightsMismatchError(
            f"{path} ({size} bytes) is damaged, truncated or not a torch file of weights: fetch it again"
        ) from error


def _check_archive(path: Path, size: int) -> None:
    """Refuse an archive that torch cannot have written: truncated, compressed, or of another kind."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            packed = [m.filename for m in members if m.compress_type != zipfile.ZIP_STORED or m.flag_bits & 1]
            if packed:
                raise WeightsMismatchError(
                    f"{path} has compressed or encrypted members ({packed[0]}), which torch never writes"
                )
            # the two sizes of a stored member are equal; zipfile reads by one of them, and checks the other
            if sum(m.file_size for m in members) > size or any(m.file_size != m.compress_size for m in members):
                raise WeightsMismatchError(f"{path} ({size} bytes) declares more bytes than it has: it is damaged")
            names = {m.filename.partition("/")[2] for m in members}
            if "constants.pkl" in names:
                raise WeightsMismatchError(
                    f"{path} is a TorchScript program, not weights: save its state dict with the program that made it"
                )
            described = [m for m in members if m.filename.endswith("/data.pkl")]
            if len(described) != 1:
                raise WeightsMismatchError(
                    f"{path} is a zip archive but not a torch file of weights: it has no data.pkl"
                )
            if described[0].file_size > PICKLE_LIMIT:
                raise WeightsMismatchError(
                    f"{path} has a description of {described[0].file_size} bytes, at most {PICKLE_LIMIT} are accepted"
                )
            text = archive.read(described[0])
    except zipfile.BadZipFile as error:
        raise WeightsMismatchError(
            f"{path} ({size} bytes) is truncated or damaged: its end is missing; copy or fetch it again"
        ) from error
    except (OSError, ValueError, NotImplementedError, struct.error, zlib.error, EOFError, RuntimeError) as error:
        raise WeightsMismatchError(f"{path} ({size} bytes) is damaged ({reason(error)}): fetch it again") from error
    _examine(path, io.BytesIO(text), size)


def _check_pickles(path: Path, size: int) -> None:
    """Check the pickles that precede the values in a file from torch before 1.6."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for _ in range(_PICKLES if content[: len(_MAGIC)] == _MAGIC else 1):
            _examine(path, content, size)


def _examine(path: Path, pickle: Any, size: int) -> None:
    """Refuse a pickle with anything but tensors in plain containers, or with larger tensors than the file."""
    try:
        examine(pickle, largest=size)
    except Refused as error:
        if not str(error):
            raise WeightsMismatchError(
                f"{path} ({size} bytes) is damaged, truncated or not a torch file of weights: fetch it again"
            ) from error
        raise WeightsMismatchError(
            f"{path} holds {error}, not only tensors; it is not read, because such a file can run code: save only its "
            "state dict, or save it as safetensors, with the program that made it"
        ) from error
