"""Torch's own files: their structure is looked at before torch reads them, and no code in them is ever run.

``torch.load`` with ``weights_only=True`` refuses what could run code. It trusts the file in the rest: it unpacks what
is packed, allocates what is asked for, and hashes whatever is a key. That is checked here and in
`rrsis_zoo.weights.pickles`.
"""

from __future__ import annotations

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
"""Bytes of the description in a torch file, which names the tensors; their values lie beside it. Ours have 1 MB."""

_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the first pickle of a file of torch before 1.6
_PICKLES = 5  # of such a file, before the values begin
_examined: set[tuple[int, ...]] = set()


def read_torch(path: Path) -> Any:
    """Return what a torch file holds; tensors are mapped from files of torch 1.6 and later.

    Args:
        path: of a regular file.

    Raises:
        WeightsMismatchError: no torch file, cut short, damaged, packed, or with more than plain values and tensors.
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
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # a damaged file can fail in any way; the cause is kept
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise WeightsMismatchError(
                f"{path} ({size} bytes) asks for more memory than there is: it is damaged, or too large"
            ) from error
        raise WeightsMismatchError(
            f"{path} ({size} bytes) is damaged or cut short, or no torch file of weights: fetch it again"
        ) from error


def _check_archive(path: Path, size: int) -> None:
    """Refuse an archive that torch has not written like this: cut short, packed, or of another kind."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            packed = [m.filename for m in members if m.compress_type != zipfile.ZIP_STORED or m.flag_bits & 1]
            if packed:
                raise WeightsMismatchError(f"{path} holds packed members ({packed[0]}), which torch never writes")
            # stored members are as long as they are packed; zipfile reads by the one number, and checks by the other
            if sum(m.file_size for m in members) > size or any(m.file_size != m.compress_size for m in members):
                raise WeightsMismatchError(f"{path} ({size} bytes) promises more bytes than it has: it is damaged")
            names = {m.filename.partition("/")[2] for m in members}
            if "constants.pkl" in names:
                raise WeightsMismatchError(
                    f"{path} is a TorchScript program, not weights: save its state dict with the program that made it"
                )
            described = [m for m in members if m.filename.endswith("/data.pkl")]
            if len(described) != 1:
                raise WeightsMismatchError(f"{path} is a zip archive, but no torch file of weights: it has no data.pkl")
            if described[0].file_size > PICKLE_LIMIT:
                raise WeightsMismatchError(f"{path} describes its tensors in {described[0].file_size} bytes: too many")
            text = archive.read(described[0])
    except zipfile.BadZipFile as error:
        raise WeightsMismatchError(
            f"{path} ({size} bytes) is cut short or damaged: its end is missing; copy or fetch it again"
        ) from error
    except (OSError, ValueError, NotImplementedError, struct.error, zlib.error, EOFError, RuntimeError) as error:
        raise WeightsMismatchError(f"{path} ({size} bytes) is damaged ({reason(error)}): fetch it again") from error
    _examine(path, io.BytesIO(text), size)


def _check_pickles(path: Path, size: int) -> None:
    """Look at the pickles that stand before the values in a file of before torch 1.6."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for _ in range(_PICKLES if content[: len(_MAGIC)] == _MAGIC else 1):
            _examine(path, content, size)


def _examine(path: Path, pickle: Any, size: int) -> None:
    """Refuse a pickle that names anything but tensors in plain containers, or that asks for more than the file has."""
    try:
        examine(pickle, largest=size)
    except Refused as error:
        if not str(error):
            raise WeightsMismatchError(
                f"{path} ({size} bytes) is damaged or cut short, or no torch file of weights: fetch it again"
            ) from error
        raise WeightsMismatchError(
            f"{path} holds {error}, not only tensors; such a file can run code when it is read, so it is not: "
            "save its state dict alone, or as safetensors, with the program that made it"
        ) from error
