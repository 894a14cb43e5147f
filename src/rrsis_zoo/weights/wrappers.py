"""What wraps a module while it trains or runs, and leaves its own name in the names of the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from rrsis_zoo.errors import WeightsMismatchError

T = TypeVar("T")

_PARTS = frozenset(
    {
        "_orig_mod",  # torch.compile, of the model or of any part of it
        "_fsdp_wrapped_module",
        "_checkpoint_wrapped_module",
        "_forward_module",  # Lightning Fabric
    }
)
_FIRST = "module."  # DistributedDataParallel and DataParallel: a part may be called so itself, hence only in front


def unwrapped_name(name: str) -> str:
    """Return a tensor's name without what wrappers put between.

    Example:
        >>> unwrapped_name("_orig_mod.sam._orig_mod.neck.0.weight")
        'sam.neck.0.weight'
    """
    if "_" not in name:
        return name
    return ".".join(part for part in name.split(".") if part not in _PARTS)


def unwrapped(state: Mapping[str, T], what: str) -> dict[str, T]:
    """Return a state dict under names without wrappers, ``module.`` in front included where all names have it.

    Args:
        state: names to tensors.
        what: what is read, as an error says it.

    Raises:
        WeightsMismatchError: two names are one without wrappers.
    """
    plain = {unwrapped_name(name): tensor for name, tensor in state.items()}
    if len(plain) < len(state):
        seen: set[str] = set()
        twice = next(n for name in state if (n := unwrapped_name(name)) in seen or seen.add(n))
        raise WeightsMismatchError(f"{what} holds {twice} twice, with and without the name of a wrapper")
    while plain and all(name.startswith(_FIRST) for name in plain):
        plain = {name.removeprefix(_FIRST): tensor for name, tensor in plain.items()}
    return plain
