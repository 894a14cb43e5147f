"""Chance and angles that are the same on every machine.

Three sources of platform differences are kept out of the generator: the mathematics library (``sin``, ``exp`` and the
normal distribution's tails differ in the last bit between builds), reductions of floats (the order of the sum depends
on the vector unit) and ``numpy.random`` methods whose streams may change between releases. What is left is the raw
64-bit stream of PCG64, which numpy promises to keep, elementwise ``+ - * /`` on float32 and float64, which IEEE 754
rounds exactly, and sums of integers.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

ANGLE_STEPS = 72
"""Directions are multiples of 5 degrees."""


def _table() -> tuple[tuple[float, float], ...]:
    # Rounding to 2^-14 removes last-bit differences of libm: no entry lies within 1e-9 of a rounding border.
    def exact(value: float) -> float:
        return round(value * 16384) / 16384

    angles = (2 * math.pi * k / ANGLE_STEPS for k in range(ANGLE_STEPS))
    return tuple((exact(math.cos(a)), exact(math.sin(a))) for a in angles)


UNIT = _table()
"""(cosine, sine) of 5 k degrees, rounded to multiples of 2^-14; y points down, so positive angles turn clockwise."""


class RandomStream:
    """A deterministic source of chance, ``PCG64(SeedSequence(key))``.

    Args:
        *key: non-negative integers that name the stream; equal keys give equal streams on all machines.
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))
        self._rng = np.random.Generator(self._bits)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a float in [low, high)."""
        return low + (high - low) * self._rng.random()

    def integer(self, low: int, high: int) -> int:
        """Return an integer in [low, high], both included."""
        return low + int(self._rng.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """Return True with the probability."""
        return self._rng.random() < probability

    def choice(self, items: Sequence[T]) -> T:
        """Return one of the items, all equally likely."""
        return items[self.integer(0, len(items) - 1)]

    def weighted(self, items: Sequence[T], weights: Sequence[int]) -> T:
        """Return one of the items with probabilities proportional to the weights.

        Integers, because ``sum`` of floats rounds differently from Python 3.12 on.
        """
        point = self._rng.random() * sum(weights)
        for item, weight in zip(items, weights, strict=True):
            point -= weight
            if point < 0:
                return item
        return items[-1]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in a random order (Fisher-Yates)."""
        out = list(items)
        for i in range(len(out) - 1, 0, -1):
            j = self.integer(0, i)
            out[i], out[j] = out[j], out[i]
        return out

    def angle(self, step: int = 1) -> int:
        """Return an index into ``UNIT`` that is a multiple of ``step``."""
        return step * self.integer(0, ANGLE_STEPS // step - 1)

    def grid(self, *shape: int) -> np.ndarray:
        """Return a float32 array of independent values in [-1, 1)."""
        return (self._rng.random(shape) * 2 - 1).astype(np.float32)

    def bell(self, *shape: int) -> np.ndarray:
        """Return an int16 array of bell-shaped noise with mean 0 and variance about 1 when divided by 148.

        Each value is the sum of four bytes less their mean, so it is exact; a normal deviate would need ``log``.
        """
        n = math.prod(shape)
        words = self._bits.random_raw((n + 1) // 2).astype("<u8")
        quads = words.view(np.uint8)[: 4 * n].reshape(n, 4).astype(np.int16)
        # Four adds of one column each: a sum of integers is exact in any order, and this is faster than sum(axis=1).
        return (quads[:, 0] + quads[:, 1] + quads[:, 2] + quads[:, 3] - 510).reshape(shape)
