"""Checkpoints written straight to their file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from rrsis_zoo.errors import WeightsMismatchError
from rrsis_zoo.files import regular_file
from rrsis_zoo.training.given_checkpoint import local_path


class DirectCheckpointIO(TorchCheckpointIO):
    """Writes local checkpoints without copies in memory; whole or not at all, like Lightning's own.

    Lightning's gathers the file in memory first and copies it once more to write it: 12 GB beside the 6 GB of
    RSRefSeg 2. Paths that are no local ones are left to it.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint; an interrupted write leaves the earlier file as it was."""
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.part")
        torch.save(checkpoint, temporary)
        os.replace(temporary, target)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = lambda storage, _: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a local checkpoint without running code that it may hold, whatever ``weights_only`` says.

        Raises:
            ConfigError: an address: what comes from one could run code.
            MissingDataError, WeightsMismatchError: it is not there, or damaged.
        """
        local = regular_file(local_path(str(path)), WeightsMismatchError)
        try:
            return torch.load(local, map_location=map_location, weights_only=True)
        except Exception as error:  # a damaged file can fail in any way; the cause is kept
            raise WeightsMismatchError(f"{local} cannot be read as a checkpoint: it is damaged or cut short") from error
