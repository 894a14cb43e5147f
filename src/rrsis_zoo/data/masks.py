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

from rrsis_zoo.data.pixels import LIMIT_VARIABLE, image_size, pixel_limit, read_grey
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.files import reason, regular_file

_coco: Any = _pycocotools_mask  # its type stubs lack lists of layers and bytes

LayerRule = Literal["sum_eq_1", "any"]
"""How the layers of one annotation combine into one mask.

``sum_eq_1``: foreground is where exactly one layer is set, as in the reference loaders (they sum the layers and compare
with 1, so that an overlap becomes background). ``any``: foreground is where at least one layer is set.
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
        """Identifies the mask wherever its files are: equal for equal content and rule."""
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
        rule: how several layers combine.

    Raises:
        ValueError: no layer, a size that `check_size` refuses, or runs that do not fill the size exactly.
    """

    layers: tuple[bytes, ...]
    height: int
    width: int
    rule: LayerRule = "sum_eq_1"

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("a mask needs at least one layer of run lengths")
        check_size(self.height, self.width)
        for counts in self.layers:
            total = int(run_lengths(counts).sum())
            if total != self.height * self.width:
                raise ValueError(f"the runs cover {total} pixels, not the {self.height} x {self.width} of the mask")

    @property
    def is_empty(self) -> bool:
        """Whether no pixel is foreground."""
        layers = [{"size": [self.height, self.width], "counts": counts} for counts in self.layers]
        if len(layers) == 1 or not _coco.area(layers).any():  # fast, also for a whole split
            return not _coco.area(layers).any()
        values, lengths = self._runs()
        return not lengths[values].any()

    @property
    def identity(self) -> str:
        """The run lengths themselves."""
        return repr(self)

    def decode(self) -> NDArray[np.bool_]:
        """Return the mask, (height, width) bool."""
        values, lengths = self._runs()
        return np.ascontiguousarray(np.repeat(values, lengths).reshape(self.width, self.height).T)

    def _runs(self) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Return the runs of the combined mask, down the columns: whether foreground, and their lengths."""
        ends = [np.cumsum(run_lengths(counts)) for counts in self.layers]
        steps = [np.where(np.arange(len(some)) % 2, -1, 1) for some in ends]  # a layer begins with background
        places, changes = np.concatenate(ends), np.concatenate(steps)
        order = np.argsort(places, kind="stable")
        depth = np.concatenate(([0], np.cumsum(changes[order])[:-1]))
        lengths = np.diff(places[order], prepend=0)
        return (depth == 1 if self.rule == "sum_eq_1" else depth > 0), lengths


@dataclass(frozen=True, slots=True)
class GreyFile:
    """A mask in its own image file; foreground is above a grey level.

    Nothing is read before it is needed: a split of RISBench has up to 26,300 such files.

    Attributes:
        path: the file.
        threshold: 0-254.

    Raises (on reading):
        DataFormatError: as `rrsis_zoo.data.pixels.read_rgb`.
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
        try:
            content = regular_file(self.path).read_bytes()
        except OSError as cause:
            raise DataFormatError(f"{self.path}: cannot be read ({reason(cause)})") from cause
        return f"GreyFile(threshold={self.threshold}, sha256={hashlib.sha256(content).hexdigest()})"

    def decode(self) -> NDArray[np.bool_]:
        """Return the mask, (height, width) bool."""
        return read_grey(self.path) > self.threshold


@dataclass(frozen=True, slots=True)
class Median3:
    """A mask after a 3 x 3 median filter (the majority of nine pixels; border pixels are repeated outwards).

    RRSIS-D's run lengths were made from grey masks without a threshold, which left checkerboards and stripes along the
    borders. This filter removes them. Published numbers were computed without it.

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


def at_image_size(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
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


def check_size(height: Any, width: Any) -> None:
    """Refuse a size that no mask can have.

    Raises:
        ValueError: not two integers (``true``, ``2.0`` and ``"2"`` are not), below 1, or more pixels than
            `rrsis_zoo.data.pixels.pixel_limit`.
    """
    if type(height) is not int or type(width) is not int:
        raise ValueError(f"a size must be two integers, got {str((height, width))[:60]}")
    if height < 1 or width < 1:
        raise ValueError(f"a mask of {height} x {width} has no pixels")
    limit = pixel_limit()
    if height * width > limit:  # an integer of any length can be compared, but not printed
        raise ValueError(f"a mask has more than {limit:,} pixels, the limit; {LIMIT_VARIABLE} changes it")


def encode_runs(runs: Sequence[int], height: int, width: int) -> bytes:
    """Return the compressed counts of run lengths in plain numbers.

    Raises:
        ValueError: runs that are not integers or are negative, that do not fill the size, or a size that `check_size`
            refuses.
    """
    check_size(height, width)
    if not all(type(run) is int and 0 <= run <= height * width for run in runs) or sum(runs) != height * width:
        raise ValueError(f"run lengths must be integers of at least 0 that add up to {height} x {width}")
    return _coco.frPyObjects({"size": [height, width], "counts": list(runs)}, height, width)["counts"]


_LONGEST_OUTLINE = 2**21  # pixels along a polygon; pycocotools uses about 120 bytes for each


def encode_polygon(points: Sequence[float], height: int, width: int) -> bytes:
    """Return the compressed counts of a polygon, rasterised as pycocotools does.

    Args:
        points: x, y, x, y, ... in pixels.
        height: of the mask.
        width: of the mask.

    Raises:
        ValueError: fewer than three points, values that are not numbers, a point further outside than the mask's side
            (pycocotools walks every edge pixel by pixel and overflows on huge ones), an outline longer than any mask
            has, or a size that `check_size` refuses.
    """
    check_size(height, width)
    if len(points) < 6 or len(points) % 2:  # four numbers would be read as a box
        raise ValueError("a polygon must be at least three points x, y")
    if not all(type(value) in (int, float) for value in points):
        raise ValueError("a polygon must be a list of numbers")
    side = max(height, width)
    if not all(-side <= value <= 2 * side for value in points):
        raise ValueError(f"a polygon has a point far outside its {height} x {width} mask")
    corners = np.array(points, np.float64).reshape(-1, 2)
    outline = np.abs(np.diff(corners, axis=0, append=corners[:1])).max(axis=1).sum()
    # an outline may have corners outside a small mask, but does not visit each pixel several times
    if outline > min(_LONGEST_OUTLINE, 16 * (height + 2) * (width + 2)):
        raise ValueError(
            f"a polygon has an outline of {outline:.0f} pixels, more than a {height} x {width} mask can have"
        )
    return _coco.frPyObjects([list(points)], height, width)[0]["counts"]


def run_lengths(counts: bytes) -> NDArray[np.int64]:
    """Return the run lengths encoded by COCO's compressed counts.

    Each run is written in 5-bit groups, lowest first, one character (48-111) per group; bit 5 means that another group
    follows, bit 4 of the last one is the sign. From the fourth run on, the difference from the run two earlier is
    written.

    Args:
        counts: compressed counts.

    Raises:
        ValueError: characters out of range, or a run that is truncated or negative.
    """
    groups = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if groups.size == 0 or groups.min() < 0 or groups.max() > 63:
        raise ValueError("run lengths contain characters that COCO's code does not have")
    last = groups & 0x20 == 0
    if not last[-1]:
        raise ValueError("run lengths end within a run")
    ends = np.flatnonzero(last)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 7:  # 35 bits: more pixels than any image has
        raise ValueError("run lengths contain a run of more than 35 bits")
    shift = 5 * (np.arange(groups.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((groups & 0x1F) << shift, starts)
    runs -= np.where(groups[ends] & 0x10, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if runs.min() < 0:
        raise ValueError("run lengths contain a negative run")
    return runs
