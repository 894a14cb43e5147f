"""Text in pictures: a font for most alphabets, lines that fit. No torch, no matplotlib imported."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_MOST_LINES = 8
"""Most lines of a sentence; more would leave no room for the picture."""


@cache
def font(size: int) -> Font:
    """Return a sans-serif font of a height in pixels: DejaVu, which matplotlib ships, else the one of Pillow."""
    spec = importlib.util.find_spec("matplotlib")  # found, not imported
    for place in (spec.submodule_search_locations or []) if spec else []:
        path = Path(place) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def line_height(letters: Font) -> int:
    """Return the distance of two lines in pixels."""
    _, top, _, bottom = letters.getbbox("Åg")
    return round(1.35 * (bottom - top))


def shown(text: str) -> str:
    """Return a text that a font can show: without line breaks, control characters and lone surrogates."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def wrapped(text: str, letters: Font, width: int, most: int = _MOST_LINES) -> list[str]:
    """Return the lines of a text, each at most so wide; a word that is wider alone is broken.

    Args:
        text: of any length.
        letters: the font.
        width: in pixels.
        most: number of lines; what is longer ends with an ellipsis.
    """
    lines, line = [], ""
    words = shown(text).split(" ")
    while words and len(lines) < most:
        word = words.pop(0)
        longer = f"{line} {word}" if line else word
        if letters.getlength(longer) <= width:
            line = longer
        elif line:
            lines.append(line)
            words.insert(0, word)
            line = ""
        else:
            part = _fitting(word, letters, width)
            lines.append(part)
            words.insert(0, word[len(part) :])
    if line and len(lines) < most:
        lines.append(line)
        line = ""
    if line or words:
        last = lines[-1]
        while last and letters.getlength(f"{last} …") > width:
            last = last[:-1]
        lines[-1] = f"{last.rstrip()} …"
    return lines


def _fitting(word: str, letters: Font, width: int) -> str:
    """Return as much of a word as fits, at least one character."""
    low, high = 1, min(len(word), 4096)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if letters.getlength(word[:middle]) <= width else (low, middle - 1)
    return word[:low]
