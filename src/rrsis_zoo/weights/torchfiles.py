"""Torch's own files: their structure is looked at before torch reads them, and no code in them is ever run.

``torch.load`` with ``weights_only=True`` refuses what could run code. It trusts the file in the rest: it unpacks what
is packed, and allocates what is asked for. That is checked here.
"""

from __future__ import annotations

import io
import pickletools
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import torch

from rrsis_zoo.errors import WeightsMismatchError
from rrsis_zoo.files import reason

PICKLE_LIMIT = 128 * 2**20
"""Bytes of the description in a torch file, which names the tensors; their values lie beside it. Ours have 1 MB."""


_PICKLES = 5  # of a file of torch before 1.6, before the values begin


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
        if is_zip:
            _check_archive(path, size)
        else:
            file.seek(0)
            _check_pickles(path, file)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except (Exception, RecursionError) as error:  # a damaged pickle can fail in any way; the cause is kept
        # Torch's own text advises to load without the guard; what matters in it is which object it refused.
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise WeightsMismatchError(
                f"{path} holds {refused[1]}, not only tensors; such a file can run code when it is read, so it is not: "
                "save its state dict alone, or as safetensors, with the program that made it"
            ) from error
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
            if sum(m.file_size for m in members) > size:
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
    if b"bytearray" in text:  # large files are opened many times: nearly none is looked at closely
        _check_pickles(path, io.BytesIO(text))


def _check_pickles(path: Path, file: IO[bytes]) -> None:
    """Refuse what torch lets through although it takes memory that the file does not have: ``bytearray(10**10)``."""
    for _ in range(_PICKLES):
        try:
            for operation, argument, _ in pickletools.genops(file):
                if operation.name == "GLOBAL" and str(argument).endswith(" bytearray"):
                    raise WeightsMismatchError(f"{path} holds a bytearray, not only tensors: save its state dict alone")
        except WeightsMismatchError:
            raise
        except Exception:  # genops raises whatever it meets: torch comes to the same place, and says so
            return
