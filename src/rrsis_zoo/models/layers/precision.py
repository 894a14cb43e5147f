"""Support for models with parameters of another dtype than float32: ``model.half()`` and similar.

Some steps always compute in float32; here their results are cast back to the parameters' dtype. Under autocast, which
casts by itself, and in float32 nothing changes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rrsis_zoo.errors import ConfigError

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""The supported dtypes of a model."""


def cast(x: Tensor, like: Tensor) -> Tensor:
    """Return a tensor in another's dtype; unchanged under autocast."""
    return x if torch.is_autocast_enabled(x.device.type) else x.to(like.dtype)


def fourier_code(module: nn.Module, size: tuple[int, int]) -> Tensor:
    """Return the code (D, h, w) of SAM's ``PositionEmbeddingRandom``, computed in float32, in the matrix's dtype."""
    name = "positional_encoding_gaussian_matrix"
    matrix = module.get_buffer(name)
    if matrix.dtype == torch.float32:
        return module(size)
    return functional_call(module, {name: matrix.float()}, (size,)).to(matrix.dtype)


def check_floats(module: nn.Module, name: str, left_out: frozenset[str] = frozenset()) -> None:
    """Refuse a model with weights of several dtypes, or of an unsupported one.

    Args:
        module: the model.
        name: of the model, for error messages.
        left_out: names of parameters that may have another one.

    Raises:
        ConfigError: the weights have several dtypes, or an unsupported one.
    """
    dtypes = {p.dtype for key, p in module.named_parameters() if p.is_floating_point() and key not in left_out}
    dtypes |= {b.dtype for b in module.buffers() if b.is_floating_point()}
    if len(dtypes) == 1 and dtypes <= set(FLOATS):
        return
    names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
    raise ConfigError(
        f"the weights of this {name} are {names}: they must all be float32, float16, bfloat16 or float64; "
        "model.float() makes them float32 (for mixed precision keep float32 weights and use torch.autocast)"
    )
