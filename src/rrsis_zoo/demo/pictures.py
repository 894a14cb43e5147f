"""Pictures that a page is given: read from a file, refused in words that fit the page. No torch, no gradio."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.data.imagery.picture import read_picture
from rrsis_zoo.data.pixels import opened, sized_header
from rrsis_zoo.errors import DataFormatError

PIXEL_LIMIT = 2**24
"""Most pixels of a picture on the page, 4096 x 4096; `rrsis segment` takes larger ones."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture on the page.

    Attributes:
        name: of its file, without a folder.
        pixels: uint8 RGB (H, W, 3).
        limits: the values of each channel that became 0 and 255; None if the values are the file's own.
        notes: what was done to it, for the user.
    """

    name: str
    pixels: NDArray[np.uint8]
    limits: tuple[tuple[float, float], ...] | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def key(self) -> str:
        """SHA-256 of size and pixels: the same picture under another name is the same."""
        digest = hashlib.sha256(repr(self.pixels.shape).encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.hexdigest()


def read_shown(path: str | Path) -> Shown:
    """Read an uploaded file, as `rrsis segment` does.

    Raises:
        DataFormatError: it cannot be read, or is too large for the page. The message names the file without its folder.
    """
    path = Path(path)
    try:
        with opened(path) as (file, what):
            header = sized_header(file, what)
        if header.width * header.height > PIXEL_LIMIT:
            raise DataFormatError(
                f"{path}: has {header.width:,} x {header.height:,} pixels, and this page takes up to {PIXEL_LIMIT:,}: "
                "cut it into tiles, or use rrsis segment, which takes larger ones"
            )
        picture = read_picture(path)
    except DataFormatError as error:  # where the page keeps uploads is of no use to anybody
        raise DataFormatError(str(error).replace(str(path), path.name)) from error
    notes = tuple(note.partition("; --stretch")[0] for note in picture.notes)  # an option that the page has not
    return Shown(path.name, picture.pixels, picture.limits, notes)
