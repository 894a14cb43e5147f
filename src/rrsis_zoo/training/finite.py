"""Stops a training at the first loss that is not finite, before anything is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rrsis_zoo.errors import NotFiniteError


class _Look(NamedTuple):
    names: tuple[str, ...]
    flags: Tensor  # one for each name, 1 if it is not finite; on the CPU, but the copy may not be complete
    ready: Any  # GPU event that marks the end of the copy; None if there is none
    step: int
    epoch: int


class FiniteWatch:
    """Checks every loss without waiting for a GPU, so that an error may come a step later.

    `settle` waits; it is called before anything is written or scored.
    """

    def __init__(self) -> None:
        self._looks: deque[_Look] = deque()

    def look(self, terms: Mapping[str, Tensor], trainer: Any) -> None:
        """Record a step's losses, of all processes if there are several.

        Args:
            terms: name -> scalar.
            trainer: None for a step outside a training.

        Raises:
            NotFiniteError: one of them, or of an earlier step's, is not finite.
        """
        values = torch.stack([value.detach().float() for value in terms.values()])
        flags = values.isfinite().logical_not().float()
        if trainer is not None and trainer.world_size > 1:
            flags = trainer.strategy.reduce(flags, reduce_op="max")
        ready = None
        if flags.device.type == "cuda":
            there = torch.empty(flags.shape, pin_memory=True)
            there.copy_(flags, non_blocking=True)
            ready = torch.cuda.Event()
            ready.record()
            flags = there
        step, epoch = (0, 0) if trainer is None else (trainer.global_step + 1, trainer.current_epoch)
        self._looks.append(_Look(tuple(terms), flags, ready, step, epoch))
        self._tell(trainer, wait=False)

    def settle(self, trainer: Any, model: nn.Module) -> None:
        """Wait for the recorded losses, and check the weights: after a finite loss a gradient may still be infinite.

        Raises:
            NotFiniteError: a loss or a weight is not finite.
        """
        self._tell(trainer, wait=True)
        if spoiled := not_finite(model):
            more = f" and {len(spoiled) - 3} more" if len(spoiled) > 3 else ""
            raise NotFiniteError(
                f"weights are not finite after step {trainer.global_step} (epoch {trainer.current_epoch}): "
                f"{', '.join(spoiled[:3])}{more}; the loss was finite, a gradient was not{_advice(trainer)}"
            )

    def _tell(self, trainer: Any, wait: bool) -> None:
        while self._looks and (wait or self._looks[0].ready is None or self._looks[0].ready.query()):
            look = self._looks.popleft()
            if look.ready is not None:
                look.ready.synchronize()
            bad = [name for name, flag in zip(look.names, look.flags.tolist(), strict=True) if flag]
            if bad:
                parts = [name for name in bad if name != "loss"] or bad
                raise NotFiniteError(
                    f"the loss is not finite at step {look.step} (epoch {look.epoch}): {', '.join(parts)}"
                    f"{_advice(trainer)}"
                )


def not_finite(model: nn.Module) -> list[str]:
    """Return the names of trained parameters and of buffers that hold an infinity or a NaN; waits for the device."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    named += [(name, b) for name, b in model.named_buffers() if b.is_floating_point()]
    if not named:
        return []
    flags = torch.stack([tensor.detach().isfinite().all() for _, tensor in named]).tolist()
    return [name for (name, _), fine in zip(named, flags, strict=True) if not fine]


def _advice(trainer: Any) -> str:
    if trainer is None:
        return ""
    rates = {f"{group['lr']:.3g}" for optimiser in trainer.optimizers for group in optimiser.param_groups}
    rates_text = f"learning rates {', '.join(sorted(rates, key=float))}" if rates else "unknown learning rates"
    return f" ({rates_text}): lower them with --model.init_args.rate_factor, or set --trainer.gradient_clip_val"
