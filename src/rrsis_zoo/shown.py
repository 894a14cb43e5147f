"""Short representations of objects that hold arrays, for consoles and notebooks. No numpy, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

_FEW = 3
_LONGEST = 80
_DEEPEST = 2


def short_repr(self: Any) -> str:
    """Return a dataclass in a few lines: arrays by type and shape, long texts and collections by their beginning.

    A class uses it as its ``__repr__``.
    """
    return _dataclass(self, 0)


def _dataclass(value: Any, depth: int) -> str:
    shown = (f"{f.name}={_short(getattr(value, f.name), depth + 1)}" for f in fields(value) if f.repr)
    return f"{type(value).__qualname__}({', '.join(shown)})"


def _short(value: Any, depth: int) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if type(value).__repr__ is short_repr:
        return _dataclass(value, depth) if depth <= _DEEPEST else f"{type(value).__qualname__}(…)"
    if isinstance(value, Mapping):
        shown = [f"{key!r}: {_short(inner, depth + 1)}" for key, inner in list(value.items())[:_FEW]]
        return f"{{{_joined(shown, len(value))}}}"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        plain = isinstance(value, list | tuple) and depth < _DEEPEST  # others may compute their items
        first = value[:_FEW] if plain else ()
        shown = [_short(inner, depth + 1) for inner in first]
        opening, closing = ("(", ")") if isinstance(value, tuple) else ("[", "]")
        return f"{opening}{_joined(shown, len(value))}{closing}"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _joined(shown: Sequence[str], count: int) -> str:
    return ", ".join([*shown, *([f"… {count} in all"] if count > len(shown) else [])])
