"""Where a heat map points, in the pixels of the image. Numpy only.

A heat map lies on the method's square input, whose content may be smaller (``fitted`` of
`rrsis_zoo.models.types.ImageState`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Heat = NDArray[np.floating]


class Frame(NamedTuple):
    """How the cells of a heat map lie on an image.

    Attributes:
        height, width: of the image in pixels.
        down, across: cells of the grid that the image's content spans, downwards and across (fractions allowed).
    """

    height: int
    width: int
    down: float
    across: float

    @classmethod
    def of(cls, size: tuple[int, int], fitted: tuple[int, int], side: int, grid: tuple[int, int]) -> Frame:
        """Return the frame of an image of ``size`` whose content fills ``fitted`` of a square of ``side`` pixels."""
        return cls(*size, grid[0] * fitted[0] / side, grid[1] * fitted[1] / side)

    def pixels(self, row: int, column: int) -> tuple[slice, slice]:
        """Return the rows and columns of the pixels with their centre in a cell; at least the one nearest to it."""
        return _span(row, self.height, self.down), _span(column, self.width, self.across)

    def centre(self, row: int, column: int) -> tuple[int, int]:
        """Return the pixel (y, x) at a cell's centre; that of a cell in the padding is the image's nearest."""
        y = int((row + 0.5) * self.height / self.down)
        x = int((column + 0.5) * self.width / self.across)
        return min(y, self.height - 1), min(x, self.width - 1)

    def inside(self, row: int, column: int) -> bool:
        """Whether a cell's centre lies on the image, and not in the padding."""
        return row + 0.5 < self.down and column + 0.5 < self.across


def _span(cell: int, pixels: int, cells: float) -> slice:
    # pixel i has its centre at (i + ½) · cells / pixels on the grid
    low = int(np.ceil(cell * pixels / cells - 0.5))
    high = int(np.ceil((cell + 1) * pixels / cells - 0.5))
    low, high = max(low, 0), min(high, pixels)
    if high <= low:
        low = min(int((cell + 0.5) * pixels / cells), pixels - 1)
        high = low + 1
    return slice(low, high)


def hit(heat: Heat, truth: Mask, frame: Frame) -> float:
    """Return which share of the heat map's highest cells lies on the referent; usually 0 or 1.

    A cell lies on it if at least half of its pixels do; if the referent has fewer pixels than a cell, if the pixel at
    the cell's centre does. Several cells may be equally high.

    Args:
        heat: (g, g).
        truth: bool (H, W).
        frame: how the one lies on the other.
    """
    rows, columns = np.nonzero(heat == heat.max())
    found = [_on(int(r), int(c), truth, frame) for r, c in zip(rows, columns, strict=True)]
    return sum(found) / len(found)


def _on(row: int, column: int, truth: Mask, frame: Frame) -> bool:
    if not frame.inside(row, column):
        return False
    cell = truth[frame.pixels(row, column)]
    area = (frame.height / frame.down) * (frame.width / frame.across)
    if np.count_nonzero(truth) < area:
        return bool(truth[frame.centre(row, column)])
    return 2 * int(np.count_nonzero(cell)) >= cell.size


def peak(heat: Heat) -> tuple[int, int]:
    """Return row and column of the highest cell, the first of several."""
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    return int(row), int(column)


def half_box(heat: Heat, frame: Frame) -> tuple[int, int, int, int]:
    """Return the box of the cells around the peak with at least half its height, connected by their sides.

    Returns:
        top, left, bottom, right in pixels, the last two exclusive.
    """
    from scipy import ndimage

    labels = np.empty(heat.shape, np.int32)
    ndimage.label(heat >= heat.max() / 2, output=labels)
    rows, columns = np.nonzero(labels == labels[peak(heat)])
    first = frame.pixels(int(rows.min()), int(columns.min()))
    last = frame.pixels(int(rows.max()), int(columns.max()))
    top, left = min(first[0].start, frame.height - 1), min(first[1].start, frame.width - 1)
    return top, left, max(last[0].stop, top + 1), max(last[1].stop, left + 1)


def mask_box(mask: Mask) -> tuple[int, int, int, int] | None:
    """Return the box of a mask as top, left, bottom, right, the last two exclusive; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def largest_box(mask: Mask) -> tuple[int, int, int, int] | None:
    """Return the box of a mask's largest component (connected by sides); None if it is empty."""
    from scipy import ndimage

    if not mask.any():
        return None
    labels = np.empty(mask.shape, np.int32)
    ndimage.label(mask, output=labels)
    return mask_box(labels == 1 + int(np.bincount(labels.ravel())[1:].argmax()))


def innermost(mask: Mask) -> tuple[int, int]:
    """Return the pixel (y, x) of a mask farthest from everything outside it; outside the image is outside too."""
    from scipy.ndimage import distance_transform_edt

    depth = np.asarray(distance_transform_edt(np.pad(mask, 1)))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), mask.shape)
    return int(y), int(x)
