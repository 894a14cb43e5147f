"""Boxes and points drawn into a picture, to be seen on any ground. Pillow alone, no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rrsis_zoo.models.marks import Marks

Colour = tuple[int, int, int]

PLAIN: Colour = (255, 255, 255)
"""Of boxes and points where colours do not tell sentences apart."""
_RIM: Colour = (20, 20, 20)


def with_marks(
    pixels: NDArray[np.uint8], native: tuple[int, int], marks: Sequence[tuple[Marks | None, Colour]]
) -> NDArray[np.uint8]:
    """Return a picture with boxes as outlines and points as discs; one outside the referent is a ring.

    Both have a dark rim, so that they can be told from a bright ground.

    Args:
        pixels: uint8 RGB (h, w, 3), of any size.
        native: (height, width) of the image that the coordinates are of.
        marks: with their colours; None for nothing.
    """
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    height, width = pixels.shape[:2]
    line = max(2, round(max(height, width) / 240))
    for one, colour in marks:
        if one is None:
            continue
        shown = one.scaled(width / native[1], height / native[0])
        # far outside, Pillow would draw for hours
        boxes = np.clip(shown.boxes, -2 * line, np.tile([width, height], 2) + 2 * line)
        for x0, y0, x1, y1 in np.rint(boxes).astype(int).tolist():
            # the line's middle is on the box's edge
            for wide, ink in ((line + 2, _RIM), (line, colour)):
                half = wide // 2
                corners = (x0 - half, y0 - half, max(x0, x1 - 1) + half, max(y0, y1 - 1) + half)
                draw.rectangle(corners, outline=ink, width=wide)
        for (x, y), inside in zip(shown.points.tolist(), shown.inside.tolist(), strict=True):
            if -width <= x <= 2 * width and -height <= y <= 2 * height:
                radius = 2 * line
                _disc(draw, x, y, radius + 2, _RIM)
                _disc(draw, x, y, radius, colour)
                if not inside:
                    _disc(draw, x, y, radius - line, _RIM)
    return np.asarray(image)


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, ink: Colour) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
