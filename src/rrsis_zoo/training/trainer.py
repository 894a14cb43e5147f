"""Lightning's trainer with the intended types of its options, and with safe restoring of checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector

from rrsis_zoo.errors import ConfigError, RRSISError, WeightsMismatchError

Batches = int | float | None
"""An integer is a number of batches, a float a share of them: 1 is one batch, 1.0 all of them."""

_LONGEST = 300  # characters of torch's own message


class OwnCheckpoints(_CheckpointConnector):
    """Restores only the requested checkpoint, without running code, and reports failures in one line.

    Lightning's own connector also picks up checkpoints with a cluster's name (``hpc_ckpt_1.ckpt``) in the working
    folder, and can raise any error on unexpected content.
    """

    @property
    def _hpc_resume_path(self) -> None:
        return None

    def resume_start(self, checkpoint_path: Any = None, weights_only: bool | None = None) -> None:
        """Read the checkpoint without running code in it, regardless of ``weights_only``."""
        with restoring(checkpoint_path):
            super().resume_start(checkpoint_path, weights_only=True)

    def restore_model(self) -> None:
        """Restore the model's weights."""
        with restoring(self._ckpt_path):
            super().restore_model()

    def restore_callbacks(self) -> None:
        """Restore the callbacks."""
        with restoring(self._ckpt_path):
            super().restore_callbacks()

    def restore_training_state(self) -> None:
        """Restore the progress of the training."""
        with restoring(self._ckpt_path):
            super().restore_training_state()


@contextlib.contextmanager
def restoring(path: Any) -> Iterator[None]:
    """Turn any failure to restore a checkpoint into an error that names it.

    Raises:
        WeightsMismatchError: for any error, except our own, errors of settings, and lack of memory.
    """
    try:
        yield
    except (RRSISError, MisconfigurationException, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a file's content can be wrong in any way; the cause is kept
        why = " ".join(str(error).split())
        why = why if len(why) <= _LONGEST else f"{why[: _LONGEST - 1]}…"
        raise WeightsMismatchError(
            f"{path} cannot be restored, its content is not that of a checkpoint of this run: "
            f"{type(error).__name__}: {why}"
        ) from error


class RRSISTrainer(Trainer):
    """A `lightning.Trainer` whose ``limit_…_batches`` are read as integers if they are written as such.

    Lightning's own annotations name float first, so that its command line reads 1, one batch, as 1.0, all batches.

    Args:
        limit_train_batches, limit_val_batches, limit_test_batches, limit_predict_batches: see ``Batches``;
            None for all.
        overfit_batches: see ``Batches``; 0 for none.
        accumulate_grad_batches: batches per optimiser step, at least 1.
        check_val_every_n_epoch: epochs from one validation to the next, at least 1; None to count batches instead.
        **options: of `lightning.Trainer`.

    Raises:
        ConfigError: a number below 1, which Lightning would divide by.
    """

    def __init__(
        self,
        *,
        limit_train_batches: Batches = None,
        limit_val_batches: Batches = None,
        limit_test_batches: Batches = None,
        limit_predict_batches: Batches = None,
        overfit_batches: int | float = 0.0,
        accumulate_grad_batches: int = 1,
        check_val_every_n_epoch: int | None = 1,
        **options: Any,
    ) -> None:
        for name, value in (
            ("accumulate_grad_batches", accumulate_grad_batches),
            ("check_val_every_n_epoch", check_val_every_n_epoch),
        ):
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        super().__init__(
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            overfit_batches=overfit_batches,
            accumulate_grad_batches=accumulate_grad_batches,
            check_val_every_n_epoch=check_val_every_n_epoch,
            **options,
        )
        self._checkpoint_connector = OwnCheckpoints(self)
