"""State dicts into modules: strictly, and all of it or nothing."""

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

_NAMED = 8  # how many names of each kind an error lists
_PART = 100_000_000  # bytes that are read before a mapped file is opened anew

State = Mapping[str, Tensor] | Callable[[], Mapping[str, Tensor]]
"""A state dict, or a function that opens it; see `fill_module` for what that is good for."""


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


@dataclass(frozen=True)
class Match:
    """Which entry goes where.

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

    Every entry must find its place and every place its entry, apart from what is named below; if anything is wrong
    nothing is written. Places are the names of ``module.state_dict()`` (persistent buffers included).

    A layer that is wrapped by LoRA takes the entry of the layer that it wraps: ``a.b.weight`` is written to
    ``a.b.base_layer.weight`` where the module has no ``a.b.weight`` itself. The module's ``lora_`` entries may be
    missing if no ``lora_`` entry is loaded at all: weights of before the adaptation. Some of them without the others
    are a fault.

    Two names for one tensor (tied weights) need one entry; two different ones are refused.

    Places on the meta device (`rrsis_zoo.weights.skeleton`) get memory of their own on the CPU.

    Args:
        module: the module to fill.
        state: names to tensors. What is read of a mapped file counts as this process's memory until the file is
            closed; with a function that opens it, no more than 0.2 GB of it do at any time.
        what: what is loaded, as an error says it, for instance ``"SigLIP text tower from model.safetensors"``.
        rename: name in the state -> name in the module, or None for an entry that does not belong to this module; a
            KeyError is an entry that belongs nowhere.
        may_be_missing: names in the module that need no entry: a function of the name, or ``fnmatch`` patterns.
        ignore: ``fnmatch`` pattern of names in the state -> reason why these entries are left out. Asked before
            ``rename``.
        share: places on the meta device take the state's own memory where the dtype is the same: a mapped file is
            then read as it is used, and must not be written to in place. Tensors in a file are not aligned as torch's
            own are: sums may differ in the last bit.

    Raises:
        WeightsMismatchError: missing, unexpected, repeated or wrongly shaped entries, or entries of another kind of
            number; one error for all of them.
            Or entries that are not finite, as a training leaves that diverged.
        ValueError: a place on the meta device may be missing and is: it would have no values.
    """
    reopen = state if callable(state) else lambda: state
    opened = [reopen()]
    found = match(module, opened[0], what=what, rename=rename, may_be_missing=may_be_missing, ignore=ignore)
    _check_finite(found.entries, opened, reopen, what)
    places: dict[str, Tensor] = dict(module.state_dict(keep_vars=True))
    for name in found.missing:
        if places[name].is_meta:
            raise ValueError(f"{what}: {name} is on the meta device and has no entry; it would have no values")
    _write(module, places, found.entries, reopen, share)
    return LoadReport(tuple(found.entries), found.missing, dict(Counter(found.skipped.values())))


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
    """Find which entry of a state dict goes where, and write nothing; arguments and errors as in `fill_module`.

    Args:
        module, state, what, rename, may_be_missing, ignore: see `fill_module`.
        bare: whether weights of before an adaptation by LoRA will do.
        called: how an error calls a place of the module.
    """
    places: dict[str, Tensor] = dict(module.state_dict(keep_vars=True))
    wrapped = {_unwrapped(name): name for name in places} | {own_name(name): name for name in places}

    entries: dict[str, str] = {}
    unexpected: list[str] = []
    clashing: list[str] = []
    skipped: dict[str, str] = {}
    for given in state:
        reason = next((why for pattern, why in (ignore or {}).items() if fnmatchcase(given, pattern)), None)
        if reason is not None:
            skipped[given] = reason
            continue
        try:
            name = rename(given) if rename else given
        except KeyError:
            unexpected.append(given)
            continue
        if name is None:
            skipped[given] = "not ours"
            continue
        target = name if name in places else wrapped.get(name)
        if target is None:
            unexpected.append(given if name == given else f"{given} (as {name})")
        elif target in entries:
            clashing.append(f"{given} (as {called(target)}, which another entry fills)")
        else:
            entries[target] = given

    shapes = [
        f"{called(name)} ({tuple(state[given].shape)} in the file, {tuple(places[name].shape)} in the module)"
        for name, given in entries.items()
        if state[given].shape != places[name].shape
    ]
    kinds = [
        f"{called(name)} ({state[given].dtype} in the file, {places[name].dtype} in the module)"
        for name, given in entries.items()
        if _kind(state[given]) != _kind(places[name])
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
    """Refuse weights that are not finite. The state is taken from its list, and opened anew as for writing."""
    state, read, bad = opened.pop(), 0, []
    for name, given in entries.items():
        for rows in _parts(state[given]):
            if read > _PART:
                del state
                state, read = reopen(), 0
            part = state[given] if rows is None else state[given][rows]
            if not_finite(part):
                bad.append(name)
                break
            read += part.numel() * part.element_size()
            del part
    if bad:
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        raise WeightsMismatchError(
            f"{what}: {len(bad)} of {len(entries)} entries are not finite: {', '.join(bad[:_NAMED])}{more}; the "
            "training that wrote them diverged, or the file was damaged: use an earlier one"
        )


def _write(
    module: nn.Module,
    places: Mapping[str, Tensor],
    entries: Mapping[str, str],
    reopen: Callable[[], Mapping[str, Tensor]],
    share: bool,
) -> None:
    """Fill the places; the state is opened anew after every ``_PART`` bytes that were read of it."""
    names_of: dict[int, list[str]] = {}
    for name, place in places.items():
        names_of.setdefault(id(place), []).append(name)
    state, read = reopen(), 0
    with torch.no_grad():
        for name, given in entries.items():
            place = places[name]
            if place.is_meta and share and state[given].dtype == place.dtype:
                _replace(module, names_of[id(place)], state[given])
                continue
            memory = torch.empty_like(place, device="cpu") if place.is_meta else place
            for rows in _parts(state[given]):
                if read > _PART:
                    del state  # every tensor of it is a piece of the mapping
                    state, read = reopen(), 0
                source = state[given]
                part = source if rows is None else source[rows]
                (memory if rows is None else memory[rows]).copy_(part)
                read += part.numel() * part.element_size()
                del source, part
            if place.is_meta:
                _replace(module, names_of[id(place)], memory)


def _parts(tensor: Tensor) -> Iterator[slice | None]:
    """Yield the rows in portions of at most ``_PART`` bytes; None for a tensor that is one portion."""
    size = tensor.numel() * tensor.element_size()
    if size <= _PART or tensor.ndim == 0:
        yield None
        return
    step = max(1, _PART * len(tensor) // size)
    for start in range(0, len(tensor), step):
        yield slice(start, start + step)


def _replace(module: nn.Module, names: Sequence[str], tensor: Tensor) -> None:
    """Put a tensor in the place of a parameter or buffer, under all its names."""
    new: Tensor | None = None
    for name in names:
        owner_name, _, leaf = name.rpartition(".")
        owner = module.get_submodule(owner_name)
        old = getattr(owner, leaf)
        if new is None:
            new = nn.Parameter(tensor, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else tensor
        setattr(owner, leaf, new)


def _unwrapped(name: str) -> str:
    """Return the name that an entry had before LoRA, or a compiler, wrapped its layer."""
    return ".".join(part for part in own_name(name).split(".") if part != "base_layer")


def _kind(tensor: Tensor) -> str:
    """Return which casts lose nothing but precision: among floats, among integers, never between."""
    if tensor.is_complex():
        return "complex"
    if tensor.is_floating_point():
        return "float"
    return "bool" if tensor.dtype == torch.bool else "integer"


def _differing_ties(entries: Mapping[str, str], places: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Return names that share their tensor with an earlier name whose entry has other values."""
    first: dict[int, str] = {}
    found = []
    for name, given in entries.items():
        other = first.setdefault(id(places[name]), name)
        if other != name and not torch.equal(state[given], state[entries[other]]):
            found.append(f"{name} (tied to {other}, whose entry differs)")
    return found


def _as_function(names: Callable[[str], bool] | Sequence[str]) -> Callable[[str], bool]:
    if callable(names):
        return names
    if isinstance(names, str):  # a lone string would be taken for a sequence of one-letter patterns
        raise TypeError(f"may_be_missing must be a function or a sequence of patterns, got the string {names!r}")
    return lambda name: any(fnmatchcase(name, pattern) for pattern in names)
