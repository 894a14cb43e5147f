"""Whole models in other floats than float32: ``model.half()``, ``model.to(torch.bfloat16)``, ``model.double()``.

Pictures, resized maps and position codes are made in float32 whatever the model is in, because eight bits of mantissa
do not hold them; they take the weights' dtype where they enter a layer. In float32 nothing happens, and under autocast
the weights are in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rrsis_zoo.errors import ConfigError

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""What a model may be in."""


def as_weights(x: Tensor, module: nn.Module) -> Tensor:
    """Return a float tensor in the dtype of a module's weights."""
    return x.to(next(module.parameters()).dtype)


def float_dtype(module: nn.Module, name: str) -> torch.dtype:
    """Return the one dtype that all of a module's floats have.

    Args:
        module: the model.
        name: what it is called in an error.

    Raises:
        ConfigError: it has several, or one that nothing is computed in.
    """
    found = {p.dtype for p in module.parameters() if p.is_floating_point()}
    found |= {b.dtype for b in module.buffers() if b.is_floating_point()}
    if len(found) == 1 and found <= set(FLOATS):
        return found.pop()
    said = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in found))
    raise ConfigError(
        f"the weights of this {name} are {said}: they must all be float32, float16, bfloat16 or float64; "
        "model.float() makes them float32 (for mixed precision keep them so, and use torch.autocast)"
    )


def position_code(code: nn.Module, height: int, width: int) -> Tensor:
    """Return SAM's random Fourier code of a grid, (D, height, width), computed in float32, in its matrix's dtype.

    Args:
        code: a ``PositionEmbeddingRandom`` of segment_anything or sam2, which take their matrix for float32.
        height, width: cells of the grid.
    """
    name = "positional_encoding_gaussian_matrix"
    matrix = code.get_buffer(name)
    if matrix.dtype == torch.float32:
        return code((height, width))
    return torch.func.functional_call(code, {name: matrix.float()}, ((height, width),)).to(matrix.dtype)
