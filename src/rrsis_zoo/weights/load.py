"""Loading state dicts into modules: strictly, and completely or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from rrsis_zoo.errors import WeightsMismatchError
from rrsis_zoo.weights.finite import not_finite
from rrsis_zoo.weights.wrappers import is_lora, own_name

_NAMED = 8  # names of each kind that an error lists
_PART = 100_000_000  # bytes to read before a mapped file is reopened

State = Mapping[str, Tensor] | Callable[[], Mapping[str, Tensor]]
"""A state dict, or a function that opens it; `fill_module` explains why."""


@dataclass(frozen=True)
class LoadReport:
    """Result of loading.

    Attributes:
        loaded: names in the module that were written.
        missing: names in the module without an entry in the state, as allowed; they keep their values.
        skipped: reason -> number of entries of the state that were left out; ``"not ours"`` for those that ``rename``
            mapped to None.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    skipped: dict[str, int]


@dataclass(frozen=True)
class Match:
    """Assignment of entries to a module.

    Attributes:
        entries: name in the module -> name in the state.
        missing: as in `LoadReport`.
        skipped: name in the state -> reason.
    """

    entries: dict[str, str]
    missing: tuple[str, ...]
    skipped: dict[str, str]


def fill_module(
    module: nn.Module,
    state: State,
    *,
    what: str,
    rename: Callable[[str], str | None] | None = None,
    may_be_missing: Callable[[str], bool] | Sequence[str] = (),
    ignore: Mapping[str, str] | None = None,
    share: bool = False,
) -> LoadReport:
    """Copy a state dict into a module's parameters and buffers, in place and in their own dtype and device.

    Every entry must have a place and every place an entry, apart from the exceptions below; on any error nothing is
    written. Places are the names of ``module.state_dict()`` (including persistent buffers).

    A layer that is wrapped by LoRA takes the entry of the layer inside: ``a.b.weight`` is written to
    ``a.b.base_layer.weight`` if the module has no ``a.b.weight`` itself. The module's ``lora_`` entries may be missing
    if no ``lora_`` entry is loaded at all: these are weights from before the adaptation. Only some of them is an error.

    Two names for one tensor (tied weights) need one entry; two entries with different values are refused.

    Places on the meta device (`rrsis_zoo.weights.skeleton`) are allocated on the CPU.

    Args:
        module: the module to fill.
        state: names to tensors. Everything read from a mapped file counts as this process's memory until the file is
            closed; with a function that opens it, at most 0.2 GB at any time.
        what: description of the weights for error messages, for instance ``"SigLIP text tower from
            model.safetensors"``.
        rename: name in the state -> name in the module, or None for an entry that does not belong to this module; it
            raises KeyError for an unexpected entry.
        may_be_missing: names in the module that need no entry: a function of the name, or ``fnmatch`` patterns.
        ignore: ``fnmatch`` pattern of names in the state -> reason to leave these entries out. Applied before
            ``rename``.
        share: places on the meta device use the state's own memory if the dtype is the same: a mapped file is then
            read when needed, and must not be modified in place. Tensors in a file are not aligned like torch's own, so
            sums may differ in the last bit.

    Raises:
        WeightsMismatchError: missing, unexpected or repeated entries, or entries with another shape or kind of number;
            one error for all of them. Or entries that are not finite, from a training that diverged.
        ValueError: a place on the meta device has no entry, even if it may be missing: it would have no values.
    """
    reopen = state if callable(state) else lambda: state
    opened = [reopen()]
    matched = match(module, opened[0], what=what, rename=rename, may_be_missing=may_be_missing, ignore=ignore)
    _check_finite(matched.entries, opened, reopen, what)
    places: dict[str, Tensor] = dict(module.state_dict(keep_vars=True))
    for name in matched.missing:
        if places[name].is_meta:
            raise ValueError(f"{what}: {name} is on the meta device and has no entry, so it would have no values")
    _write(module, places, matched.entries, reopen, share)
    return LoadReport(tuple(matched.entries), matched.missing, dict(Counter(matched.skipped.values())))


def match(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    what: str,
    rename: Callable[[str], str | None] | None = None,
    may_be_missing: Callable[[str], bool] | Sequence[str] = (),
    ignore: Mapping[str, str] | None = None,
    bare: bool = True,
    called: Callable[[str], str] = str,
) -> Match:
    """Assign the entries of a state dict to a module without writing anything.

    Args:
        module, state, what, rename, may_be_missing, ignore: as in `fill_module`.
        bare: whether weights from before an adaptation by LoRA are accepted.
        called: name in the module -> name for error messages.

    Raises:
        WeightsMismatchError: missing, unexpected or repeated entries, or entries with another shape or kind of number;
            one error for all of them.
    """
    places: dict[str, Tensor] = dict(module.state_dict(keep_vars=True))
    wrapped = {_unwrapped(name): name for name in places} | {own_name(name): name for name in places}

    entries: dict[str, str] = {}
    unexpected: list[str] = []
    clashing: list[str] = []
    skipped: dict[str, str] = {}
    for key in state:
        reason = next((why for pattern, why in (ignore or {}).items() if fnmatchcase(key, pattern)), None)
        if reason is not None:
            skipped[key] = reason
            continue
        try:
            name = rename(key) if rename else key
        except KeyError:
            unexpected.append(key)
            continue
        if name is None:
            skipped[key] = "not ours"
            continue
        target = name if name in places else wrapped.get(name)
        if target is None:
            unexpected.append(key if name == key else f"{key} (as {name})")
        elif target in entries:
            clashing.append(f"{key} (as {called(target)}, which another entry fills)")
        else:
            entries[target] = key

    shapes = [
        f"{called(name)} ({tuple(state[key].shape)} in the file, {tuple(places[name].shape)} in the module)"
        for name, key in entries.items()
        if state[key].shape != places[name].shape
    ]
    kinds = [
        f"{called(name)} ({state[key].dtype} in the file, {places[name].dtype} in the module)"
        for name, key in entries.items()
        if _kind(state[key]) != _kind(places[name])
    ]
    clashing += _differing_ties(entries, places, state)

    filled = {id(places[name]) for name in entries}
    unfilled = [name for name in places if name not in entries and id(places[name]) not in filled]
    before_lora = bare and not any(is_lora(name) for name in entries)
    allowed = _as_function(may_be_missing)
    left = [name for name in unfilled if allowed(name) or (before_lora and is_lora(name))]
    missing = [called(name) for name in unfilled if name not in set(left)]

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
    return Match(entries, tuple(left), skipped)


def _check_finite(
    entries: Mapping[str, str],
    opened: list[Mapping[str, Tensor]],
    reopen: Callable[[], Mapping[str, Tensor]],
    what: str,
) -> None:
    """Refuse weights that are not finite. The state is taken out of its list, and reopened as in writing."""
    state, read, bad = opened.pop(), 0, []
    for name, key in entries.items():
        for rows in _parts(state[key]):
            if read > _PART:
                del state
                state, read = reopen(), 0
            part = state[key] if rows is None else state[key][rows]
            if not_finite(part):
                bad.append(name)
                break
            read += part.numel() * part.element_size()
            del part
    if bad:
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        raise WeightsMismatchError(
            f"{what}: {len(bad)} of {len(entries)} entries are not finite: {', '.join(bad[:_NAMED])}{more}; the "
            "training that wrote them diverged, or the file is damaged: use an earlier one"
        )


def _write(
    module: nn.Module,
    places: Mapping[str, Tensor],
    entries: Mapping[str, str],
    reopen: Callable[[], Mapping[str, Tensor]],
    share: bool,
) -> None:
    """Fill the places; the state is reopened after every ``_PART`` bytes read."""
    names_of: dict[int, list[str]] = {}
    for name, place in places.items():
        names_of.setdefault(id(place), []).append(name)
    state, read = reopen(), 0
    with torch.no_grad():
        for name, key in entries.items():
            place = places[name]
            if place.is_meta and share and state[key].dtype == place.dtype:
                _replace(module, names_of[id(place)], state[key])
                continue
            memory = torch.empty_like(place, device="cpu") if place.is_meta else place
            for rows in _parts(state[key]):
                if read > _PART:
                    del state  # each of its tensors keeps the mapping alive
                    state, read = reopen(), 0
                source = state[key]
                part = source if rows is None else source[rows]
                (memory if rows is None else memory[rows]).copy_(part)
                read += part.numel() * part.element_size()
                del source, part
            if place.is_meta:
                _replace(module, names_of[id(place)], memory)


def _parts(tensor: Tensor) -> Iterator[slice | None]:
    """Yield slices of rows with at most ``_PART`` bytes each; None for a tensor that fits into one part."""
    size = tensor.numel() * tensor.element_size()
    if size <= _PART or tensor.ndim == 0:
        yield None
        return
    step = max(1, _PART * len(tensor) // size)
    for start in range(0, len(tensor), step):
        yield slice(start, start + step)


def _replace(module: nn.Module, names: Sequence[str], tensor: Tensor) -> None:
    """Replace a parameter or buffer by a tensor, under all its names."""
    new: Tensor | None = None
    for name in names:
        owner_name, _, leaf = name.rpartition(".")
        owner = module.get_submodule(owner_name)
        old = getattr(owner, leaf)
        if new is None:
            new = nn.Parameter(tensor, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else tensor
        setattr(owner, leaf, new)


def _unwrapped(name: str) -> str:
    """Return an entry's name from before LoRA or a compiler wrapped its layer."""
    return ".".join(part for part in own_name(name).split(".") if part != "base_layer")


def _kind(tensor: Tensor) -> str:
    """Return the kind of number; casts within one kind lose at most precision."""
    if tensor.is_complex():
        return "complex"
    if tensor.is_floating_point():
        return "float"
    return "bool" if tensor.dtype == torch.bool else "integer"


def _differing_ties(entries: Mapping[str, str], places: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Return names that share their tensor with an earlier name whose entry has other values."""
    first: dict[int, str] = {}
    differing = []
    for name, key in entries.items():
        other = first.setdefault(id(places[name]), name)
        if other != name and not torch.equal(state[key], state[entries[other]]):
            differing.append(f"{name} (tied to {other}, whose entry differs)")
    return differing


def _as_function(names: Callable[[str], bool] | Sequence[str]) -> Callable[[str], bool]:
    if callable(names):
        return names
    if isinstance(names, str):  # a string would be treated as a sequence of one-letter patterns
        raise TypeError(f"may_be_missing must be a function or a sequence of patterns, got the string {names!r}")
    return lambda name: any(fnmatchcase(name, pattern) for pattern in names)
