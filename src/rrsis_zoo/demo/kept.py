"""Results that are kept while there is room for them. No torch."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """The values that were used last; the newest stays even if it alone is larger than the room. For several threads.

    Args:
        room: bytes.
        size: returns a value's bytes.
    """

    def __init__(self, room: int, size: Callable[[V], int]) -> None:
        self._room, self._size = room, size
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """Return a value, which counts as used; None if it is not here (any more)."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: K, value: V) -> None:
        """Keep a value; those not used for the longest time make room."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            total = sum(map(self._size, self._values.values()))
            while total > self._room and len(self._values) > 1:
                total -= self._size(self._values.popitem(last=False)[1])

    def __len__(self) -> int:
        return len(self._values)
