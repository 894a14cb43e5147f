"""Configurations: frozen dataclasses of plain values, possibly nested; functions to change, write and read them.

The type of a field limits its values: `Count`, `Side` and the others below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from rrsis_zoo.errors import ConfigError, unknown_name

C = TypeVar("C")

Count = Annotated[int, Field(ge=1, le=2**20)]
"""Channels, heads, cells, rows of a table."""
Natural = Annotated[int, Field(ge=0, le=2**20)]
"""A number that may be 0."""
Side = Annotated[int, Field(ge=1, le=2**14)]
"""Side of an image or patch in pixels."""
Depth = Annotated[int, Field(ge=0, le=256)]
"""Number of consecutive layers."""
Share = Annotated[float, Field(ge=0, le=1)]

_ITEMS = 256  # most items of a list in a configuration


def change(config: C, changes: Mapping[str, Any], where: str) -> C:
    """Return a copy of a configuration with some settings changed.

    Args:
        config: a dataclass instance.
        changes: field -> new value; for a field that is itself a configuration, a mapping changes parts of it.
        where: name of the configuration, for error messages.

    Raises:
        ConfigError: unknown field, or a value of another kind than the present one or out of range.

    Example:
        >>> from rrsis_zoo.methods.control.model import TINY
        >>> change(TINY, {"image_size": 64, "widths": [16, 32, 64]}, "control").widths
        (16, 32, 64)
    """
    hints = get_type_hints(type(config))
    new: dict[str, Any] = {}
    for name, value in changes.items():
        if name not in hints:
            raise unknown_name(f"setting of {where}", name, hints)
        present = getattr(config, name)
        if is_dataclass(present) and isinstance(value, Mapping):
            new[name] = change(present, value, f"{where}.{name}")
        else:
            new[name] = _fitting(type(config), name, _like(present, value, f"{where}.{name}"), f"{where}.{name}")
    return replace(config, **new)  # type: ignore[type-var]


def check_choices(config: Any, where: str) -> None:
    """Refuse a value that is none of its field's ``Literal`` choices; for a configuration's ``__post_init__``.

    Args:
        config: a dataclass instance.
        where: name of the configuration, for error messages.

    Raises:
        ConfigError: such a value.
    """
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal and getattr(config, name) not in get_args(hint):
            raise unknown_name(f"choice for {where}.{name}", getattr(config, name), get_args(hint))


def _like(present: Any, value: Any, where: str) -> Any:
    """Return the value in the type of the current one: YAML has no tuples and may write 1 for 1.0."""
    if isinstance(present, tuple) and isinstance(value, list):
        return tuple(value)
    if isinstance(present, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(present):
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}…"
        raise ConfigError(f"{where} must be like {present!r} ({type(present).__name__}), got {shown}")
    return value


@cache
def _adapter(kind: type, name: str) -> TypeAdapter[Any]:
    hint = get_type_hints(kind, include_extras=True)[name]
    return TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False))


def _fitting(kind: type, name: str, value: Any, where: str) -> Any:
    """Return a value that matches the type of its field."""
    if is_dataclass(value):
        return value
    hint = get_type_hints(kind)[name]
    if get_origin(hint) is Literal:
        if value not in get_args(hint) and not hasattr(kind, "__post_init__"):  # which reports it itself
            raise unknown_name(f"choice for {where}", str(value), get_args(hint))
        return value
    if isinstance(value, tuple) and len(value) > _ITEMS:
        raise ConfigError(f"{where} has {len(value)} items; at most {_ITEMS} are allowed")
    try:
        return _adapter(kind, name).validate_python(value, strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = "".join(f"[{i}]" for i in fault["loc"] if isinstance(i, int))
        message = fault["msg"].removeprefix("Input ").removeprefix("Value error, ")
        raise ConfigError(f"{where}{place} {message}, got {str(fault['input'])[:60]!r}") from error


def to_plain(config: Any) -> dict[str, Any]:
    """Return a configuration as nested dicts of plain values, for a checkpoint or a card."""
    return {
        f.name: to_plain(value) if is_dataclass(value := getattr(config, f.name)) else value for f in fields(config)
    }


def from_plain(kind: type[C], plain: Mapping[str, Any]) -> C:
    """Return the configuration from the result of ``to_plain``; settings introduced later keep their defaults.

    Raises:
        ConfigError: it contains a setting that this version does not know, or an invalid value.
    """
    return change(kind(), plain, kind.__name__)
