"""YAML as it reaches us: small, shallow, and no larger than it looks. No torch.

A few lines of YAML may stand for millions of values (a list of aliases of a list of aliases …), and may be nested
deeper than Python can follow. What a text would become is therefore counted before anything is made of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rrsis_zoo.errors import ConfigError, RRSISError
from rrsis_zoo.files import read_text

YAML_LIMIT = 2**18
"""Bytes that a YAML file may have; the longest that is shipped has 4 kB."""

VALUES, DEPTH, PLAIN = 50_000, 50, 4_096
"""Values that a text may stand for, all aliases followed; levels that it may be nested; characters of a plain value."""


def read_yaml(path: str | Path, error: type[RRSISError] = ConfigError, loader: Any = None) -> Any:
    """Return what a YAML file holds, as plain values.

    Args:
        path: of a regular file.
        error: what is raised for a file that cannot be read.
        loader: a subclass of PyYAML's ``SafeLoader``; by default the fast one of that kind.

    Raises:
        MissingDataError: there is no such file.
        error: no regular file, no UTF-8 text, no YAML, or more than `YAML_LIMIT`, `VALUES` and `DEPTH` allow.
    """
    import yaml

    text = read_text(path, YAML_LIMIT, error)
    check_yaml(text, str(path), error)
    try:
        return yaml.load(text, loader or _safe())
    except (yaml.YAMLError, ValueError, RecursionError) as cause:  # a date or number that is none is a ValueError
        raise error(f"{path} is not YAML ({' '.join(str(cause).split())})") from cause


def check_yaml(text: str, what: str, error: type[RRSISError] = ConfigError) -> None:
    """Refuse a text that stands for too much. What is no YAML at all is left to whoever loads it.

    Args:
        text: of the file.
        what: where it is from, as an error says it.
        error: what is raised.

    Raises:
        error: more values than `VALUES`, deeper than `DEPTH`, an alias inside of what it stands for, or a value without
            quotes of more than `PLAIN` characters.
    """
    import yaml

    if len(text.encode(errors="replace")) > YAML_LIMIT:
        raise error(f"{what} is too long: settings have at most {YAML_LIMIT:,} bytes")
    with contextlib.suppress(yaml.YAMLError):
        if fault := _fault(yaml.parse(text, _safe())):
            raise error(f"{what} {fault}")


def _safe() -> Any:
    """Return PyYAML's safe loader, the one in C where it was built."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _fault(events: Iterable[Any]) -> str | None:
    """Return what is too much in a stream of YAML events, None if nothing is."""
    from yaml import events as kinds

    sizes: dict[str, int | None] = {}  # anchor -> values that it stands for, None while it is being read
    opened: list[tuple[str | None, int]] = []  # anchors and sizes of what surrounds the place
    total = 0
    for event in events:
        size = 0
        if isinstance(event, kinds.CollectionStartEvent):
            if len(opened) >= DEPTH:
                return f"is nested more than {DEPTH} levels deep"
            if event.anchor:
                sizes[event.anchor] = None
            opened.append((event.anchor, total))
            size = 1
        elif isinstance(event, kinds.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor:
                sizes[anchor] = total - before
        elif isinstance(event, kinds.ScalarEvent):
            if (event.implicit[0] or event.tag) and len(event.value) > PLAIN:  # may be a number: slow to convert
                return f"holds a value of {len(event.value):,} characters without quotes"
            if event.anchor:
                sizes[event.anchor] = 1
            size = 1
        elif isinstance(event, kinds.AliasEvent):
            known = sizes.get(event.anchor, 0)  # an anchor that is not there is an error of the loader
            if known is None:
                return f"holds itself: *{event.anchor} stands inside of &{event.anchor}"
            size = known
        total += size
        if total > VALUES:
            return f"stands for more than {VALUES:,} values (aliases of aliases?)"
    return None
