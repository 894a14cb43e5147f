"""Image files with more than 8 bits per channel, with their exact values: Pillow for grey, OpenCV for colour. No torch.

Published data sets never come here: `rrsis_zoo.data.pixels` refuses such files, because they were published with 8
bits, and a copy in another form is not them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.data.headers import Header
from rrsis_zoo.data.pixels import decoding, open_image, opened, orientation_in
from rrsis_zoo.errors import DataFormatError

_MEND = "convert it first, for instance: gdal_translate -b 1 -b 2 -b 3 -ot Byte -scale LOW HIGH 0 255 IN OUT.png"


def deep_values(path: Path, header: Header) -> NDArray[Any]:
    """Return the values of a file deeper than 8 bits, (H, W, C) of 1 to 4 channels, as displayed.

    Args:
        path: of the file.
        header: of the file; its size was checked.

    Raises:
        DataFormatError: damaged, or of a kind that neither library reads exactly.
    """
    if header.channels == 1 and header.format in ("PNG", "TIFF"):
        return np.asarray(open_image(path))[..., None]
    if header.planar:  # OpenCV takes one channel for the whole image
        raise DataFormatError(
            f"{path}: is a {header} stored one after the other, which no reader here reads; interleave them first, for "
            "instance: gdal_translate -co INTERLEAVE=PIXEL IN OUT.tif"
        )
    if header.channels > 4 or header.numbers == "signed":
        raise _unreadable(path, header)
    with opened(path) as (file, what), decoding(what):
        # OpenCV turns a TIFF itself; Pillow would not open every one to look
        turned = header.format == "TIFF"
        orientation = header.orientation if turned else orientation_in(file, what, header)
        file.seek(0)
        values = _decoded(np.frombuffer(file.read(), np.uint8))
    if values is None:
        raise _unreadable(path, header)
    if values.ndim == 2:
        values = values[..., None]
    wanted = (header.width, header.height) if turned and orientation >= 5 else (header.height, header.width)
    # one byte per value would be a depth that was lost silently
    if values.shape[:2] != wanted or values.dtype.itemsize < 2 or values.shape[2] < header.channels:
        raise _unreadable(path, header)
    return values if turned else _turned(values, orientation)


def _decoded(content: NDArray[np.uint8]) -> NDArray[Any] | None:
    """Return an image in the order red, green, blue, alpha; None if OpenCV does not read it."""
    import cv2  # 0.2 s, and few pictures need it

    log = cv2.utils.logging
    level = log.setLogLevel(log.LOG_LEVEL_SILENT)  # its complaints go past Python's standard error
    try:
        values = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        log.setLogLevel(level)
    if values is None or values.ndim == 2 or values.shape[2] < 3:
        return values
    for row in values:  # in place: a large image has gigabytes
        row[:, [0, 2]] = row[:, [2, 0]]
    return values


def _turned(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return an image (H, W, C) as displayed, by its EXIF orientation 1 to 8."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


def _unreadable(path: Path, header: Header) -> DataFormatError:
    return DataFormatError(f"{path}: is a {header}, which no reader here reads exactly; {_MEND}")
