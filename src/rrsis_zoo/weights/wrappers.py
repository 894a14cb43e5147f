"""Parts that compiled, sharded and data parallel modules add to names of parameters. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from rrsis_zoo.errors import WeightsMismatchError

T = TypeVar("T")

_PARTS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_forward_module", "_checkpoint_wrapped_module"})
"""Of torch.compile, FSDP, Lightning Fabric and activation checkpointing: one part each, anywhere in a name."""

_PARALLEL = "module."
"""Data parallel training prefixes every name with it; as another part of a name it may be a module's own."""


def own_name(name: str) -> str:
    """Return a name without the parts that wrappers add.

    Example:
        >>> own_name("model._orig_mod.sam._orig_mod.neck.weight")
        'model.sam.neck.weight'
    """
    return ".".join(part for part in name.split(".") if part not in _PARTS)


def own_names(state: Mapping[str, T], what: str = "the state dict") -> dict[str, T]:
    """Return a state dict with names without the parts of wrappers, and without a ``module.`` that all names share.

    Args:
        state: names to anything.
        what: description of it, for error messages.

    Raises:
        WeightsMismatchError: two entries would have the same name.
    """
    clean: dict[str, T] = {}
    for name, value in state.items():
        if (own := own_name(name)) in clean:
            raise WeightsMismatchError(f"{what} has {own} twice: once under the name of a wrapper, {name}")
        clean[own] = value
    while clean and all(name.startswith(_PARALLEL) for name in clean):
        clean = {name.removeprefix(_PARALLEL): value for name, value in clean.items()}
    return clean


def is_lora(name: str) -> bool:
    """Return whether a parameter belongs to a low-rank adapter, by its name in any version of peft."""
    return any(part.startswith("lora_") for part in name.split("."))
