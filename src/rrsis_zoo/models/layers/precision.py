"""Models whose parameters are of another number type than float32: ``model.half()`` and its like.

Some steps compute in float32 whatever the type; what comes out of them meets the parameters again here. Under autocast,
which casts by itself, and in float32, nothing is changed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call


def cast(x: Tensor, like: Tensor) -> Tensor:
    """Return a tensor in another's number type; as it is under autocast."""
    return x if torch.is_autocast_enabled(x.device.type) else x.to(like.dtype)


def fourier_code(module: nn.Module, size: tuple[int, int]) -> Tensor:
    """Return the code (D, h, w) of SAM's ``PositionEmbeddingRandom``, computed in float32, in its matrix's type."""
    name = "positional_encoding_gaussian_matrix"
    matrix = module.get_buffer(name)
    if matrix.dtype == torch.float32:
        return module(size)
    return functional_call(module, {name: matrix.float()}, (size,)).to(matrix.dtype)
