"""Configurations: frozen dataclasses of plain values, possibly nested; changed, written and read here.

A value that comes from a file or an option is held against its field: its type, and its range, so that nothing is built
of a size that no model has. An ``int`` lies in 1 … 2^20 and a ``float`` in ±10^6 unless the field is annotated with
another `Range`. Choices and what must go together are for a configuration's own ``__post_init__``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from rrsis_zoo.errors import ConfigError, unknown_name

C = TypeVar("C")


@dataclass(frozen=True)
class Range:
    """The least and the largest value that a number may have."""

    least: float
    most: float


Depth = Annotated[int, Range(1, 256)]
"""A number of blocks."""
DepthOrNone = Annotated[int, Range(0, 256)]
"""A number of blocks, which may be none."""
Pixels = Annotated[int, Range(1, 2**14)]
"""A side of an image, a patch or a map."""
Index = Annotated[int, Range(0, 256)]
"""Which of the blocks."""
Share = Annotated[float, Range(0, 1)]
"""A part of a whole."""
Positive = Annotated[float, Range(1e-6, 1e6)]
"""A float above 0."""

_RANGES: dict[type, Range] = {int: Range(1, 2**20), float: Range(-1e6, 1e6)}


def change(config: C, changes: Mapping[str, Any], where: str) -> C:
    """Return a copy of a configuration with some settings changed.

    Args:
        config: a dataclass instance.
        changes: field -> new value; a mapping for a field that is itself a configuration changes that one.
        where: what is configured, as an error says it.

    Raises:
        ConfigError: unknown field, or a value of another kind than the present one, out of range, or that does not go
            together with the others.

    Example:
        >>> from rrsis_zoo.models.control import TINY
        >>> change(TINY, {"image_size": 64, "widths": [16, 32, 64]}, "control").widths
        (16, 32, 64)
    """
    hints = get_type_hints(type(config), include_extras=True)
    new: dict[str, Any] = {}
    for name, value in changes.items():
        if name not in hints:
            raise unknown_name(f"setting of {where}", str(name), hints)
        present = getattr(config, name)
        if is_dataclass(present) and isinstance(value, Mapping):
            new[name] = change(present, value, f"{where}.{name}")
        else:
            new[name] = _fitting(hints[name], present, value, f"{where}.{name}")
    return replace(config, **new)  # type: ignore[type-var]


def check_choices(config: Any, where: str) -> None:
    """Refuse a value that is none of its field's ``Literal`` choices; for a configuration's ``__post_init__``.

    Args:
        config: a dataclass instance.
        where: what is configured, as an error says it.

    Raises:
        ConfigError: see there.
    """
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal and getattr(config, name) not in get_args(hint):
            raise unknown_name(f"choice for {where}.{name}", str(getattr(config, name)), get_args(hint))


def check_divides(where: str, width: int, by: int, name: str, by_name: str) -> None:
    """Refuse a size that another does not divide; for a configuration's ``__post_init__``.

    Raises:
        ConfigError: see there.
    """
    if by < 1 or width % by:
        raise ConfigError(f"{where}.{name} must be a multiple of {where}.{by_name} ({by}), got {width}")


def _fitting(hint: Any, present: Any, value: Any, where: str) -> Any:
    """Return the value in the type of its field: YAML and JSON know no tuples and write 1 for 1.0."""
    allowed = None
    if get_origin(hint) is Annotated:
        hint, allowed = get_args(hint)[0], next(m for m in get_args(hint)[1:] if isinstance(m, Range))
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        inner = get_args(hint)
        kinds = [inner[0]] * len(value) if len(inner) == 2 and inner[1] is Ellipsis else inner
        if len(kinds) != len(value):
            raise ConfigError(f"{where} must be like {present!r} ({len(kinds)} values), got {value!r}")
        like = present[0] if present else 1
        return tuple(
            _fitting(kind, like, v, f"{where}.{i}") for i, (kind, v) in enumerate(zip(kinds, value, strict=True))
        )
    if hint is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if type(value) is not (hint if isinstance(hint, type) else type(present)):
        raise ConfigError(f"{where} must be like {present!r} ({type(present).__name__}), got {value!r}")
    allowed = allowed or _RANGES.get(type(value))
    if allowed is not None and not (math.isfinite(value) and allowed.least <= value <= allowed.most):
        raise ConfigError(f"{where} must be in {allowed.least:g} … {allowed.most:g}, got {value!r}")
    return value


def to_plain(config: Any) -> dict[str, Any]:
    """Return a configuration as nested dicts of plain values, for a checkpoint or a card."""
    return {
        f.name: to_plain(value) if is_dataclass(value := getattr(config, f.name)) else value for f in fields(config)
    }


def from_plain(kind: type[C], plain: Mapping[str, Any]) -> C:
    """Return the configuration that ``to_plain`` wrote; settings that were added since keep their defaults.

    Raises:
        ConfigError: it holds a setting that this version does not know, or a value that its field cannot have.
    """
    return change(kind(), plain, kind.__name__)
