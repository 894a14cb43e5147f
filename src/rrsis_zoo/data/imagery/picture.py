"""One image file of any kind as uint8 RGB, with remarks on what was done to it. No torch."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.data.headers import Header
from rrsis_zoo.data.imagery.deep import deep_values
from rrsis_zoo.data.imagery.stretch import Stretch, to_8_bits
from rrsis_zoo.data.pixels import lazily, opened, orientation_in, read_rgb, sized_header
from rrsis_zoo.errors import DataFormatError

DEEP = Stretch("percentiles", 2.0, 98.0)
"""How values of more than 8 bits are shown unless something else is asked for."""

_PAGED = ("GIF", "TIFF", "WEBP", "PNG")
_NOT_A_PAGE = 0b101  # bits of a TIFF's NewSubfileType: a reduced copy of another page, a transparency mask


@dataclass(frozen=True)
class Picture:
    """An image for a model.

    Attributes:
        pixels: uint8 RGB (H, W, 3), as displayed.
        limits: the values of each channel that became 0 and 255, (C, 2); None if the values are the file's own.
        notes: remarks for the user, each without the file's name.
    """

    pixels: NDArray[np.uint8]
    limits: tuple[tuple[float, float], ...] | None = None
    notes: tuple[str, ...] = ()


def read_picture(path: str | Path, stretch: Stretch | None = None) -> Picture:
    """Read an image file: palettes, CMYK, grey, alpha (left out), 1 to 32 bits, the first page of several.

    Args:
        path: of the file.
        stretch: how its values become 8 bits; None leaves 8 bits as they are and shows deeper values by `DEEP`.

    Raises:
        DataFormatError: a file that is missing, damaged, larger than the limit, or of a kind that cannot be read
            exactly; or a deeper one with stretch ``none``.
    """
    path = Path(path)
    with opened(path) as (file, what):
        header = sized_header(file, what)
        pages = _pages(file, what, header)
    notes = [f"the first of its {pages} pages or frames is used"] if pages > 1 else []
    if not header.is_deep:
        pixels = read_rgb(path)
        if stretch is None or stretch.kind == "none":
            return Picture(pixels, notes=tuple(notes))
        return _stretched(pixels, stretch, notes)
    if stretch is not None and stretch.kind == "none":
        raise DataFormatError(
            f"{path}: is a {header}, and --stretch none keeps 8-bit values only: leave it out, or say --stretch 2,98, "
            "minmax or A:B"
        )
    try:
        picture = _stretched(deep_values(path, header), stretch or DEEP, notes)
    except DataFormatError as error:
        raise error if str(path) in str(error) else DataFormatError(f"{path}: {error}") from error
    return picture


def picture_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) as displayed of a file that `read_picture` reads, from its header.

    Raises:
        DataFormatError: a file that is missing, not an image, or implausibly large.
    """
    with opened(path) as (file, what):
        header = sized_header(file, what)
        turned = _orientation(file, what, header) >= 5
        return (header.width, header.height) if turned else (header.height, header.width)


def picture_orientation(path: str | Path) -> int:
    """Return the orientation of a file that `read_picture` reads, 1 to 8. Errors as `picture_size`."""
    with opened(path) as (file, what):
        return _orientation(file, what, sized_header(file, what))


def _orientation(file: BinaryIO, what: str, header: Header) -> int:
    # Pillow does not open every deep TIFF
    return header.orientation if header.format == "TIFF" else orientation_in(file, what, header)


def _stretched(values: NDArray[Any], stretch: Stretch, notes: list[str]) -> Picture:
    alpha = values[..., -1] if values.shape[2] in (2, 4) else None
    colours = values[..., : 1 if values.shape[2] < 3 else 3]
    limits = stretch.limits(colours, None if alpha is None else alpha > 0)
    pixels = to_8_bits(colours, limits)
    shown = ", ".join(f"{low:g}-{high:g}" for low, high in limits)
    notes = [*notes, f"values {shown} are shown as 0-255; --stretch changes that"]
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return Picture(pixels, tuple((float(low), float(high)) for low, high in limits), tuple(notes))


def _pages(file: BinaryIO, what: str, header: Header) -> int:
    """Return how many pages or frames a file has, without overviews of its pages; 1 if that cannot be told."""
    if header.format not in _PAGED:
        return 1
    # what cannot be counted is no fault of the first page, which is decoded next
    with contextlib.suppress(DataFormatError), lazily(file, what, header) as image:
        frames = getattr(image, "n_frames", 1)
        if header.format != "TIFF":
            return frames
        pages = 1
        for page in range(1, frames):
            image.seek(page)
            pages += not image.tag_v2.get(254, 0) & _NOT_A_PAGE  # type: ignore[attr-defined]
        return pages
    return 1
