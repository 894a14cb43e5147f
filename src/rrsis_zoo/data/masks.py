"""Masks as the datasets store them, COCO run lengths or grey files: checked and decoded when needed. No torch here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as _pycocotools_mask

from rrsis_zoo.data.pixels import image_size, read_grey

_coco: Any = _pycocotools_mask  # its published types leave out lists of layers and bytes

LayerRule = Literal["sum_eq_1", "any"]
"""How the layers of one annotation make one mask.

``sum_eq_1``: foreground is where exactly one layer is set, as the reference loaders do (their layers are summed and
compared with 1, so that an overlap becomes background). ``any``: foreground is where at least one layer is set.
"""


class MaskSource(Protocol):
    """Where a mask comes from."""

    @property
    def height(self) -> int:
        """Height in pixels."""
        ...

    @property
    def width(self) -> int:
        """Width in pixels."""
        ...

    @property
    def is_empty(self) -> bool:
        """Whether no pixel is foreground."""
        ...

    @property
    def identity(self) -> str:
        """What the mask is, wherever its files lie: equal for equal content and rule."""
        ...

    def decode(self) -> NDArray[np.bool_]:
        """Return the mask, (height, width) bool."""
        ...


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

    @property
    def identity(self) -> str:
        """The run lengths themselves."""
        return repr(self)

    def decode(self) -> NDArray[np.bool_]:
        """Return the mask, (height, width) bool."""
        depth = _coco.decode(self._layers()).sum(axis=2, dtype=np.int64)
        return np.ascontiguousarray(depth == 1 if self.rule == "sum_eq_1" else depth > 0)

    def _layers(self) -> list[dict[str, Any]]:
        return [{"size": [self.height, self.width], "counts": counts} for counts in self.layers]


@dataclass(frozen=True, slots=True)
class GreyFile:
    """A mask as an image file of its own; foreground is where the grey level is above a threshold.

    Nothing is read before it is needed: a split of RISBench has up to 26,300 such files.

    Attributes:
        path: the file.
        threshold: 0-254.

    Raises (on reading):
        DataFormatError: a file that is missing, damaged, no image, or deeper than 8 bits.
    """

    path: Path
    threshold: int

    @property
    def height(self) -> int:
        """Height in pixels, from the file's header."""
        return image_size(self.path)[0]

    @property
    def width(self) -> int:
        """Width in pixels, from the file's header."""
        return image_size(self.path)[1]

    @property
    def is_empty(self) -> bool:
        """Whether no pixel is foreground; reads the file."""
        return not self.decode().any()

    @property
    def identity(self) -> str:
        """Threshold and SHA-256 of the file's bytes; reads the file."""
        return f"GreyFile(threshold={self.threshold}, sha256={hashlib.sha256(self.path.read_bytes()).hexdigest()})"

    def decode(self) -> NDArray[np.bool_]:
        """Return the mask, (height, width) bool."""
        return read_grey(self.path) > self.threshold


@dataclass(frozen=True, slots=True)
class Median3:
    """A mask after a 3 x 3 median filter (the majority of nine pixels; border pixels are repeated outwards).

    RRSIS-D's run lengths were taken from grey masks without a threshold, which left checkerboards and stripes along
    the borders. This takes them out. It is not what published numbers were computed with.

    Attributes:
        source: the mask as the dataset has it.
    """

    source: MaskSource

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.source.height

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.source.width

    @property
    def is_empty(self) -> bool:
        """Whether no pixel is foreground."""
        return not self.decode().any()

    @property
    def identity(self) -> str:
        """The source's identity, and the filter."""
        return f"Median3({self.source.identity})"

    def decode(self) -> NDArray[np.bool_]:
        """Return the filtered mask, (height, width) bool."""
        return median3(self.source.decode())


def median3(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the 3 x 3 median of a bool (H, W) mask; the border is repeated outwards."""
    width = mask.shape[1]
    padded = np.pad(mask.astype(np.uint8), 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return rows[:, :width] + rows[:, 1 : width + 1] + rows[:, 2:] >= 5


def fit_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask at the image's size (height, width): itself, or resized by PIL's nearest (pixel centres)."""
    if mask.shape == size:
        return mask
    grey = Image.fromarray(mask.astype(np.uint8)).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.array(grey, dtype=np.bool_)


MaskCleanup = Literal["none", "median3"]
"""``none`` leaves masks as published; ``median3`` filters them, see `Median3`."""


def clean(source: MaskSource, cleanup: MaskCleanup) -> MaskSource:
    """Return the source with the clean-up applied."""
    return Median3(source) if cleanup == "median3" else source


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
