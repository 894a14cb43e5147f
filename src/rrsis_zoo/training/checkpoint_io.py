"""Checkpoints written straight to their file."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.plugins.io import TorchCheckpointIO

from rrsis_zoo.weights.saving import save


class DirectCheckpointIO(TorchCheckpointIO):
    """Writes local checkpoints without copies in memory; whole or not at all, like Lightning's own.

    Lightning's gathers the file in memory first and copies it once more to write it: 12 GB beside the 6 GB of
    RSRefSeg 2. Paths that are no local ones are left to it.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint; an interrupted write leaves the earlier file as it was.

        Raises:
            OutputError: it cannot be written.
        """
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        save(checkpoint, path)
