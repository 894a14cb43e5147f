"""Small pictures as shapes: a scene, its mask and a coarse map, without a raster image in the SVG.

An SVG that GitHub shows may not load images, not even embedded ones in every browser; and a raster file would differ
with the library that compresses it.
"""

from collections import defaultdict
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

STEP = 20
"""Colours are rounded to multiples of this, so that neighbours of nearly the same colour become one shape."""


def smaller(array: NDArray, cells: int) -> NDArray[np.float64]:
    """Return the means over cells × cells equal parts of a square (S, S) or (S, S, C), where parts may share pixels."""
    side = len(array)
    edges = np.linspace(0, side, cells + 1)
    share = np.zeros((cells, side))
    for i, (low, high) in enumerate(pairwise(edges)):
        pixels = np.arange(side)
        share[i] = np.clip(np.minimum(pixels + 1, high) - np.maximum(pixels, low), 0, 1) / (high - low)
    return np.einsum("ab,cd,bd...->ac...", share, share, array.astype(np.float64))


def picture(image: NDArray[np.uint8], cells: int) -> str:
    """Return shapes of a square RGB image (S, S, 3) as cells × cells pixels of size 1."""
    small = (smaller(image, cells) / STEP).round().astype(int) * STEP
    return _runs(np.clip(small, 0, 255))


def coarse_map(mask: NDArray[np.bool_], cells: int, low: tuple[int, ...], high: tuple[int, ...]) -> str:
    """Return shapes of a mask's share of cells × cells cells, from the colour ``low`` (none) to ``high`` (all)."""
    share = (smaller(mask, cells) * 4).round()[..., None] / 4
    return _runs(((1 - share) * np.array(low) + share * np.array(high)).round().astype(int))


def _runs(pixels: NDArray) -> str:
    """Return one path a colour, made of horizontal runs; the commonest colour is one square behind all others."""
    runs = defaultdict(list)
    for y, row in enumerate(pixels.tolist()):
        x = 0
        while x < len(row):
            end = x
            while end < len(row) and row[end] == row[x]:
                end += 1
            runs[tuple(row[x])].append((x, y, end - x))
            x = end
    commonest = max(runs, key=lambda colour: sum(length for *_, length in runs[colour]))
    n = len(pixels)
    parts = [f'<path fill="{_hex(commonest)}" d="M0 0h{n}v{n}h-{n}z"/>']
    for colour in sorted(runs.keys() - {commonest}):
        d = "".join(f"M{x} {y}h{length}v1h-{length}z" for x, y, length in runs[colour])
        parts.append(f'<path fill="{_hex(colour)}" d="{d}"/>')
    return "".join(parts)


def _hex(colour: tuple[int, ...]) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in colour)
