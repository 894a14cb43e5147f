"""Checkpoints in Lightning's format on the disk: written straight to it, read without running what they may hold."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from rrsis_zoo.errors import ConfigError, WeightsMismatchError
from rrsis_zoo.files import regular_file
from rrsis_zoo.weights.saving import save


class DirectCheckpointIO(TorchCheckpointIO):
    """Writes local checkpoints without copies in memory; whole or not at all. Reads no code.

    Lightning serialises a checkpoint to memory before it writes anything: a second and, while the buffer grows, a third
    copy of all weights and optimiser states (three times 5.3 GiB for RSRefSeg's larger size). Here the state goes to
    disk straight from where it lies; only one storage at a time is held, and on a GPU moved first.

    Lightning reads addresses (``https:``, ``s3:``) and, if it is told so, files with the code in them. Here an address
    is refused, and ``weights_only=True`` is not up for choice.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint; targets that are no local path are left to Lightning."""
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        save(checkpoint, path)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = lambda storage, _: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a local checkpoint without running code that it may hold, whatever ``weights_only`` says.

        Raises:
            ConfigError: an address.
            MissingDataError, WeightsMismatchError: it is not there, or damaged.
        """
        return read(local_path(str(path)), map_location=map_location)


def local_path(given: str) -> Path:
    """Return the absolute path of a checkpoint, ``~`` expanded.

    Raises:
        ConfigError: no path of a file on this machine.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", given) and not os.path.exists(given):
        raise ConfigError(
            f"checkpoint {given}: must be a file on this machine; addresses are not read, because what comes from one "
            "could run code: fetch the file and give its path"
        )
    try:
        # absolute: Lightning takes some relative names, such as best, for words of its own
        return Path(given).expanduser().absolute()
    except RuntimeError as error:  # a user without a home folder
        raise ConfigError(f"checkpoint {given}: {error}") from error


def read(path: Path, **options: Any) -> dict[str, Any]:
    """Return what a checkpoint holds; nothing in it is run or imported.

    Args:
        path: of the file.
        **options: of ``torch.load``: ``mmap=True`` leaves the tensors in the file.

    Raises:
        MissingDataError: there is no such file.
        WeightsMismatchError: it is no regular file, damaged or cut short, holds more than tensors and plain values, or
            is no checkpoint.
    """
    regular_file(path, WeightsMismatchError)
    try:
        content = torch.load(path, weights_only=True, **options)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can fail in any way; the cause is kept
        raise WeightsMismatchError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as a checkpoint: it is cut short, damaged, or holds "
            "more than tensors and plain values, which is not read because it could run code"
        ) from error
    if not isinstance(content, dict):
        raise WeightsMismatchError(f"{path} is no checkpoint: it holds a {type(content).__name__}")
    return content
