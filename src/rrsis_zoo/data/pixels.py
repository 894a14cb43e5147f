"""Image files as arrays of 8 bits a channel. What cannot be read exactly is refused. No torch here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrsis_zoo.errors import DataFormatError

_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image file as uint8 RGB (H, W, 3).

    Raises:
        DataFormatError: a file that is missing, damaged, no image, or deeper than 8 bits (PIL would clip it).
    """
    return _read(path, "RGB")


def read_grey(path: Path) -> NDArray[np.uint8]:
    """Read an image file as uint8 grey levels (H, W); colours become ITU-R 601 luma, as OpenCV's grey reading.

    Raises:
        DataFormatError: as `read_rgb`.
    """
    return _read(path, "L")


def to_array(image: Image.Image, mode: str, what: str) -> NDArray[np.uint8]:
    """Return a PIL image as uint8: (H, W, 3) for mode ``RGB``, (H, W) for ``L``; an alpha channel is left out.

    Raises:
        DataFormatError: deeper than 8 bits a channel (PIL would clip it).
    """
    if image.mode not in _MODES:
        raise DataFormatError(f"{what}: must be an image of 8 bits a channel, got PIL mode {image.mode!r}")
    return np.array(image.convert(mode))


def image_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of an image file from its header.

    Raises:
        DataFormatError: a file that is missing or no image.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def image_bands(path: Path) -> int:
    """Return the number of channels of an image file from its header; errors as `image_size`."""
    try:
        with Image.open(path) as image:
            return len(image.getbands())
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _read(path: Path, mode: str) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            return to_array(image, mode, str(path))
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataFormatError:
    if isinstance(error, FileNotFoundError):
        return DataFormatError(f"{path}: the image file is missing; fetch the dataset's images again")
    return DataFormatError(f"{path}: cannot be read as an image ({error}); fetch the file again")
