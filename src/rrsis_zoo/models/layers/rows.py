"""Rows of a tensor, with a gradient that is the same every time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rows(x: Tensor, index: Tensor) -> Tensor:
    """Return ``x[index]``.

    Several expressions of one image add up in the image's gradient. torch's own gradient of an index adds them, on the
    CPU, in whatever order its threads come, so that one seed with several threads does not repeat a training. Here they
    are added in the order of the index; on a GPU torch does that itself.

    Args:
        x: (M, …).
        index: (N,) int64.
    """
    if x.device.type != "cpu" or not (x.requires_grad and torch.is_grad_enabled()):
        return x[index]
    return _Rows.apply(x, index)  # type: ignore[no-any-return]


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(index)
        ctx.shape = x.shape
        return x[index]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (index,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.shape).index_add_(0, index, gradient), None
