"""Gradient checkpointing of chosen blocks, and frozen weights in half the memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_LISTS = ("blocks", "layers", "layer")
"""Names of the lists of equal blocks in encoders and decoders."""
_STORED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
"""Modules whose weights autocast casts at every call, so that they may as well be stored so."""


def blocks_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the blocks of all encoders and decoders by name, for instance ``sam.image_encoder.blocks.0``.

    A list of single layers, as in a perceptron, is none of blocks.
    """
    return {
        f"{name}.{i}": block
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and name.rpartition(".")[2] in _LISTS
        for i, block in enumerate(module)
        if any(True for _ in block.children())
    }


class _Recomputed:
    """In the place of a block's ``forward``: its intermediate results are recomputed for its gradient, not kept."""

    def __init__(self, block: nn.Module) -> None:
        self.block = block

    def __call__(self, *args: Any, **named: Any) -> Any:
        forward: Callable[..., Any] = type(self.block).forward
        block = self.block
        if not torch.is_grad_enabled():
            return forward(block, *args, **named)

        def run(*given: Any) -> Any:
            return forward(block, *given, **named)

        return checkpoint(run, *args, use_reentrant=False)


def recompute(block: nn.Module, on: bool) -> None:
    """Turn the checkpointing of one block on or off; names of parameters stay what they are."""
    block.__dict__.pop("forward", None)
    if on:
        block.__dict__["forward"] = _Recomputed(block)


def store_frozen(model: nn.Module, dtype: torch.dtype) -> frozenset[str]:
    """Store the frozen weights of linear layers and convolutions in another dtype, in place.

    Norms, biases, embeddings and everything that is trained stay as they are. ``state_dict`` still gives float32, on
    the CPU, so that no file changes its form.

    Returns:
        Names of these weights.
    """
    names = []
    for name, module in model.named_modules():
        weight = module.weight if isinstance(module, _STORED) else None
        if isinstance(weight, nn.Parameter) and not weight.requires_grad and weight.dtype == torch.float32:
            weight.data = weight.data.to(dtype)
            names.append(f"{name}.weight")
    stored = frozenset(names)

    def in_float32(_: nn.Module, state: dict[str, Tensor], prefix: str, __: Any) -> None:
        for name in stored:
            if (tensor := state.get(prefix + name)) is not None:
                state[prefix + name] = tensor.detach().cpu().float()

    if stored:
        model.register_state_dict_post_hook(in_float32)
    return stored
