"""Selection of rows of a tensor with a reproducible gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rows(x: Tensor, index: Tensor) -> Tensor:
    """Return ``x[index]``.

    The gradients of several expressions of one image are summed. On the CPU torch's own gradient of indexing sums them
    in an order that depends on its threads, so that a training with one seed and several threads is not reproducible.
    Here they are summed in the order of the index; on a GPU torch does so itself.

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
