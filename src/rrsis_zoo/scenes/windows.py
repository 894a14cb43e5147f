"""Where the windows of a scene lie, and how much each counts at its edges. No torch, no GDAL."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_LEAST = 1e-3
"""Weight at the edge of a window: where it is the only one, it still decides."""


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels; the last row and column are not in it.

    Attributes:
        top, left: first row and column.
        height, width: in pixels.
    """

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """The row after the last one."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """The column after the last one."""
        return self.left + self.width


def offsets(length: int, side: int, overlap: float) -> list[int]:
    """Return where windows begin along an axis: at equal steps, the last one shifted inside.

    Args:
        length: of the axis in pixels.
        side: of a window; a shorter axis has one window, as long as itself.
        overlap: share of a window that it has in common with the next one.
    """
    if length <= side:
        return [0]
    step = max(1, round(side * (1 - overlap)))
    return [*range(0, length - side, step), length - side]


def taper(starts: list[int], n: int, side: int) -> NDArray[np.float32]:
    """Return the weights of a window along an axis, (side,): 1 in the middle, a raised cosine where it overlaps others.

    At the borders of the scene, where there is no neighbour, it stays 1.

    Args:
        starts: of all windows.
        n: which window.
        side: of every window in pixels.
    """
    weights = np.ones(side)
    if n > 0 and (shared := starts[n - 1] + side - starts[n]) > 0:
        weights[:shared] *= _rise(shared)
    if n + 1 < len(starts) and (shared := starts[n] + side - starts[n + 1]) > 0:
        weights[side - shared :] *= _rise(shared)[::-1]
    return weights.astype(np.float32)


def _rise(length: int) -> NDArray[np.float64]:
    return _LEAST + (1 - _LEAST) * 0.5 * (1 - np.cos(np.pi * (np.arange(length) + 0.5) / length))


@dataclass(frozen=True)
class Plan:
    """All windows of a grid of pixels, row by row.

    Attributes:
        height, width: of the grid.
        tops, lefts: where windows begin.
        sides: height and width of every window.
    """

    height: int
    width: int
    tops: list[int]
    lefts: list[int]
    sides: tuple[int, int]
    _down: list[NDArray[np.float32]] = field(init=False, repr=False)
    _across: list[NDArray[np.float32]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        down = [taper(self.tops, n, self.sides[0]) for n in range(len(self.tops))]
        across = [taper(self.lefts, n, self.sides[1]) for n in range(len(self.lefts))]
        object.__setattr__(self, "_down", down)
        object.__setattr__(self, "_across", across)

    @staticmethod
    def tiled(height: int, width: int, side: int, overlap: float) -> Plan:
        """Return windows that cover a grid; a grid smaller than a window is one window."""
        tops, lefts = offsets(height, side, overlap), offsets(width, side, overlap)
        return Plan(height, width, tops, lefts, (min(side, height), min(side, width)))

    @staticmethod
    def single(height: int, width: int, window: Window) -> Plan:
        """Return one window somewhere in a grid."""
        return Plan(height, width, [window.top], [window.left], (window.height, window.width))

    def over(self, window: Window) -> Plan:
        """Return the windows of this plan that touch a rectangle; within it their weights are the same."""
        tops = [top for top in self.tops if top < window.bottom and top + self.sides[0] > window.top]
        lefts = [left for left in self.lefts if left < window.right and left + self.sides[1] > window.left]
        return Plan(self.height, self.width, tops, lefts, self.sides)

    @property
    def top(self) -> int:
        """The first row of all windows."""
        return self.tops[0]

    @property
    def bottom(self) -> int:
        """The row after the last one of all windows."""
        return self.tops[-1] + self.sides[0]

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def __getitem__(self, n: int) -> Window:
        row, column = divmod(n, len(self.lefts))
        if row >= len(self.tops):
            raise IndexError(n)
        return Window(self.tops[row], self.lefts[column], *self.sides)

    def weights(self, n: int) -> NDArray[np.float32]:
        """Return how much each pixel of the n-th window counts, (height, width) in (0, 1]."""
        row, column = divmod(n, len(self.lefts))
        return self._down[row][:, None] * self._across[column]
