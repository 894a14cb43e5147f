"""The same predictions under several protocols, side by side, as text. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_TITLES = {"n": "N", "oiou": "oIoU", "miou": "mIoU"}


def protocol_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Return a table with a line for each protocol, and the largest difference if there are several.

    Args:
        results: ``protocol``, ``eval_size``, ``n``, and ``oiou``, ``miou``, ``pr@…`` in percent, None if undefined.
    """
    columns = [name for name in results[0] if name in _TITLES or name.startswith("pr@")]
    lines = [f"{'protocol':<12}{'size':>8}" + "".join(f"{_TITLES.get(c, c.capitalize()):>8}" for c in columns)]
    for record in results:
        lines.append(f"{record['protocol']:<12}{record['eval_size']!s:>8}" + "".join(cell(record[c]) for c in columns))
    if len(results) > 1:
        spread = []
        for column in columns[1:]:
            values = [record[column] for record in results if record[column] is not None]
            spread.append(cell(max(values) - min(values) if values else None))
        lines.append(f"{'largest difference':<28}" + "".join(spread))
    return "\n".join(lines)


def cell(value: float | None) -> str:
    """Return a number in eight columns."""
    return f"{'nan' if value is None else value if isinstance(value, int) else f'{value:.2f}':>8}"
