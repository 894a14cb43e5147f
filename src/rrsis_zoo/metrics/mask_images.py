"""Masks in image files: the values as they were saved, and refused where it is not clear which are meant. No torch."""

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
"""Names of image formats that lose nothing."""

_FORMATS = ("PNG", "TIFF", "BMP")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I", "I;16", "I;16B", "F")


def read_mask_image(path: Path, note: Callable[[str], None]) -> Array:
    """Return the values in an image file.

    Args:
        path: of the file.
        note: takes what is to be said of how masks were read, the same words for every mask of a kind.

    Returns:
        (H, W), turned as an EXIF orientation says: bool, integers or floating point; numbers of a palette. Or
        (H, W, 3) and (H, W, 4) for images in colour, without and with alpha.

    Raises:
        DataFormatError: a file that is missing, damaged, of a format that loses values or of several images, or a mask
            that may be in alpha or in the colours of a palette and not in its numbers.
    """
    _check_format(regular_file(path))
    if image_orientation(path) != 1:
        note("masks were turned as their EXIF orientation says")
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
    """Refuse what is no single image of a format that loses nothing, whatever its name says."""
    try:
        with path.open("rb") as file:
            header = read_header(file)
            if header.format not in _FORMATS:
                raise DataFormatError(
                    f"{path}: is {header.format} by its content; of masks {', '.join(_FORMATS)} are read, which lose "
                    "nothing; save it as PNG"
                )
            several = False
            if header.width * header.height <= (Image.MAX_IMAGE_PIXELS or 0):  # larger ones PIL opens for `open_image`
                file.seek(0)
                with Image.open(file, formats=(header.format,)) as image:
                    several = _has_second(image)
    except NotAnImage as cause:
        raise DataFormatError(f"{path}: cannot be read as an image: {cause}") from cause
    except DataFormatError:
        raise
    except Exception as cause:  # decoders raise nearly anything of a damaged file
        raise DataFormatError(f"{path}: cannot be read as an image ({reason(cause)})") from cause
    if several:
        raise DataFormatError(f"{path}: holds several images; one mask a file is needed")


def _has_second(image: Image.Image) -> bool:
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _check_palette(image: Image.Image, array: Array, path: Path, note: Callable[[str], None]) -> None:
    """Refuse a palette that contradicts its numbers: what is foreground is decided by number, 0 or not."""
    palette = image.getpalette("RGB") or []
    used = np.flatnonzero(np.bincount(array.reshape(-1), minlength=256)).tolist()
    colours = {number: tuple(palette[3 * number : 3 * number + 3]) for number in used}
    black = (0, 0, 0)
    if len(used) > 1 and (len(set(colours.values())) < len(used) or black in [colours[n] for n in used if n]):
        names = ", ".join(f"{number} is {_hex(colour)}" for number, colour in colours.items())
        raise DataFormatError(
            f"{path}: has a palette in which {names}: it is not clear which is foreground (0 is background, whatever "
            "its colour); save the mask as grey, 0 and 255"
        )
    if colours.get(0, black) != black:
        note(f"masks have a palette; number 0 was taken for background, though its colour is {_hex(colours[0])}")


def _hex(colour: tuple[int, ...]) -> str:
    return "#" + "".join(f"{value:02x}" for value in colour)
