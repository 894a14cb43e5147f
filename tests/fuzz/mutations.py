"""What happens to files: bytes that change, vanish or repeat, and JSON whose values are of another kind.

Each mutation is drawn by hypothesis, so that a failing one is reduced to the least that fails.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

AWKWARD = [
    None, True, False, 0, 1, -1, 2, 3, 99, 255, 2**31, 2**40, 2**63, -(2**63), 10**30, 0.0, 1.0, 2.9, -0.5, 1e300,
    float("nan"), float("inf"), "", "2", "12", "x", "../../x", "/etc/passwd", "\ud800", "\u2028", "\0", "a" * 5000,
    [], [[]], [0, 0], [2.9, "2"], [True, 1], ["x"], [None], {}, {"x": 1}, {"": None}, [[[[[]]]]],
]  # fmt: skip
"""Values that somebody's program has written where another was expected."""

INTERESTING = [
    b"\0", b"\xff", b"\x80", b"\x7f", b"\n", b"\r\n", b"\xe2\x80\xa8", b"\xed\xa0\x80", b"-", b"9" * 20, b'"',
    b"[" * 2000, b"{", b"}", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\xff" * 8, b"NaN", b"null",
    b"%!PS", b"PK\x03\x04",
]  # fmt: skip

_place = st.floats(0, 1, exclude_max=True, allow_nan=False, width=32)
_bytes = st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from(INTERESTING))
_edit = st.tuples(st.sampled_from(["set", "insert", "delete", "cut", "repeat", "flip"]), _place, _bytes)

byte_edits = st.lists(_edit, min_size=1, max_size=4)
"""Edits of a file's bytes, see ``mutated_bytes``."""

value_edits = st.lists(
    st.tuples(st.sampled_from(["set", "delete", "add", "swap"]), _place, st.integers(0, len(AWKWARD) - 1)),
    min_size=1,
    max_size=3,
)
"""Edits of a JSON value, see ``mutated_value``."""


def mutated_bytes(content: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    """Return a file's bytes after some edits, each at a place given as a share of the length."""
    data = bytearray(content)
    for what, place, new in edits:
        at = int(place * (len(data) + 1))
        if what == "set":
            data[at : at + len(new)] = new
        elif what == "insert":
            data[at:at] = new
        elif what == "delete":
            del data[at : at + len(new)]
        elif what == "cut":
            del data[at:]
        elif what == "repeat":
            data[at:at] = data[max(0, at - 64) : at] * (1 + new[0] % 4)
        elif at < len(data):
            data[at] ^= 1 << (new[0] % 8)
    return bytes(data)


def mutated_value(value: Any, edits: list[tuple[str, float, int]]) -> Any:
    """Return a JSON value after some edits: a node replaced, deleted, doubled or put in place of another."""
    value = copy.deepcopy(value)
    for what, place, number in edits:
        nodes = list(_nodes([value]))
        parent, key = nodes[int(place * len(nodes))]
        if parent is None:
            continue
        if what == "set":
            parent[key] = copy.deepcopy(AWKWARD[number])
        elif what == "delete":
            del parent[key]
        elif what == "add" and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        else:
            other_parent, other_key = nodes[number % len(nodes)]
            if other_parent is not None:
                parent[key] = copy.deepcopy(other_parent[other_key])
        if not isinstance(value, dict | list):
            break
    return value


def as_json(value: Any) -> bytes:
    """Return a value as somebody's program would have written it, NaN and lone surrogates included."""
    return json.dumps(value).encode()


def _nodes(holder: list[Any]) -> Any:
    """Yield (parent, key) of every node below the top one; the top one as (None, None)."""
    stack: list[tuple[Any, Any]] = [(None, None)]
    values = [holder[0]]
    while values:
        here = values.pop()
        yield stack.pop()
        inner = here.items() if isinstance(here, dict) else enumerate(here) if isinstance(here, list) else ()
        for key, child in inner:
            values.append(child)
            stack.append((here, key))
