"""Masks in image files: the values as saved, refused if ambiguous. No torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from rrsis_zoo.data.headers import NotAnImage, read_header
from rrsis_zoo.data.pixels import image_orientation, open_image
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.files import reason, regular_file
from rrsis_zoo.metrics.values import Array, check_alpha

IMAGES = (".png", ".tif", ".tiff", ".bmp")
"""Suffixes of lossless image formats."""

_FORMATS = ("PNG", "TIFF", "BMP")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I", "I;16", "I;16B", "F")


def read_mask_image(path: Path, note: Callable[[str], None]) -> Array:
    """Return the values in an image file.

    Args:
        path: of the file.
        note: receives remarks on how masks were read, the same words for every mask of a kind.

    Returns:
        (H, W), with the EXIF orientation applied: bool, integers or floating point; palette indices. Or (H, W, 3) and
        (H, W, 4) for colour images, without and with alpha.

    Raises:
        DataFormatError: a file that is missing, damaged, in a lossy format or with several images, or a mask that may
            be in the alpha channel or in palette colours rather than indices.
    """
    _check_format(regular_file(path))
    if image_orientation(path) != 1:
        note("masks were rotated according to their EXIF orientation")
    image = open_image(path)
    if image.mode not in _MODES:
        raise DataFormatError(f"{path}: a mask must be a grey image, got PIL mode {image.mode!r}; save it as PNG")
    array = np.array(image)
    if image.mode in ("LA", "PA"):
        check_alpha(array[..., 0], array[..., 1], str(path))
        array = array[..., 0]
    if image.mode in ("P", "PA"):
        _check_palette(image, array, path, note)
    return array


def _check_format(path: Path) -> None:
    """Refuse anything but a single image in a lossless format, whatever its name."""
    try:
        with path.open("rb") as file:
            header = read_header(file)
            if header.format not in _FORMATS:
                raise DataFormatError(
                    f"{path}: is a {header.format} file; masks are read from lossless formats only "
                    f"({', '.join(_FORMATS)}); save it as PNG"
                )
            several = False
            # PIL opens larger ones only in `open_image`
            if header.width * header.height <= (Image.MAX_IMAGE_PIXELS or 0):
                file.seek(0)
                with Image.open(file, formats=(header.format,)) as image:
                    several = _has_second(image)
    except NotAnImage as cause:
        raise DataFormatError(f"{path}: cannot be read as an image: {cause}") from cause
    except DataFormatError:
        raise
    except Exception as cause:  # decoders raise almost anything on a damaged file
        raise DataFormatError(f"{path}: cannot be read as an image ({reason(cause)})") from cause
    if several:
        raise DataFormatError(f"{path}: contains several images; one mask per file is needed")


def _has_second(image: Image.Image) -> bool:
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _check_palette(image: Image.Image, array: Array, path: Path, note: Callable[[str], None]) -> None:
    """Refuse a palette that contradicts its indices: foreground is decided by index, 0 or not."""
    palette = image.getpalette("RGB") or []
    used = np.flatnonzero(np.bincount(array.reshape(-1), minlength=256)).tolist()
    colours = {number: tuple(palette[3 * number : 3 * number + 3]) for number in used}
    black = (0, 0, 0)
    if len(used) > 1 and (len(set(colours.values())) < len(used) or black in [colours[n] for n in used if n]):
        names = ", ".join(f"{number} is {_hex(colour)}" for number, colour in colours.items())
        raise DataFormatError(
            f"{path}: has a palette in which {names}: it is not clear which is foreground (index 0 is background, "
            "whatever its colour); save the mask as grey, 0 and 255"
        )
    if colours.get(0, black) != black:
        note(f"masks have a palette; index 0 was read as background, though its colour is {_hex(colours[0])}")


def _hex(colour: tuple[int, ...]) -> str:
    return "#" + "".join(f"{value:02x}" for value in colour)
