"""Models whose parameters are of another number type than float32: ``model.half()`` and its like.

Some steps compute in float32 whatever the type; what comes out of them meets the parameters again here. Under autocast,
which casts by itself, and in float32, nothing is changed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rrsis_zoo.errors import ConfigError

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""What a model may be in."""


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


def check_floats(module: nn.Module, name: str) -> None:
    """Refuse a model whose weights are of several number types, or of one that nothing is computed in.

    Args:
        module: the model.
        name: what it is called in an error.

    Raises:
        ConfigError: see there.
    """
    found = {p.dtype for p in module.parameters() if p.is_floating_point()}
    found |= {b.dtype for b in module.buffers() if b.is_floating_point()}
    if len(found) == 1 and found <= set(FLOATS):
        return
    said = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in found))
    raise ConfigError(
        f"the weights of this {name} are {said}: they must all be float32, float16, bfloat16 or float64; "
        "model.float() makes them float32 (for mixed precision keep them so, and use torch.autocast)"
    )
