"""Rows of a view's grid as rows of the raster's own grid, a few at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from rrsis_zoo.scenes.area import Area
from rrsis_zoo.scenes.blend import Rows
from rrsis_zoo.scenes.raster import Source
from rrsis_zoo.scenes.view import View
from rrsis_zoo.scenes.windows import Window

_ROWS = 256  # of the raster at once


def to_native(rows: Iterable[Rows], view: View, within: Window) -> Iterator[Rows]:
    """Yield the rows of a part of the raster's grid: log-odds bilinear, averaged where the raster is coarser.

    Args:
        rows: of the view's grid, from the top, without gaps; those that the part does not need may be missing.
        view: the grid.
        within: the part, in pixels of the raster.
    """
    if view.native:
        yield from _cut(rows, within)
        return
    y, x = view.factors
    across = taps(within.left, within.right, 1 / x, view.width)
    kept: list[Rows] = []
    done = within.top
    for more in rows:
        kept.append(more)
        bottom = more.top + len(more)
        final = bottom >= view.height
        # as far down as no further row has a say
        reach = within.bottom if final else min(within.bottom, math.floor((bottom - _support(1 / y) - 0.5) * y))
        for top in range(done, reach, _ROWS):
            yield _resampled(kept, view, top, min(top + _ROWS, reach), within, across)
        done = max(done, reach)
        needed = _first(done, 1 / y)
        kept = [one for one in kept if one.top + len(one) > needed]
        if done >= within.bottom:
            return
    if kept and done < within.bottom:  # the part's last rows are below all that was looked at
        for top in range(done, within.bottom, _ROWS):
            yield _resampled(kept, view, top, min(top + _ROWS, within.bottom), within, across)


def clipped(rows: Iterable[Rows], source: Source, within: Window, area: Area | None, masked: bool) -> Iterator[Rows]:
    """Yield rows of the raster's grid with nothing known outside the area, nor, if ``masked``, without a value."""
    for one in rows:
        known = one.known
        if area is not None:
            known = known & area.inside(one.top, within.left, known.shape)
        if masked and (valid := source.valid(one.top, len(one), within.left, within.width)) is not None:
            known = known & valid
        yield Rows(one.top, one.logits, one.presence, known)


def _cut(rows: Iterable[Rows], within: Window) -> Iterator[Rows]:
    columns = slice(within.left, within.right)
    for one in rows:
        first, last = max(within.top - one.top, 0), min(within.bottom - one.top, len(one))
        if first < last:
            part = slice(first, last)
            presence = None if one.presence is None else one.presence[:, part, columns]
            yield Rows(one.top + first, one.logits[:, part, columns], presence, one.known[part, columns])


def _support(scale: float) -> float:
    """Return how far from a pixel's centre others have a say, in pixels of the view; scale: of those in one here."""
    return max(1.0, scale)


def _first(start: int, scale: float) -> int:
    return math.floor((start + 0.5) * scale - _support(scale))


def taps(start: int, stop: int, scale: float, size: int) -> sparse.csr_matrix:
    """Return the weights of a grid's pixels in those of another one along an axis, (stop - start, size).

    Args:
        start, stop: pixels that are wanted.
        scale: pixels of the given grid in one of the wanted.
        size: of the given grid; beyond its ends the last pixel is repeated.
    """
    centres = (np.arange(start, stop) + 0.5) * scale - 0.5
    support = _support(scale)
    width = 2 * math.ceil(support) + 1
    places = np.floor(centres).astype(np.int64)[:, None] + np.arange(width) - width // 2
    weights = np.clip(1 - np.abs(places - centres[:, None]) / support, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(stop - start), width)
    columns = np.clip(places, 0, size - 1).ravel()
    flat = weights.ravel().astype(np.float32)
    return sparse.csr_matrix((flat[flat > 0], (rows[flat > 0], columns[flat > 0])), shape=(stop - start, size))


def _resampled(kept: list[Rows], view: View, top: int, bottom: int, within: Window, across: sparse.csr_matrix) -> Rows:
    scale = 1 / view.factors[0]
    down = taps(top, bottom, scale, view.height)
    first = kept[0].top
    down = down[:, first : kept[-1].top + len(kept[-1])]

    def moved(planes: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ascontiguousarray((across @ (down @ planes).T).T, np.float32)

    def joined(parts: list[NDArray]) -> NDArray:
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-2)

    logits = joined([one.logits for one in kept])
    known = joined([one.known for one in kept]).astype(np.float32)
    presence = None
    if kept[0].presence is not None:
        fields = joined([one.presence for one in kept if one.presence is not None])
        presence = np.stack([_nearest(plane, top, bottom, first, view, within) for plane in fields])
    return Rows(top, np.stack([moved(plane) for plane in logits]), presence, moved(known) > 0)


def _nearest(
    plane: NDArray[np.float32], top: int, bottom: int, first: int, view: View, within: Window
) -> NDArray[np.float32]:
    """Return the values around: where foreground reaches a little further than the pixel that it is from."""
    y, x = view.factors
    padded = np.pad(plane, 1, mode="edge")
    rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    wide = np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    places = np.clip(((np.arange(top, bottom) + 0.5) / y).astype(np.int64) - first, 0, len(plane) - 1)
    columns = np.clip(((np.arange(within.left, within.right) + 0.5) / x).astype(np.int64), 0, plane.shape[1] - 1)
    return wide[np.ix_(places, columns)]
