"""Names that programs put around a module's own: compiled, sharded and data parallel modules. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from rrsis_zoo.errors import WeightsMismatchError

T = TypeVar("T")

_PARTS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_forward_module", "_checkpoint_wrapped_module"})
"""torch.compile, FSDP, Lightning Fabric and activation checkpointing: anywhere in a name, each one part of it."""

_PARALLEL = "module."
"""Data parallel training puts it before every name; as a part of a name it may be anybody's."""


def own_name(name: str) -> str:
    """Return a name without the parts of wrappers.

    Example:
        >>> own_name("model._orig_mod.sam._orig_mod.neck.weight")
        'model.sam.neck.weight'
    """
    return ".".join(part for part in name.split(".") if part not in _PARTS)


def own_names(state: Mapping[str, T], what: str = "the state dict") -> dict[str, T]:
    """Return a state dict without the names of wrappers, and without a ``module.`` that all names share.

    Args:
        state: names to anything.
        what: what it is, as an error says it.

    Raises:
        WeightsMismatchError: two entries have one name then.
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
    """Whether a parameter's name is that of a low-rank adapter, of any version of peft."""
    return any(part.startswith("lora_") for part in name.split("."))
