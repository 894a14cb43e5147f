"""Pictures of a gallery as data URIs, so that the report needs no other files. No torch.

A mask becomes a picture of one colour that is transparent outside the mask, so that one photograph is the background
for the predictions of all methods and is stored once.
"""

from __future__ import annotations

import base64
import io
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.records import GalleryFile
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.figures import PREDICTED, TRUE
from rrsis_zoo.files import read_bytes, reason
from rrsis_zoo.tables.records import read_record

Colour = tuple[int, int, int]

_STRENGTH = 0.7  # opacity of a mask
_FORMATS = ("PNG", "WEBP")
_BYTES, _SIDE = 8 * 2**20, 4096  # limits of one picture; those of a gallery have 20 kB and 192 pixels
_AGAIN = "run the job again"


def read_gallery(folder: Path) -> list[dict[str, Any]]:
    """Read ``gallery.json`` in a test's folder; paths of pictures become absolute. Empty if there is no gallery.

    Raises:
        DataFormatError: it is damaged, or a picture is missing or outside the gallery, possibly through a link.
    """
    path = folder / "gallery" / "gallery.json"
    if not os.path.isfile(path):
        return []
    home = folder.resolve() / "gallery"
    content = read_record(path, GalleryFile, _AGAIN)
    samples = []
    for entry in content["samples"]:
        sample = dict(entry)
        for name in ("image", "truth", "mask", "heatmap"):
            sample[name] = _inside(home, entry[name], path)
        samples.append(sample)
    return samples


def _inside(home: Path, name: str, source: Path) -> Path:
    """Return the path of a picture in a gallery's folder."""
    try:
        path = (home / name).resolve()  # an absolute name replaces `home`
        inside = path.is_relative_to(home)
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, or a loop of links
        raise DataFormatError(f"{source} names {name!r}, which is not a file ({reason(error)}): {_AGAIN}") from error
    if not inside:
        raise DataFormatError(f"{source} names {name!r}, which is outside its folder: remove that gallery")
    if not os.path.isfile(path):
        raise DataFormatError(f"{source} names {path}, which does not exist: {_AGAIN}")
    return path


def photograph(path: Path) -> tuple[str, int, int]:
    """Return an image's data URI, width and height.

    Raises:
        DataFormatError: not a WebP or PNG picture, damaged, or too large.
    """
    content = _content(path)
    image = _opened(path, content)
    assert image.format is not None
    return _uri(content, image.format.lower()), *image.size


def predicted(path: Path) -> str:
    """Return a predicted mask in its colour."""
    return _one_colour(_grey(path), PREDICTED, _STRENGTH)


def true(path: Path) -> str:
    """Return a true mask in its colour."""
    return _one_colour(_grey(path), TRUE, _STRENGTH)


def outline(path: Path) -> str:
    """Return the outline of a true mask, one pixel wide and inside it."""
    grey = _grey(path)
    inside = grey >= 128
    if not inside.any():
        inside = grey > 0  # smaller than a pixel of the picture
    padded = np.pad(inside, 1)
    surrounded = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return _one_colour((inside & ~surrounded).astype(np.uint8) * 255, TRUE, 1.0)


def heat(path: Path) -> str:
    """Return a heat map in the colours of `rrsis_zoo.figures`; it is transparent at probability 0."""
    strength = np.linspace(0, 1, 256)
    return _tinted(_grey(path), _inferno(), np.rint(255 * strength**0.5).astype(np.uint8))


def _grey(path: Path) -> NDArray[np.uint8]:
    return np.asarray(_opened(path, _content(path)).convert("L"))


def _content(path: Path) -> bytes:
    content = read_bytes(path, _BYTES)
    if not content.startswith((b"\x89PNG\r\n", b"RIFF")):
        raise DataFormatError(f"{path} is not a {' or '.join(_FORMATS)} picture: {_AGAIN}")
    return content


def _opened(path: Path, content: bytes) -> Image.Image:
    """Return a decoded picture."""
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
        if max(image.size) > _SIDE:
            raise DataFormatError(
                f"{path} has {image.size[0]} × {image.size[1]} pixels, at most {_SIDE} per side are allowed"
            )
        image.load()
    except DataFormatError:
        raise
    except Exception as error:  # Pillow's readers can raise any error for damaged files
        raise DataFormatError(f"{path} is not a {' or '.join(_FORMATS)} picture ({error}): {_AGAIN}") from error
    return image


def _one_colour(grey: NDArray[np.uint8], colour: Colour, strength: float) -> str:
    palette = np.tile(np.array(colour, np.uint8), (256, 1))
    return _tinted(grey, palette, np.rint(strength * np.arange(256)).astype(np.uint8))


def _tinted(grey: NDArray[np.uint8], palette: NDArray[np.uint8], opacity: NDArray[np.uint8]) -> str:
    """Return grey level -> colour and opacity, (256, 3) and (256,)."""
    image = Image.fromarray(grey)
    image.putpalette(palette.tobytes())
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True, transparency=opacity.tobytes())
    return _uri(out.getvalue(), "png")


@cache
def _inferno() -> NDArray[np.uint8]:
    from matplotlib import colormaps

    return np.rint(255 * colormaps["inferno"](np.linspace(0, 1, 256))[:, :3]).astype(np.uint8)


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
