"""Masks as COCO run lengths: checked, counted and decoded. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as _pycocotools_mask

_coco: Any = _pycocotools_mask  # its published types leave out lists of layers and bytes

LayerRule = Literal["sum_eq_1", "any"]
"""How the layers of one annotation make one mask.

``sum_eq_1``: foreground is where exactly one layer is set, as the reference loaders do (their layers are summed and
compared with 1, so that an overlap becomes background). ``any``: foreground is where at least one layer is set.
"""


@dataclass(frozen=True, slots=True)
class RunLengths:
    """A mask as COCO run lengths, in one or more layers.

    Attributes:
        layers: compressed counts of each layer (column-major runs, background first).
        height: height of the annotation in pixels, which is not always the image's.
        width: width of the annotation in pixels.
        rule: how several layers make one mask.

    Raises:
        ValueError: no layer, a size without pixels, or runs that do not fill the size exactly. pycocotools leaves
            the pixels after the last run uninitialised, so such counts must never reach it.
    """

    layers: tuple[bytes, ...]
    height: int
    width: int
    rule: LayerRule = "sum_eq_1"

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("a mask needs at least one layer of run lengths")
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a mask of {self.height} x {self.width} has no pixels")
        for counts in self.layers:
            total = int(run_lengths(counts).sum())
            if total != self.height * self.width:
                raise ValueError(f"the runs cover {total} pixels, not the {self.height} x {self.width} of the mask")

    @property
    def is_empty(self) -> bool:
        """Whether no pixel is foreground."""
        areas = _coco.area(self._layers())
        if len(self.layers) > 1 and areas.any():
            return not self.decode().any()
        return not areas.any()

    def decode(self) -> NDArray[np.bool_]:
        """Return the mask, (height, width) bool."""
        depth = _coco.decode(self._layers()).sum(axis=2, dtype=np.int64)
        return np.ascontiguousarray(depth == 1 if self.rule == "sum_eq_1" else depth > 0)

    def _layers(self) -> list[dict[str, Any]]:
        return [{"size": [self.height, self.width], "counts": counts} for counts in self.layers]


MaskSource = RunLengths
"""Where a mask comes from. Every kind has ``height``, ``width``, ``is_empty`` and ``decode()``."""


def encode_mask(mask: NDArray[np.bool_]) -> bytes:
    """Return the compressed counts of a bool (H, W) mask."""
    return _coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]


def encode_runs(runs: Sequence[int], height: int, width: int) -> bytes:
    """Return the compressed counts of run lengths given as numbers.

    Raises:
        ValueError: negative runs, or runs that do not fill the size.
    """
    if min(runs, default=-1) < 0 or sum(runs) != height * width:
        raise ValueError(f"run lengths must be at least 0 and add up to {height} x {width}")
    return _coco.frPyObjects({"size": [height, width], "counts": list(runs)}, height, width)["counts"]


def encode_polygon(points: Sequence[float], height: int, width: int) -> bytes:
    """Return the compressed counts of a polygon, rasterised as pycocotools does.

    Args:
        points: x, y, x, y, ... in pixels.
        height: of the mask.
        width: of the mask.

    Raises:
        ValueError: fewer than three points, or a point further outside than the mask is large (pycocotools walks every
            edge pixel by pixel and overflows on huge ones).
    """
    if len(points) < 6 or len(points) % 2:  # four numbers would be taken for a box
        raise ValueError("a polygon must be at least three points x, y")
    side = max(height, width)
    if not all(-side <= value <= 2 * side for value in points):
        raise ValueError(f"a polygon has a point far outside its {height} x {width} mask")
    return _coco.frPyObjects([list(points)], height, width)[0]["counts"]


def run_lengths(counts: bytes) -> NDArray[np.int64]:
    """Return the run lengths that COCO's compressed counts stand for.

    Each run is written in 5-bit groups, lowest first, one character (48-111) a group; bit 5 says that another group
    follows, bit 4 of the last one is the sign. From the fourth run on, the difference to the run two before is written.

    Args:
        counts: compressed counts.

    Raises:
        ValueError: characters out of range, a run that is cut off or negative.
    """
    groups = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if groups.size == 0 or groups.min() < 0 or groups.max() > 63:
        raise ValueError("run lengths hold characters that COCO's code does not have")
    last = groups & 0x20 == 0
    if not last[-1]:
        raise ValueError("run lengths end within a run")
    ends = np.flatnonzero(last)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 7:  # 35 bits: more pixels than any image has
        raise ValueError("run lengths hold a run of more than 35 bits")
    shift = 5 * (np.arange(groups.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((groups & 0x1F) << shift, starts)
    runs -= np.where(groups[ends] & 0x10, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if runs.min() < 0:
        raise ValueError("run lengths hold a negative run")
    return runs
