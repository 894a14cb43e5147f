"""Checkpoint files in Lightning's format: written without copies in memory, read without running code."""

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
    """Writes local checkpoints without copies in memory, completely or not at all, and never runs code in them.

    Lightning serialises a checkpoint to memory before it writes anything: a second and, while the buffer grows, a third
    copy of all weights and optimiser states (three times 5.3 GiB for RSRefSeg's larger size). Here the state is written
    directly; only storages on a GPU are copied, one at a time.

    Lightning reads URLs (``https:``, ``s3:``) and, on request, files that contain code. Here a URL is refused, and
    ``weights_only=True`` is always used.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint; targets that are not a local path are left to Lightning."""
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        save(checkpoint, path)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = lambda storage, _: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a local checkpoint without running code in it, regardless of ``weights_only``.

        Raises:
            ConfigError: a URL.
            MissingDataError: the file does not exist.
            WeightsMismatchError: it is damaged, or not a checkpoint.
        """
        return read(local_path(str(path)), map_location=map_location)


def local_path(text: str) -> Path:
    """Return the absolute path of a checkpoint, ``~`` expanded.

    Raises:
        ConfigError: not a path on this machine.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text) and not os.path.exists(text):
        raise ConfigError(
            f"checkpoint {text}: must be a file on this machine; URLs are not read, because the file could run code: "
            "fetch it and give its path"
        )
    try:
        # absolute: some relative names, such as best, are keywords for Lightning
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # a user without a home folder
        raise ConfigError(f"checkpoint {text}: {error}") from error


def read(path: Path, **options: Any) -> dict[str, Any]:
    """Return the content of a checkpoint; nothing in it is run or imported.

    Args:
        path: of the file.
        **options: of ``torch.load``: ``mmap=True`` leaves the tensors in the file.

    Raises:
        MissingDataError: the file does not exist.
        WeightsMismatchError: it is not a regular file, damaged or truncated, holds more than tensors and plain values,
            or is not a checkpoint.
    """
    regular_file(path, WeightsMismatchError)
    try:
        content = torch.load(path, weights_only=True, **options)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can fail in any way; the cause is kept
        raise WeightsMismatchError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as a checkpoint: it is truncated, damaged, or holds "
            "more than tensors and plain values, which is not read because it could run code"
        ) from error
    if not isinstance(content, dict):
        raise WeightsMismatchError(f"{path} is not a checkpoint: it holds a {type(content).__name__}")
    return content
