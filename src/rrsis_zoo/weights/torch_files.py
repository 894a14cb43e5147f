"""Torch files, read without running code that they may hold and without being asked for more than they are.

What is read: zip archives of torch since 1.6, and the pickles of before. What is refused by its kind, before torch sees
it: TorchScript archives (``torch.jit.save``), tar files, packed zip members, and pickles that name anything but tensors
in plain containers (`rrsis_zoo.weights.pickles`). Then ``torch.load(weights_only=True)`` reads, which is what keeps
code from running.
"""

from __future__ import annotations

import io
import mmap
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from rrsis_zoo.errors import WeightsMismatchError
from rrsis_zoo.weights.pickles import Refused, examine

ZIP, PICKLE = b"PK\x03\x04", b"\x80"
"""How a torch file begins: the archive, and the pickle of before torch 1.6."""

_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the first of the five pickles that torch used to write
_PICKLES = 5
_DIRECTORY = b"PK\x05\x06"  # of an archive, at its end
_PICKLE_LIMIT = 2**28  # bytes; 100,000 tensors take 20 MB

_examined: set[tuple[int, ...]] = set()


def read_torch(path: Path) -> Any:
    """Return what a torch file holds, tensors mapped from it where it is an archive.

    Args:
        path: of a regular file that begins as `ZIP` or `PICKLE` says.

    Raises:
        WeightsMismatchError: the file holds code or more than tensors in plain containers, is damaged or cut short, or
            is of another kind.
    """
    with path.open("rb") as file:
        is_zip = file.read(4) == ZIP
    stat = path.stat()
    version = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if version not in _examined:  # large files are opened many times while they are read
        try:
            (_examine_zip if is_zip else _examine_pickles)(path, stat.st_size)
        except Refused as error:
            raise WeightsMismatchError(_refusal(path, str(error))) from error
        _examined.add(version)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch thinks of damaged files, which the error says
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # a damaged file can fail in any way; the cause is kept
        raise WeightsMismatchError(_damaged(path)) from error


def _refusal(path: Path, what: str) -> str:
    if not what:
        return _damaged(path)
    return (
        f"{path} holds {what}, not only tensors; such a file can run code when it is read, so it is not: "
        "save its state dict alone, or as safetensors, with the program that made it"
    )


def _damaged(path: Path) -> str:
    size = path.stat().st_size
    return f"{path} ({size} bytes) is damaged or cut short, or no torch file of weights: save or fetch it again"


def _examine_zip(path: Path, size: int) -> None:
    """Look at an archive's directory and its pickles."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            pickles = [member for member in members if member.filename.endswith("data.pkl")]
            if any(name.endswith("constants.pkl") for name in names):
                raise WeightsMismatchError(
                    f"{path} is a TorchScript archive, a program with its weights: save the state dict alone, with "
                    "torch.save or as safetensors"
                )
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise WeightsMismatchError(f"{path} has packed members, which torch does not write: save it again")
            if len(set(names)) < len(names) or sum(member.file_size for member in members) > size:
                raise Refused("")
            if not pickles or any(member.file_size > _PICKLE_LIMIT for member in pickles):
                raise Refused("")
            for member in pickles:
                examine(io.BytesIO(archive.read(member)), largest=size)
    except (Refused, WeightsMismatchError):
        raise
    except Exception as error:  # zipfile raises a dozen kinds
        if _has_no_end(path, size):
            raise WeightsMismatchError(
                f"{path} ({size} bytes) is cut short: it begins as a torch file does, and the directory at its end is "
                "missing; save or fetch it again"
            ) from error
        raise Refused("") from error


def _has_no_end(path: Path, size: int) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, size - 2**16))
        return _DIRECTORY not in file.read()


def _examine_pickles(path: Path, size: int) -> None:
    """Look at the pickles that stand before the numbers in files of before torch 1.6."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        old = content[: len(_MAGIC)] == _MAGIC
        for _ in range(_PICKLES if old else 1):
            examine(content, largest=size)  # type: ignore[arg-type] - it reads like a file
        if not old:
            raise Refused("")
