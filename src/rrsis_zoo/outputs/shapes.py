"""Pictures and masks at another size, and the outlines of masks: what a drawing is made of. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BLOCK = 2**22  # pixels that Pillow holds at once


def resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3) at another (height, width): smooth when shrinking, square pixels when enlarging."""
    height, width = size
    if (height, width) == pixels.shape[:2]:
        return pixels
    if height >= pixels.shape[0] and width >= pixels.shape[1]:
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST))
    factor = max(1, min(pixels.shape[0] // height, pixels.shape[1] // width) // 2)
    if factor > 1 and pixels.shape[0] * pixels.shape[1] > _BLOCK:  # a copy of all of it would take gigabytes
        rows = factor * max(1, _BLOCK // pixels.shape[1] // factor)
        strips = [Image.fromarray(pixels[top : top + rows]).reduce(factor) for top in range(0, len(pixels), rows)]
        pixels = np.concatenate([np.asarray(strip) for strip in strips])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def resized_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask (H, W) at another (height, width); when shrinking, what is there anywhere stays.

    A referent smaller than a pixel of the drawing would vanish otherwise.
    """
    for axis, length in enumerate(size):
        actual = mask.shape[axis]
        if length < actual:
            starts = np.arange(length) * actual // length
            mask = np.logical_or.reduceat(mask, starts, axis=axis)
        elif length > actual:
            mask = np.take(mask, np.arange(length) * actual // length, axis=axis)
    return mask


def grown(mask: NDArray[np.bool_], steps: int = 1) -> NDArray[np.bool_]:
    """Return a mask (H, W) with all pixels within so many steps, each to the eight around."""
    for _ in range(steps):
        wide = mask.copy()
        wide[:, 1:] |= mask[:, :-1]
        wide[:, :-1] |= mask[:, 1:]
        mask = wide.copy()
        mask[1:] |= wide[:-1]
        mask[:-1] |= wide[1:]
    return mask


def outline(mask: NDArray[np.bool_], thickness: int) -> NDArray[np.bool_]:
    """Return the border of a mask (H, W): so many pixels inside it, also along the edge of the picture."""
    outside = np.pad(~mask, 1, constant_values=True)
    return mask & grown(outside, thickness)[1:-1, 1:-1]


def middle(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return (row, column) of a pixel deep inside a mask (H, W) that is not empty: a place for a number."""
    step = max(1, max(mask.shape) // 256)
    size = (-(-mask.shape[0] // step), -(-mask.shape[1] // step))
    small = np.pad(resized_mask(mask, size), 1)
    while (core := small & ~grown(~small)).any():
        small = core
    # of what is left, the pixel nearest to its own centre
    rows, columns = np.nonzero(small[1:-1, 1:-1])
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    row, column = (int(v[nearest] * side / s) for v, side, s in zip((rows, columns), mask.shape, size, strict=True))
    return min(row + step // 2, mask.shape[0] - 1), min(column + step // 2, mask.shape[1] - 1)
