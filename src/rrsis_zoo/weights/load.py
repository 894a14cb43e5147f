"""State dicts into modules: strictly, and all of it or nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from rrsis_zoo.errors import WeightsMismatchError

_NAMED = 8  # how many names of each kind an error lists


@dataclass(frozen=True)
class LoadReport:
    """What became of the entries.

    Attributes:
        loaded: names in the module that were written.
        missing: names in the module that the state has not and need not have; they keep their values.
        skipped: reason -> number of entries of the state that were left out; ``"not ours"`` for those that ``rename``
            answered with None.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    skipped: dict[str, int]


def load_into(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    what: str,
    rename: Callable[[str], str | None] | None = None,
    may_be_missing: Callable[[str], bool] | Sequence[str] = (),
    ignore: Mapping[str, str] | None = None,
) -> LoadReport:
    """Copy a state dict into a module's parameters and buffers, in place and in their own dtype and device.

    Every entry must find its place and every place its entry, apart from what is named below; if anything is wrong
    nothing is written. Places are the names of ``module.state_dict()`` (persistent buffers included).

    A layer that is wrapped by LoRA takes the entry of the layer that it wraps: ``a.b.weight`` is written to
    ``a.b.base_layer.weight`` where the module has no ``a.b.weight`` itself. The module's ``lora_`` entries may be
    missing if no ``lora_`` entry is loaded at all: weights of before the adaptation. Some of them without the others
    are a fault.

    Two names for one tensor (tied weights) need one entry; two different ones are refused.

    Args:
        module: the module to fill.
        state: names to tensors.
        what: what is loaded, as an error says it, for instance ``"SigLIP text tower from model.safetensors"``.
        rename: name in the state -> name in the module, or None for an entry that does not belong to this module.
        may_be_missing: names in the module that need no entry: a function of the name, or ``fnmatch`` patterns.
        ignore: ``fnmatch`` pattern of names in the state -> reason why these entries are left out. Asked before
            ``rename``.

    Raises:
        WeightsMismatchError: missing, unexpected, repeated or wrongly shaped entries, or entries of another kind of
            number; one error for all of them.
        ValueError: the module is on the meta device, where there is nothing to copy into.
    """
    places: dict[str, Tensor] = dict(module.state_dict(keep_vars=True))
    for name, place in places.items():
        if place.is_meta:
            raise ValueError(f"{what}: {name} is on the meta device; call module.to_empty(device=...) first")
    wrapped = {_unwrapped(name): name for name in places}

    entries: dict[str, Tensor] = {}
    unexpected: list[str] = []
    clashing: list[str] = []
    skipped: Counter[str] = Counter()
    for given, tensor in state.items():
        reason = next((why for pattern, why in (ignore or {}).items() if fnmatchcase(given, pattern)), None)
        name = None if reason is not None else rename(given) if rename else given
        if name is None:
            skipped["not ours" if reason is None else reason] += 1
            continue
        target = name if name in places else wrapped.get(name)
        if target is None:
            unexpected.append(given if name == given else f"{given} (as {name})")
        elif target in entries:
            clashing.append(f"{given} (as {target}, which another entry fills)")
        else:
            entries[target] = tensor

    shapes = [
        f"{name} ({tuple(entries[name].shape)} in the file, {tuple(places[name].shape)} in the module)"
        for name in entries
        if entries[name].shape != places[name].shape
    ]
    kinds = [
        f"{name} ({entries[name].dtype} in the file, {places[name].dtype} in the module)"
        for name in entries
        if _kind(entries[name]) != _kind(places[name])
    ]
    clashing += _differing_ties(entries, places)

    filled = {id(places[name]) for name in entries}
    unfilled = [name for name in places if name not in entries and id(places[name]) not in filled]
    before_lora = not any(_is_lora(name) for name in entries)
    allowed = _as_function(may_be_missing)
    left = [name for name in unfilled if allowed(name) or (before_lora and _is_lora(name))]
    missing = [name for name in unfilled if name not in set(left)]

    faults = [
        f"{len(names)} {kind}: {', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("wrongly shaped", shapes),
            ("of another kind of number", kinds),
            ("in conflict", clashing),
        )
        if names
    ]
    if faults:
        raise WeightsMismatchError(f"{what} does not fit {type(module).__name__}; {'; '.join(faults)}")

    with torch.no_grad():
        for name, tensor in entries.items():
            places[name].copy_(tensor)
    return LoadReport(tuple(entries), tuple(left), dict(skipped))


def _unwrapped(name: str) -> str:
    """Return the name that an entry had before LoRA wrapped its layer."""
    return ".".join(part for part in name.split(".") if part != "base_layer")


def _is_lora(name: str) -> bool:
    return any(part.startswith("lora_") for part in name.split("."))


def _kind(tensor: Tensor) -> str:
    """Return which casts lose nothing but precision: among floats, among integers, never between."""
    if tensor.is_complex():
        return "complex"
    if tensor.is_floating_point():
        return "float"
    return "bool" if tensor.dtype == torch.bool else "integer"


def _differing_ties(entries: Mapping[str, Tensor], places: Mapping[str, Tensor]) -> list[str]:
    """Return names that share their tensor with an earlier name whose entry has other values."""
    first: dict[int, str] = {}
    found = []
    for name, tensor in entries.items():
        other = first.setdefault(id(places[name]), name)
        if other != name and not torch.equal(tensor, entries[other]):
            found.append(f"{name} (tied to {other}, whose entry differs)")
    return found


def _as_function(names: Callable[[str], bool] | Sequence[str]) -> Callable[[str], bool]:
    if callable(names):
        return names
    if isinstance(names, str):  # a lone string would be taken for a sequence of one-letter patterns
        raise TypeError(f"may_be_missing must be a function or a sequence of patterns, got the string {names!r}")
    return lambda name: any(fnmatchcase(name, pattern) for pattern in names)
