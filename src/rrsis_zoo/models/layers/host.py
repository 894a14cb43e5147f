"""Values that come from the host: how they reach a GPU without a wait, and work on tensors of equal sizes together.

A copy from ordinary memory to a GPU, and every question about a tensor's values (``item``, ``tolist``, ``nonzero``, a
boolean index), stops the program until the GPU has done all its work. Nothing between a batch and its loss, or its
masks, may do so; tests/models/test_no_waiting.py holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_TOGETHER = 2**23
"""Values of an image beyond which it is worked on alone: for large ones memory is scarce, and calls cost nothing."""


def to_device(host: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor of the host on a device; a GPU's copy is queued, from page-locked memory, and not waited for."""
    device = torch.device(device)
    if device.type == "cpu" or host.device.type != "cpu":
        return host.to(device)
    return (host.pin_memory() if device.type == "cuda" else host).to(device, non_blocking=True)


def constant(values: Sequence[float], like: Tensor) -> Tensor:
    """Return a few numbers as a tensor of another's dtype and device, filled in there instead of copied."""
    return torch.stack([like.new_full((), value) for value in values])


def picked(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    """Return ``tensor[rows]`` for a list of rows."""
    return tensor[to_device(torch.tensor(rows, dtype=torch.int64), tensor.device)]


def in_groups(function: Callable[[Tensor], Tensor], tensors: Sequence[Tensor]) -> Tensor:
    """Return a function's results for several tensors, those of equal sizes computed together.

    Args:
        function: from (G, …) to (G, …), each of the G by itself; all results have one size.
        tensors: M of any sizes, at least one.

    Returns:
        (M, …).
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, tensor in enumerate(tensors):
        key = (*tensor.shape, i) if tensor.numel() > _TOGETHER else tuple(tensor.shape)
        groups.setdefault(key, []).append(i)
    results: dict[int, Tensor] = {}
    for places in groups.values():
        group = torch.stack([tensors[i] for i in places]) if len(places) > 1 else tensors[places[0]][None]
        result = function(group)
        if len(groups) == 1:
            return result
        results |= zip(places, result, strict=True)
    return torch.stack([results[i] for i in range(len(tensors))])
