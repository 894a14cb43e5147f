"""Logging of gradient norms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from rrsis_zoo.training.loggers import wandb_logger


class GradientNorms(Callback):
    """Logs ``gradients/total`` and ``gradients/GROUP``, the l2 norms of all gradients and of the named groups.

    They belong to the whole step: after accumulation and over all processes, before clipping, without the loss scale
    of half precision. They are only computed at logged steps (``trainer.log_every_n_steps``) and with a W&B logger.
    Strategies that shard parameters (FSDP, DeepSpeed) hold a part of the gradients on each process; the norms are then
    those of the first process's part.
    """

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Lightning hook."""
        if wandb_logger(trainer) is None or not _is_logged(trainer):
            return
        norms = group_norms(optimizer.param_groups)
        pl_module.log_dict({f"gradients/{name}": norm for name, norm in norms.items()}, rank_zero_only=True)


def group_norms(groups: Iterable[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Return the l2 norm of the gradients of every named parameter group with gradients, and of all as ``total``.

    Args:
        groups: an optimiser's, each with ``params`` and ``name``.

    Returns:
        Scalars on the device of the gradients; empty without gradients.
    """
    norms = {}
    for group in groups:
        gradients = [p.grad for p in group["params"] if p.grad is not None]
        if gradients:
            norms[group["name"]] = torch.nn.utils.get_total_norm(gradients)
    return {**norms, "total": torch.stack(list(norms.values())).norm()} if norms else {}


def _is_logged(trainer: Trainer) -> bool:
    """Return whether Lightning passes this step's values to the loggers."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning without a declaration
    return every > 0 and (trainer.global_step + 1) % every == 0
