"""Reading YAML that must be small, shallow, and no larger than it looks. No torch.

A few lines of YAML can expand to millions of values (a list of aliases of a list of aliases …), or be nested deeper
than Python can follow. The values of a text are therefore counted before it is loaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rrsis_zoo.errors import ConfigError, RRSISError
from rrsis_zoo.files import read_text

YAML_LIMIT = 2**18
"""Largest YAML file in bytes; the longest one shipped has 4 kB."""

VALUES, DEPTH, PLAIN = 50_000, 50, 4_096
"""Most values that a text may expand to, with all aliases; levels of nesting; characters of an unquoted value."""


def read_yaml(path: str | Path, error: type[RRSISError] = ConfigError, loader: Any = None) -> Any:
    """Return the content of a YAML file as plain values.

    Args:
        path: of a regular file.
        error: what is raised for a file that cannot be read.
        loader: a subclass of PyYAML's ``SafeLoader``; by default the fastest one available.

    Raises:
        MissingDataError: there is no such file.
        error: not a regular file, not UTF-8 text, not YAML, or more than `YAML_LIMIT`, `VALUES` and `DEPTH` allow.
    """
    import yaml

    text = read_text(path, YAML_LIMIT, error)
    check_yaml(text, str(path), error)
    try:
        return yaml.load(text, loader or _safe())
    except (yaml.YAMLError, ValueError, RecursionError) as cause:  # an invalid date or number is a ValueError
        raise error(f"{path} is not YAML ({' '.join(str(cause).split())})") from cause


def check_yaml(text: str, what: str, error: type[RRSISError] = ConfigError) -> None:
    """Refuse a text that expands to too much. Text that is not YAML at all is left to the loader.

    Args:
        text: of the file.
        what: where it is from, for error messages.
        error: what is raised.

    Raises:
        error: more values than `VALUES`, deeper than `DEPTH`, an alias inside its own anchor, or an unquoted value of
            more than `PLAIN` characters.
    """
    import yaml

    if len(text.encode(errors="replace")) > YAML_LIMIT:
        raise error(f"{what} is too long: settings have at most {YAML_LIMIT:,} bytes")
    with contextlib.suppress(yaml.YAMLError):
        if fault := _fault(yaml.parse(text, _safe())):
            raise error(f"{what} {fault}")


def _safe() -> Any:
    """Return PyYAML's safe loader, the one in C if available."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _fault(events: Iterable[Any]) -> str | None:
    """Return what exceeds a limit in a stream of YAML events, None if nothing does."""
    from yaml import events as kinds

    sizes: dict[str, int | None] = {}  # anchor -> number of its values, None while it is being read
    opened: list[tuple[str | None, int]] = []  # anchors and sizes of the enclosing collections
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
                return f"contains an unquoted value of {len(event.value):,} characters"
            if event.anchor:
                sizes[event.anchor] = 1
            size = 1
        elif isinstance(event, kinds.AliasEvent):
            known = sizes.get(event.anchor, 0)  # the loader reports an undefined anchor
            if known is None:
                return f"contains itself: *{event.anchor} is inside &{event.anchor}"
            size = known
        total += size
        if total > VALUES:
            return f"stands for more than {VALUES:,} values (aliases of aliases?)"
    return None
