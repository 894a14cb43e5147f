"""The parts of a job's key. No torch; `bench.keys` computes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

PARTS = ("configuration", "weights", "data", "protocol", "code")
"""What determines a result; a finished job counts as long as none of them has changed."""


def key_of(parts: Mapping[str, str]) -> str:
    """Return the key: the hash of all parts."""
    return hash_of({name: parts[name] for name in PARTS})


def changed(earlier: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the names of the parts that have changed."""
    return [name for name in PARTS if earlier.get(name) != now[name]]


def hash_of(value: Any) -> str:
    """Return the SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
