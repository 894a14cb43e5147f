"""Image files as arrays with 8 bits per channel, as displayed; what cannot be read exactly is refused. No torch.

This is the only place where images are opened. The header is read first: the format must be one of a few, the size
plausible, the depth one that PIL does not truncate. An EXIF orientation is applied, to images and masks alike: people
and annotation tools mark what they see.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL import __version__ as PILLOW

from rrsis_zoo.data.headers import FORMATS, Header, NotAnImage, png_has_text, read_header
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError, RRSISError
from rrsis_zoo.files import dangling, reason, regular_file

_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
_DEPTH = {"I": 32, "F": 32}  # bits of PIL's deep modes; the others have 16

PIXEL_LIMIT = 2**29
"""Most pixels of an image: 23,170 x 23,170; `LIMIT_VARIABLE` changes it."""
LIMIT_VARIABLE = "RRSIS_ZOO_PIXEL_LIMIT"

_HARMLESS = 2**26  # pixels allowed for a file of any length: 192 MiB of RGB
_MOST_PER_BYTE = 2**14  # pixels per byte of the file; a 1-bit PNG of one colour has 8,258, a photograph below 100
_MOST_CHANNELS = 6  # of a TIFF; of more than four, PIL uses the first three
_BLOCK = 2**24  # pixels converted at once

_STRETCH = (
    "values beyond 8 bits would be lost silently. Rescale them first, in the same way for the whole dataset: for "
    "instance gdal_translate -ot Byte -scale LOW HIGH 0 255 IN OUT (for a mask: save 0 and 255)"
)

# A damaged EXIF block or TIFF tag is ignored, or raises an error of ours: PIL's warning would be a second message.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.(TiffImagePlugin|Image)$")


def pixel_limit() -> int:
    """Return how many pixels an image or mask may have.

    Raises:
        ConfigError: the environment variable is not a number from 1 to 2³² - 1, the limit of PIL and COCO's codes.
    """
    value = os.environ.get(LIMIT_VARIABLE)
    if value is None:
        return PIXEL_LIMIT
    if not value.isascii() or not value.isdigit() or len(value) > 10 or not 1 <= int(value) < 2**32:
        raise ConfigError(f"{LIMIT_VARIABLE} must be a number of pixels, 1 to {2**32 - 1}, got {value!r}")
    return int(value)


def read_rgb(path: str | Path) -> NDArray[np.uint8]:
    """Read an image file as uint8 RGB (H, W, 3), with its EXIF orientation applied.

    Raises:
        DataFormatError: a file that is missing, damaged, not an image of `FORMATS`, implausibly large, or deeper than 8
            bits per channel (PIL would clip it).
    """
    return _read(path, "RGB")


def read_grey(path: str | Path) -> NDArray[np.uint8]:
    """Read an image file as uint8 grey levels (H, W); colours become ITU-R 601 luma, as in OpenCV's grey mode.

    Raises:
        DataFormatError: as `read_rgb`.
    """
    return _read(path, "L")


def open_image(source: str | Path | BinaryIO) -> Image.Image:
    """Return the image in a file, decoded and with its EXIF orientation applied; the file is closed again.

    Grey levels of more than 8 bits stay in PIL's modes (``I;16``, ``I``, ``F``), with exact values.

    Args:
        source: path, or an open binary file that can seek.

    Raises:
        DataFormatError: a file that is missing, damaged, not an image of `FORMATS`, implausibly large, or in colours
            deeper than 8 bits.
    """
    with opened(source) as (file, what):
        return _decoded(file, what, _checked(file, what))


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) of an image file as displayed, from its header.

    Raises:
        DataFormatError: as `read_rgb`, as far as the header tells.
    """
    with opened(path) as (file, what):
        header = _checked(file, what)
        turned = orientation_in(file, what, header) >= 5
        return (header.width, header.height) if turned else (header.height, header.width)


def image_orientation(path: str | Path) -> int:
    """Return the EXIF orientation of an image file, 1 to 8; 1 if it has none. Errors as `image_size`."""
    with opened(path) as (file, what):
        return orientation_in(file, what, _checked(file, what))


def image_bands(path: str | Path) -> tuple[str, ...]:
    """Return the names of an image file's channels, ``("P",)`` for a palette; errors as `image_size`."""
    with opened(path) as (file, what), lazily(file, what, _checked(file, what)) as image:
        return image.getbands()


def to_array(image: Image.Image, mode: str, what: str) -> NDArray[np.uint8]:
    """Return a PIL image as uint8: (H, W, 3) for mode ``RGB``, (H, W) for ``L``; without an alpha channel.

    Args:
        image: created by a program, or opened from a file by the user; in the latter case its EXIF orientation is
            applied and only the formats of `FORMATS` are decoded.
        mode: ``RGB`` or ``L``.
        what: its name in errors.

    Raises:
        DataFormatError: deeper than 8 bits per channel (PIL would clip it), or a file that cannot be decoded.
    """
    if image.format not in (None, "MPO", "DIB", *FORMATS):
        raise DataFormatError(
            f"{what}: is a lazily opened {image.format} file, and only {', '.join(FORMATS)} files are decoded here; "
            f"pass image.convert('RGB')"
        )
    _check_file_of(image, what)
    _check_ycbcr(image, what)
    with decoding(what):
        return _converted(_upright(image), mode, what)


# -- a file, its header, its pixels ------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(source: str | Path | BinaryIO) -> Iterator[tuple[BinaryIO, str]]:
    """Open a file for reading; yield it and its name in errors."""
    if not isinstance(source, str | Path):
        yield source, str(getattr(source, "name", "the image"))
        return
    path = Path(source)
    try:
        with regular_file(path).open("rb") as file:
            yield file, str(path)
    except MissingDataError as cause:
        raise DataFormatError(f"{path}: the image file is missing{dangling(path)}") from cause
    except OSError as cause:
        raise DataFormatError(f"{path}: cannot be read ({reason(cause)})") from cause


def sized_header(file: BinaryIO, what: str) -> Header:
    """Return the header of a file whose pixels fit into memory, whatever their depth and number of channels.

    Raises:
        DataFormatError: not an image of `FORMATS`, or implausibly large.
    """
    header = _header(file, what)
    _check_size(what, header, file.seek(0, os.SEEK_END))
    return header


def _header(file: BinaryIO, what: str) -> Header:
    try:
        return read_header(file)
    except NotAnImage as cause:
        raise DataFormatError(f"{what}: cannot be read as an image: {cause}") from cause


def _checked(file: BinaryIO, what: str) -> Header:
    """Return the header of a file whose pixels may be decoded."""
    header = _header(file, what)
    if header.channels > _MOST_CHANNELS:
        raise DataFormatError(
            f"{what}: is a {header}; only grey and RGB images (with or without alpha) are read. Select three bands, "
            "for instance gdal_translate -b 1 -b 2 -b 3 IN OUT"
        )
    # PIL has modes for deep grey PNG and TIFF; everything else is scaled, truncated, or read as 0 to 255
    exact = header.channels == 1 and header.bits > 8 and header.format in ("PNG", "TIFF")
    if header.is_deep and not exact:
        raise _deep(what, header)
    _check_size(what, header, file.seek(0, os.SEEK_END))
    return header


def _check_size(what: str, header: Header, length: int) -> None:
    """Refuse a size beyond the limit, or beyond what a file of that length can contain."""
    pixels, limit = header.width * header.height, pixel_limit()
    size = f"{what}: has {header.width:,} x {header.height:,} pixels"
    if pixels > limit:
        raise DataFormatError(
            f"{size}, the limit is {limit:,}: cut it into tiles, or set {LIMIT_VARIABLE} to more pixels (each takes up "
            "to 7 bytes of memory while it is read)"
        )
    if pixels > max(_HARMLESS, _MOST_PER_BYTE * length):
        raise DataFormatError(
            f"{size} by its header, but only {length:,} bytes: it is truncated or made to fill the memory; fetch the "
            "file again, or save it as PNG if it is blank"
        )


def _deep(what: str, header: object) -> DataFormatError:
    return DataFormatError(f"{what}: must be an image with 8 bits per channel, but is a {header}: {_STRETCH}")


@contextlib.contextmanager
def decoding(what: str, kind: str = "image") -> Iterator[None]:
    """Turn what PIL raises in the block into one of our errors.

    Decoders of damaged files raise almost anything: OSError, ValueError, SyntaxError, struct.error, zlib.error,
    IndexError, SystemError …
    """
    try:
        yield
    except RRSISError:
        raise
    except MemoryError as cause:
        raise DataFormatError(f"{what}: is too large for the memory of this machine; cut it into tiles") from cause
    except Image.UnidentifiedImageError as cause:
        raise DataFormatError(
            f"{what}: cannot be read as an image: PIL does not read this kind of {kind}, or the file is damaged; save "
            "it as PNG, or fetch the file again"
        ) from cause
    except Exception as cause:
        why = reason(cause)
        raise DataFormatError(
            f"{what}: cannot be read as an image ({why}): it is cut short or damaged; fetch the file again"
        ) from cause


@contextlib.contextmanager
def lazily(file: BinaryIO, what: str, header: Header) -> Iterator[Image.Image]:
    """Open a file after its header was checked; errors in the block as in `decoding`."""
    file.seek(0)
    pixels = header.width * header.height
    with decoding(what, str(header)), _size_allowed(pixels), Image.open(file, formats=(header.format,)) as image:
        # PIL already swaps the sides of a rotated TIFF here
        if {(header.width, header.height), (header.height, header.width)}.isdisjoint({image.size}):
            raise DataFormatError(
                f"{what}: cannot be read as an image: its header says {header.width} x {header.height} pixels, its "
                f"content {image.width} x {image.height}: fetch the file again"
            )
        _check_ycbcr(image, what)
        yield image


_limit_lock = threading.Lock()


@contextlib.contextmanager
def _size_allowed(pixels: int) -> Iterator[None]:
    """Let PIL open an image of this many pixels: our own limit was checked, PIL's is a third of it."""
    if Image.MAX_IMAGE_PIXELS is None or pixels <= Image.MAX_IMAGE_PIXELS:
        yield
        return
    with _limit_lock:
        earlier, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = earlier


def _decoded(file: BinaryIO, what: str, header: Header) -> Image.Image:
    with lazily(file, what, header) as image:
        return _upright(image)


def _check_ycbcr(image: Image.Image, what: str) -> None:
    """Refuse an uncompressed TIFF in YCbCr if this Pillow takes its three bytes a pixel for four; 13 does not."""
    if image.format != "TIFF" or getattr(image, "tag_v2", {}).get(262) != 6:
        return
    if any(tile[0] == "raw" and "RGBX" in str(tile[3]) for tile in getattr(image, "tile", ())):
        raise DataFormatError(
            f"{what}: is an uncompressed TIFF in YCbCr, which Pillow {PILLOW} reads wrongly: save it as RGB, or "
            "install Pillow 13 or later"
        )


def _read(path: str | Path, mode: str) -> NDArray[np.uint8]:
    with opened(path) as (file, what):
        header = _checked(file, what)
        if header.is_deep:
            raise _deep(what, header)
        with lazily(file, what, header) as image:
            return _converted(_upright(image), mode, what)


def _converted(image: Image.Image, mode: str, what: str) -> NDArray[np.uint8]:
    if image.mode not in _MODES:
        if image.mode in _DEPTH or image.mode.startswith("I;"):
            raise _deep(what, f"PIL image of mode {image.mode!r} ({_DEPTH.get(image.mode, 16)} bits)")
        raise DataFormatError(
            f"{what}: must be an image with 8 bits per channel, grey or RGB, got PIL mode {image.mode!r}"
        )
    if "transparency" in image.info:  # of a palette: PIL warns that it is lost, which is intended
        image = image.copy()
        del image.info["transparency"]
    if image.width * image.height <= _BLOCK:
        return np.array(image.convert(mode))
    # a large image in strips of rows: a copy of all of it takes PIL another 4 bytes per pixel, numpy 3 more
    out = np.empty((image.height, image.width, 3) if mode == "RGB" else (image.height, image.width), np.uint8)
    rows = max(1, _BLOCK // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        out[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)).convert(mode))
    return out


# -- orientation -------------------------------------------------------------------------------------------------------

_ORIENTATION = 0x0112  # its EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image) -> Image.Image:
    """Decode an image and apply its orientation; the argument is not modified."""
    image.load()  # rotates a TIFF itself and drops its orientation, so look that up afterwards
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """Return 1 to 8; like viewers, ignore a damaged EXIF block and meaningless values."""
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:  # a damaged block raises almost anything, as a damaged image does
        return 1
    return value if value in _TURNS else 1


def orientation_in(file: BinaryIO, what: str, header: Header) -> int:
    """Return the orientation of a file, without decoding it if possible."""
    if header.format == "PNG" and not png_has_text(file):
        return 1  # PIL would decode the image to look behind it
    with lazily(file, what, header) as image:
        return _orientation(image)


def _check_file_of(image: Image.Image, what: str) -> None:
    """Refuse an image that the user opened from a file with deeper colours, which PIL has truncated or will truncate.

    The file is checked if it is still open or still exists; what counts is the image itself, so a file that can no
    longer be read does not matter. A processed image has no file.
    """
    name, file = getattr(image, "filename", ""), getattr(image, "fp", None)
    if image.format is None or not (file or name):
        return
    try:
        with contextlib.nullcontext(file) if file else regular_file(name).open("rb") as opened:
            place = opened.tell()  # PIL continues to read from here
            try:
                header, length = read_header(opened), opened.seek(0, os.SEEK_END)
            finally:
                opened.seek(place)
    except (OSError, ValueError, RRSISError):
        return
    _check_size(what, header, length)
    if header.is_deep:
        raise _deep(what, header)
