"""Polygons from a mask that comes row by row: however tall it is, only open polygons and the last row are in memory.

Each block of rows is polygonised by itself; pieces that touch along a border of two blocks belong together and are
joined when no further block can touch them. Corners lie on the corners of pixels, so that joining is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes
from scipy import ndimage

_EDGES = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])  # pixels that only share a corner do not touch


@dataclass(frozen=True)
class Region:
    """Foreground pixels that touch each other along edges.

    Attributes:
        polygon: along the edges of its pixels, x right, y down; holes stay holes.
        pixels: their number.
        score: mean probability inside.
        presence: the highest of its pixels; None without a calibration.
    """

    polygon: shapely.Polygon
    pixels: int
    score: float
    presence: float | None

    @property
    def rank(self) -> float:
        """How good an answer it is, 0 to 1: the score, times the presence if there is one."""
        return self.score if self.presence is None else self.score * self.presence


@dataclass
class _Open:
    """A region that may go on in the next block."""

    first: int
    pieces: list[Any] = field(default_factory=list)
    pixels: int = 0
    total: float = 0.0
    presence: float | None = None


class Tracer:
    """Collects the regions of a mask.

    Args:
        left: column of the first pixel of every row.
    """

    def __init__(self, left: int = 0) -> None:
        self._left = left
        self._row: NDArray[np.int64] | None = None  # of the last row: which region each pixel is of, -1 for none
        self._row_at = -1
        self._open: dict[int, _Open] = {}
        self._parent: dict[int, int] = {}
        self._count = 0

    def add(
        self,
        top: int,
        mask: NDArray[np.bool_],
        probability: NDArray[np.float32],
        presence: NDArray[np.float32] | None,
    ) -> Iterator[Region]:
        """Add rows below all earlier ones; yield regions that end above them, in the order in which they began.

        Args:
            top: the first row.
            mask: bool (rows, width).
            probability: float32, of the foreground pixels, row by row.
            presence: float32, likewise; None without a calibration.
        """
        if top != self._row_at + 1:  # a gap: nothing reaches over it
            self._row = None
        if not mask.any():
            self._row, self._row_at = None, top + len(mask) - 1
            yield from self._closed(set())
            return
        labels, found = ndimage.label(mask, _EDGES, output=np.int32)  # type: ignore[misc]
        base = self._count
        self._count += found
        inside = labels[mask]
        pixels = np.bincount(inside, minlength=found + 1)
        totals = np.bincount(inside, probability, minlength=found + 1)
        highest = None if presence is None else ndimage.maximum(presence, inside, np.arange(found + 1))
        pieces: list[list[Any]] = [[] for _ in range(found)]
        for shape, label in shapes(labels, mask, connectivity=4):
            pieces[int(label) - 1].append(shape["coordinates"])
        shift = np.array([self._left, top])
        for n in range(found):
            self._parent[base + n] = base + n
            self._open[base + n] = _Open(
                base + n,
                [_polygon(rings, shift) for rings in pieces[n]],
                int(pixels[n + 1]),
                float(totals[n + 1]),
                None if highest is None else float(highest[n + 1]),
            )
        ids = labels.astype(np.int64) - 1 + base
        ids[~mask] = -1
        if self._row is not None:
            self._join(self._row, ids[0])
        last = ids[-1].copy()
        self._row, self._row_at = last, top + len(mask) - 1
        yield from self._closed({self._root(n) for n in np.unique(last[last >= 0]).tolist()})

    def finish(self) -> Iterator[Region]:
        """Yield the regions that are left: there are no more rows."""
        self._row = None
        yield from self._closed(set())

    def _join(self, above: NDArray[np.int64], below: NDArray[np.int64]) -> None:
        both = (above >= 0) & (below >= 0)
        for one, other in np.unique(np.stack([above[both], below[both]], axis=1), axis=0).tolist():
            one, other = sorted((self._root(one), self._root(other)))
            if one == other:
                continue
            self._parent[other] = one
            kept, gone = self._open[one], self._open.pop(other)
            kept.pieces += gone.pieces
            kept.pixels += gone.pixels
            kept.total += gone.total
            if kept.presence is not None and gone.presence is not None:
                kept.presence = max(kept.presence, gone.presence)

    def _root(self, n: int) -> int:
        while (up := self._parent[n]) != n:
            self._parent[n] = self._parent[up]
            n = up
        return n

    def _closed(self, still: set[int]) -> Iterator[Region]:
        for root in sorted(self._open.keys() - still):
            one = self._open.pop(root)
            yield Region(_joined(one.pieces), one.pixels, one.total / one.pixels, one.presence)
        if not self._open:
            self._parent.clear()
        elif len(self._parent) > 4 * len(self._open) + 1024:  # names that nobody asks for any more
            if self._row is not None:
                self._row = np.array([self._root(n) if n >= 0 else -1 for n in self._row.tolist()])
            self._parent = {root: root for root in self._open}


def _polygon(rings: list[list[tuple[float, float]]], shift: NDArray[np.int64]) -> Any:
    arrays = [np.asarray(ring) + shift for ring in rings]
    polygon = shapely.Polygon(arrays[0], arrays[1:])
    # a border that touches itself in a corner is a hole that touches the border
    return polygon if shapely.is_valid(polygon) else shapely.make_valid(polygon)


def _joined(pieces: list[Any]) -> shapely.Polygon:
    """Return one polygon of pieces that touch, without the corners where they were cut, always written the same way."""
    whole = pieces[0] if len(pieces) == 1 else straightened(shapely.union_all(pieces))
    return shapely.normalize(whole)


def straightened(polygon: Any) -> Any:
    """Return a polygon of horizontal and vertical edges without the points within them."""
    if polygon.geom_type != "Polygon":
        return shapely.union_all([straightened(part) for part in shapely.get_parts(polygon)])
    rings = [_straight(np.asarray(ring.coords)) for ring in (polygon.exterior, *polygon.interiors)]
    return shapely.Polygon(rings[0], rings[1:])


def _straight(points: NDArray[np.float64]) -> NDArray[np.float64]:
    points = points[:-1]
    before, after = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0)
    turn = ~((before == points) & (points == after)).any(axis=1)
    return points[turn]
