"""Pictures of a gallery as data URIs: what the report shows needs no file beside it. No torch.

A mask becomes a picture of one colour that is transparent where there is no mask, so that one photograph lies under the
answers of all methods and is stored once.
"""

from __future__ import annotations

import base64
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.figures import PREDICTED, TRUE

Colour = tuple[int, int, int]

_STRENGTH = 0.7  # opacity of a mask


def read_gallery(folder: Path) -> list[dict[str, Any]]:
    """Read ``gallery.json`` of a test's folder; paths of pictures become absolute. Empty where there is no gallery.

    Raises:
        DataFormatError: it is damaged, or a picture is missing.
    """
    path = folder / "gallery" / "gallery.json"
    if not path.is_file():
        return []
    try:
        samples = json.loads(path.read_text(encoding="utf-8"))["samples"]
        for sample in samples:
            for name in ("image", "truth", "mask", "heatmap"):
                sample[name] = path.parent / sample[name]
                if not sample[name].is_file():
                    raise DataFormatError(f"{path} names {sample[name]}, which is not there: run the job again")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataFormatError(f"{path} does not hold a gallery ({error!r}): run the job again") from error
    return samples


def photograph(path: Path) -> tuple[str, int, int]:
    """Return an image's data URI, width and height."""
    with Image.open(path) as image:
        width, height = image.size
    return _uri(path.read_bytes(), "webp"), width, height


def predicted(path: Path) -> str:
    """Return a predicted mask in its colour."""
    return _one_colour(_grey(path), PREDICTED, _STRENGTH)


def true(path: Path) -> str:
    """Return a true mask in its colour."""
    return _one_colour(_grey(path), TRUE, _STRENGTH)


def outline(path: Path) -> str:
    """Return the border of a true mask, a pixel wide and inside of it."""
    grey = _grey(path)
    inside = grey >= 128
    if not inside.any():
        inside = grey > 0  # smaller than a pixel of the picture
    padded = np.pad(inside, 1)
    surrounded = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return _one_colour((inside & ~surrounded).astype(np.uint8) * 255, TRUE, 1.0)


def heat(path: Path) -> str:
    """Return a heat map in the colours of `rrsis_zoo.figures`; where there is no belief it is transparent."""
    strength = np.linspace(0, 1, 256)
    return _tinted(_grey(path), _inferno(), np.rint(255 * strength**0.5).astype(np.uint8))


def _grey(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


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
