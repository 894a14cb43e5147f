"""A picture with what was found in it: fills, outlines, numbers, and the sentences below. Pillow alone, no torch.

Readable at any size: small pictures are enlarged with square pixels, large ones are shrunk, and lettering depends on
the drawing's size, not on the picture's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rrsis_zoo.models.marks import Marks
from rrsis_zoo.outputs.lettering import Font, font, line_height, wrapped
from rrsis_zoo.outputs.marks import with_marks
from rrsis_zoo.outputs.shapes import grown, middle, outline, resized, resized_mask

LARGEST, SMALLEST = 2048, 640
"""Longest side of the picture in a drawing in pixels: at most, and at least."""
_NARROWEST = 480  # of the drawing, so that sentences find room

_PAPER, _INK, _PALE = (255, 255, 255), (34, 34, 34), (112, 112, 112)
_FILL = 0.4  # opacity
_STRIPE = 7  # width of stripes and dashes where several masks overlap

COLOURS = (
    (255, 176, 0),
    (45, 156, 255),
    (230, 50, 140),
    (0, 190, 120),
    (255, 100, 20),
    (150, 100, 255),
    (0, 210, 225),
    (240, 228, 66),
)
"""Of the sentences in their order, then again; apart for most kinds of colour blindness, each also has its number."""


@dataclass(frozen=True)
class Drawn:
    """A sentence in a drawing.

    Attributes:
        text: the sentence.
        mask: bool (H, W), of the picture's size or of the drawing's (`drawing_size`).
        score: mean probability inside; None if the mask is empty.
        share: share of the picture that the mask covers, 0 to 1.
        presence: probability that the referent is there at all; None if unknown.
        needed: presence below which the mask was left empty; None if it was not looked at.
        marks: boxes and points to draw in the sentence's colour; None for none.
    """

    text: str
    mask: NDArray[np.bool_]
    score: float | None
    share: float
    presence: float | None = None
    needed: float | None = None
    marks: Marks | None = None

    @property
    def remark(self) -> str:
        """Score, size and presence in words."""
        return remark(self.score, self.share, self.presence, self.needed)


def remark(score: float | None, share: float, presence: float | None = None, needed: float | None = None) -> str:
    """Return a mask's score and size in words, and the presence if it is known; the score is None if it is empty."""
    if presence is not None and needed is not None and presence < needed:
        return f"probably not there: presence {presence:.2f} < {needed:.2f}"
    there = "" if presence is None else f", presence {presence:.2f}"
    if score is None:
        return f"nothing found{there}"
    return f"score {score:.2f}, {share_text(share)} of the picture{there}"


def share_text(share: float) -> str:
    """Return a share, 0 to 1, as a percentage."""
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.1f} %" if percent >= 0.1 else "< 0.1 %"


def drawing_size(height: int, width: int, largest: int = LARGEST, smallest: int = SMALLEST) -> tuple[int, int]:
    """Return (height, width) of a picture in its drawing: enlarged by a whole number, or shrunk to fit."""
    longest = max(height, width)
    if longest > largest:
        return max(1, round(height * largest / longest)), max(1, round(width * largest / longest))
    factor = -(-smallest // longest)
    return height * factor, width * factor


def drawing(pixels: NDArray[np.uint8], drawn: Sequence[Drawn], footer: str = "") -> Image.Image:
    """Return a picture with masks, and below it the sentences with their scores.

    Args:
        pixels: uint8 RGB (H, W, 3).
        drawn: the sentences with their masks.
        footer: a line below, for instance which model it was.

    Returns:
        RGB; the picture in it is between `SMALLEST` and `LARGEST` pixels long.
    """
    height, width = drawing_size(*pixels.shape[:2])
    shown = marked(pixels, [one.mask for one in drawn], (height, width))
    written = [(one.marks, COLOURS[n % len(COLOURS)]) for n, one in enumerate(drawn)]
    top = Image.fromarray(with_marks(shown, (pixels.shape[0], pixels.shape[1]), written))
    total = max(width, _NARROWEST)
    letters = font(min(30, max(15, total // 44)))
    legend = _legend(drawn, letters, total, footer)
    sheet = Image.new("RGB", (total, height + legend.height), _PAPER)
    sheet.paste(top, ((total - width) // 2, 0))
    sheet.paste(legend, (0, height))
    return sheet


def marked(
    pixels: NDArray[np.uint8],
    masks: Sequence[NDArray[np.bool_]],
    size: tuple[int, int],
    first: int = 0,
    opacity: float = _FILL,
) -> NDArray[np.uint8]:
    """Return a picture at another (height, width) with masks as translucent fills with outlines, uint8 RGB.

    Where masks overlap, their colours alternate in stripes. Several masks have their numbers, from 1.

    Args:
        pixels: uint8 RGB (H, W, 3).
        masks: bool, each of the picture's size or of the result's.
        size: of the result.
        first: which of `COLOURS` the first mask has.
        opacity: of the fills, 0 to 1; outlines are opaque.
    """
    small = [resized_mask(mask, size) for mask in masks]
    thickness = 2 if max(size) <= 1280 else 3
    shown = resized(pixels, size).astype(np.float32)
    borders = [outline(mask, thickness) for mask in small]
    near = np.zeros(size, np.bool_)
    for mask in small:
        near |= grown(mask) & ~mask
    colours = [COLOURS[(first + n) % len(COLOURS)] for n in range(len(small))]
    _blend(shown, small, colours, opacity)
    shown[near] *= 0.35  # a dark rim: an outline can be told from a bright ground
    _blend(shown, borders, colours, 1.0)
    image = Image.fromarray(np.rint(shown).astype(np.uint8))
    if len(small) > 1:
        _number(image, small, colours)
    return np.asarray(image)


def _blend(
    shown: NDArray[np.float32],
    areas: Sequence[NDArray[np.bool_]],
    colours: Sequence[tuple[int, int, int]],
    opacity: float,
) -> None:
    """Mix colours into a picture where their areas are; where several are, each has every n-th stripe."""
    if not areas:
        return
    depth = np.zeros(shown.shape[:2], np.uint8)
    for area in areas:
        depth += area
    stripe = np.add.outer(np.arange(shown.shape[0]), np.arange(shown.shape[1])) // _STRIPE
    turn = stripe % np.maximum(depth, 1)
    rank = np.zeros_like(depth)
    for area, colour in zip(areas, colours, strict=True):
        own = area & (rank == turn)
        rank += area
        shown[own] = (1 - opacity) * shown[own] + opacity * np.array(colour, np.float32)


def _number(image: Image.Image, masks: Sequence[NDArray[np.bool_]], colours: Sequence[tuple[int, int, int]]) -> None:
    """Write the number of each mask into it, moved aside where another stands already."""
    letters = font(min(24, max(13, max(image.size) // 50)))
    draw, taken = ImageDraw.Draw(image), []
    for n, (mask, colour) in enumerate(zip(masks, colours, strict=True), start=1):
        if not mask.any():
            continue
        row, column = middle(mask)
        side = _tag_size(letters, n)
        x = min(max(0, column - side[0] // 2), max(0, image.width - side[0]))
        y = min(max(0, row - side[1] // 2), max(0, image.height - side[1]))
        while any(abs(x - a) < side[0] and abs(y - b) < side[1] for a, b in taken):
            x += side[0] + 1
            if x + side[0] > image.width:
                x, y = 0, y + side[1] + 1
            if y + side[1] > image.height:
                break
        taken.append((x, y))
        _tag(draw, (x, y), n, colour, letters)


def _tag_size(letters: Font, n: int) -> tuple[int, int]:
    height = line_height(letters)
    return max(height, round(letters.getlength(str(n))) + height // 2), height


def _tag(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], n: int, colour: tuple[int, int, int], letters: Font
) -> None:
    """Draw a number on its colour; place is the upper left corner."""
    (x, y), (width, height) = place, _tag_size(letters, n)
    draw.rounded_rectangle((x, y, x + width - 1, y + height - 1), height // 4, fill=colour, outline=_INK)
    draw.text((x + width / 2, y + height / 2), str(n), font=letters, fill=(0, 0, 0), anchor="mm")


def _legend(drawn: Sequence[Drawn], letters: Font, width: int, footer: str) -> Image.Image:
    """Return the sentences with their numbers and colours, one below the other."""
    line, space = line_height(letters), line_height(letters) // 2
    number = _tag_size(letters, len(drawn))[0]
    left = space + number + space
    texts = [wrapped(f"“{one.text}”", letters, width - left - space) for one in drawn]
    small = font(max(12, round(0.8 * line / 1.35)))
    low = line_height(small)
    remarks = [wrapped(one.remark, small, width - left - space) for one in drawn]
    foot = wrapped(footer, small, width - 2 * space, most=2) if footer else []
    heights = [line * len(text) + low * len(remark) + space for text, remark in zip(texts, remarks, strict=True)]
    sheet = Image.new("RGB", (width, space + sum(heights) + (low * len(foot) + space if foot else 0)), _PAPER)
    draw, y = ImageDraw.Draw(sheet), space
    for n, (one, text, remark, height) in enumerate(zip(drawn, texts, remarks, heights, strict=True)):
        colour = COLOURS[n % len(COLOURS)]
        if one.score is None:
            colour = (225, 225, 225)
        _tag(draw, (space, y), n + 1, colour, letters)
        for i, words in enumerate(text):
            draw.text((left, y + i * line), words, font=letters, fill=_INK)
        for i, words in enumerate(remark):
            draw.text((left, y + line * len(text) + i * low), words, font=small, fill=_PALE)
        y += height
    for i, words in enumerate(foot):
        draw.text((space, y + i * low), words, font=small, fill=_PALE)
    return sheet


def panels(
    pixels: NDArray[np.uint8],
    drawn: Sequence[Drawn],
    heat: Sequence[NDArray[np.uint8]],
    side: int = 320,
    prompts: bool = False,
) -> Image.Image:
    """Return a line for each sentence: picture, heat map, mask, below the sentence and its score.

    Args:
        pixels: uint8 RGB (H, W, 3).
        drawn: the sentences with their masks.
        heat: for each sentence the picture below its heat map, uint8 RGB of the size of `panel_size`.
        side: longest side of a panel in pixels.
        prompts: whether boxes and points are drawn into the heat maps, for the caption.
    """
    height, width = panel_size(pixels.shape[0], pixels.shape[1], side)
    gap, letters, small = 8, font(15), font(12)
    line, low = line_height(letters), line_height(small)
    total = max(3 * width + 4 * gap, _NARROWEST)
    texts = [wrapped(f"“{one.text}”", letters, total - 2 * gap, most=4) for one in drawn]
    heights = [line * len(text) + low + height + 2 * gap for text in texts]
    sheet = Image.new("RGB", (total, gap + sum(heights)), _PAPER)
    draw, y = ImageDraw.Draw(sheet), gap
    plain = Image.fromarray(resized(pixels, (height, width)))
    grey = np.asarray(plain.convert("L").convert("RGB"))  # on which every colour of a mask shows
    for one, text, over, rows in zip(drawn, texts, heat, heights, strict=True):
        for i, words in enumerate(text):
            draw.text((gap, y + i * line), words, font=letters, fill=_INK)
        top = y + line * len(text)
        masked = Image.fromarray(marked(grey, [one.mask], (height, width)))
        columns = (
            ("picture", plain),
            (f"heat map{' and prompts' if prompts else ''}", Image.fromarray(over)),
            (one.remark, masked),
        )
        for n, (name, part) in enumerate(columns):
            x = gap + n * (width + gap)
            draw.text((x, top), wrapped(name, small, width + gap, most=1)[0], font=small, fill=_PALE)
            sheet.paste(part, (x, top + low))
        y += rows
    return sheet


def panel_size(height: int, width: int, side: int = 320) -> tuple[int, int]:
    """Return (height, width) of a panel of `panels`: enlarged by a whole number, or shrunk to fit."""
    factor = max(1, side // max(height, width))
    return drawing_size(height * factor, width * factor, side, 1)
