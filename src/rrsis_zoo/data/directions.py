"""Rewriting the sentence about an image that is mirrored or rotated. No torch here.

A flip makes "the ship on the left" wrong. `rewrite` returns the sentence that is true for the flipped image, or None if
no exact one is known; then the image must be left unchanged. A direction word counts as understood only in a
construction listed here ("on the left", "upper right corner", "left of the pier", "the left court"). Everything else is
refused: "the right of way", "left over", "top-down", "a bridge above the river", compass words, clock hands, turns,
counting without a side to count from. A refused sentence costs a flip, a wrong one teaches an error.

Rewriting swaps words one for one, so applying it twice restores the sentence; that is checked every time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Symmetry = Literal["hflip", "vflip", "rot90", "rot180", "rot270"]
"""``hflip`` mirrors left and right, ``vflip`` top and bottom; rotations are counter-clockwise, in degrees."""


def rewrite(expression: str, symmetry: Symmetry) -> str | None:
    """Return the expression that is true after the image is mirrored or rotated.

    Args:
        expression: an English sentence.
        symmetry: what happens to the image.

    Returns:
        The expression, unchanged if it mentions no direction; None if no exact one is known. Rotations by 90 and 270
        degrees are refused for every expression with a direction word.

    Example:
        >>> rewrite("the ship in the upper left corner", "hflip")
        'the ship in the upper right corner'
        >>> rewrite("the right of way", "hflip") is None
        True
    """
    words = _words(expression)
    if symmetry in ("rot90", "rot270"):
        return None if any(w.is_direction or w.lower in _ORIENTED for w in words) else expression
    axes = {"hflip": "h", "vflip": "v", "rot180": "hv"}[symmetry]
    there = _exchange(expression, axes)
    if there is None or _exchange(there, axes) != expression:
        return None
    return there


def is_local(expression: str) -> bool:
    """Return whether the expression mentions nothing around the referent, so that its surroundings may be cropped."""
    return not any(w.is_direction or w.lower in _AROUND or w.lower in _ORIENTED for w in _words(expression))


# -- words -------------------------------------------------------------------------------------------------------------

_H = {"left": "right", "right": "left"}
_V = {"top": "bottom", "upper": "lower", "above": "below", "up": "down"}
_V |= {other: word for word, other in _V.items()}

# "topleft", "middleright", "left-most", "uppermost", "upwards"
_COMPOUND = re.compile(
    r"(?P<vertical>top|bottom|upper|lower|above|below|up|down)?(?P<between>middle|center|centre|mid|far)?"
    r"(?P<horizontal>left|right)?(?P<end>most|hand|side|wards?)?"
)
_BRIGHT = re.compile(r"(bright|upright|copyright|outright|cleft)")  # contain the letters but mean no direction
_FOREIGN = re.compile(r"left|right|^(top|bottom|upper|lower|upside|downside|uphill|downhill)")
_COMPASS = re.compile(r"north|south|east|west")

_ARTICLES = {"the", "a", "an", "its", "their", "this", "that"}
_NUMBERS = {"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "both", "all", "several"}
_TOWARDS = {"on", "at", "in", "to", "toward", "towards", "from", "near", "along"}
_FACING = {"facing", "pointing", "heading", "oriented", "directed"}
_MODIFIERS = {"top", "bottom", "upper", "lower", "middle", "center", "centre", "mid", "far", "very", "extreme"}
_PLACES = {
    *("side", "sides", "part", "half", "corner", "corners", "edge", "end", "portion", "section", "area", "region"),
    *("quadrant", "quarter", "border", "boundary", "margin", "hand", "most", "center", "centre", "middle"),
}
_IMAGE = {"image", "picture", "photo", "photograph", "frame", "scene"}
_THINGS = {
    *("airplane", "airplanes", "plane", "planes", "aircraft", "airport", "baseball", "basketball", "bikeway", "boat"),
    *("bridge", "bridges", "building", "buildings", "bus", "car", "cars", "chimney", "chimneys", "container"),
    *("court", "courts", "crane", "dam", "diamond", "expressway", "field", "fields", "golf", "ground", "harbor"),
    *("harbors", "helicopter", "helicopters", "helipad", "lane", "overpass", "overpasses", "pool", "pools", "road"),
    *("roundabout", "service", "ship", "ships", "sidewalk", "soccer", "stadium", "storage", "swimming", "tank"),
    *("tanks", "tennis", "toll", "track", "trailer", "train", "tree", "trees", "truck", "trucks", "van", "vehicle"),
    *("vehicles", "windmill", "windmills", "one", "ones"),
    *("white", "grey", "gray", "black", "red", "yellow", "green", "blue", "brown", "orange", "large", "small", "big"),
    *("tiny", "long", "larger", "smaller", "circular", "rectangular", "round"),
} - {"lane", "track"}  # "the right lane" is the driver's, "the right track" a figure of speech
_AFTER = {
    *("is", "are", "was", "has", "have", "and", "or", "in", "on", "at", "near", "with", "beside", "by", "from", "that"),
    *("which", "next", "close", "closest", "adjacent", "among", "between", "surrounded", "located", "parked", "to"),
}
_ORDINALS = {
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "last"),
    *("1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th", "10th"),
}
_TURNING = {
    *("clockwise", "anticlockwise", "counterclockwise", "clock", "turn", "turns", "turned", "turning", "mirrored"),
}
_STANDING = {  # may refer to the vertical of the image or of the world
    *("under", "beneath", "underneath", "foreground", "background", "horizon", "higher", "highest", "lowest"),
}
_CROSSING = {  # where "above" is likely to mean elevation
    *("bridge", "bridges", "overpass", "overpasses", "underpass", "viaduct", "flyover", "crossing", "tunnel", "river"),
    *("water", "sea", "ground", "elevated", "roof", "rooftop", "deck", "platform", "level"),
}
_ORIENTED = {
    *("horizontal", "horizontally", "vertical", "vertically", "row", "rows", "column", "columns", "wide", "tall"),
}
_AROUND = {
    *("on", "in", "at", "of", "to", "from", "near", "nearest", "next", "beside", "besides", "between", "along", "by"),
    *("behind", "front", "around", "inside", "outside", "within", "adjacent", "close", "closer", "closest", "far"),
    *("farther", "farthest", "further", "furthest", "surrounded", "surrounding", "among", "amid", "against", "across"),
    *("middle", "center", "centre", "central", "corner", "edge", "side", "sides", "over", "through", "beyond", "off"),
    *("opposite", "connected", "connecting", "parallel", "alongside", "about", "where", "part", "only"),
}


@dataclass
class _Word:
    """A word and its place in the sentence; ``before`` and ``after`` are its neighbours, unless a comma is between."""

    text: str
    start: int
    before: _Word | None = None
    after: _Word | None = None

    @property
    def lower(self) -> str:
        return self.text.lower()

    @property
    def parts(self) -> re.Match[str] | None:
        """The parts of a direction word, None for any other word."""
        match = _COMPOUND.fullmatch(self.lower)
        return match if match and (match["vertical"] or match["horizontal"]) else None

    @property
    def is_direction(self) -> bool:
        """Whether a rotation by 90 degrees could make the sentence with this word wrong."""
        word = self.lower
        return bool(
            self.parts
            or word in _ORDINALS | _TURNING | _STANDING
            or _COMPASS.match(word)
            or (_FOREIGN.search(word) and not _BRIGHT.match(word))
        )


def _words(expression: str) -> list[_Word]:
    words = [_Word(m[0], m.start()) for m in re.finditer(r"[^\W_]+", expression)]
    for one, other in pairwise(words):
        if re.fullmatch(r"[\s\-‐‑]+", expression[one.start + len(one.text) : other.start]):
            one.after, other.before = other, one
    return words


# -- exchange ----------------------------------------------------------------------------------------------------------


def _exchange(expression: str, axes: str) -> str | None:
    """Swap the words of one or both axes; None if one of them is not understood."""
    words = _words(expression)
    if not _countable(words) or any(_refuses(word, axes, words) for word in words):
        return None
    out, end = [], 0
    for word in words:
        new = _swapped(word, axes)
        if word.lower in ("a", "an") and word.after is not None and _swapped(word.after, axes) != word.after.text:
            new = _article(word.text, _swapped(word.after, axes))
        out += [expression[end : word.start], new]
        end = word.start + len(word.text)
    return "".join([*out, expression[end:]])


def _swapped(word: _Word, axes: str) -> str:
    parts = word.parts
    if parts is None:
        return word.text
    vertical, horizontal = parts["vertical"] or "", parts["horizontal"] or ""
    new = (_V.get(vertical, "") if "v" in axes else vertical) + (parts["between"] or "")
    new += (_H.get(horizontal, "") if "h" in axes else horizontal) + (parts["end"] or "")
    return _in_case_of(word.text, new)


def _article(text: str, following: str) -> str:
    return _in_case_of(text, "an" if following[0].lower() in "aeiou" else "a")


def _in_case_of(model: str, word: str) -> str:
    if model.isupper() and len(model) > 1:
        return word.upper()
    return word.capitalize() if model[0].isupper() else word


def _countable(words: list[_Word]) -> bool:
    """Whether every "second" says where it counts from."""
    ordinals = sum(word.lower in _ORDINALS for word in words)
    return ordinals <= sum(word.lower == "from" and _side(_skip_the(word.after)) for word in words)


def _side(word: _Word | None) -> bool:
    return word is not None and word.lower in ("left", "right", "top", "bottom")


def _skip_the(word: _Word | None) -> _Word | None:
    return word.after if word is not None and word.lower == "the" else word


def _refuses(word: _Word, axes: str, words: Iterable[_Word]) -> bool:
    """Whether the word makes an exact sentence impossible."""
    lower, parts = word.lower, word.parts
    if lower in _TURNING or _COMPASS.match(lower):
        return True
    if lower in ("shaped", "shape") and word.before is not None and word.before.lower in ("s", "z", "n", "j"):
        return True
    if parts is None:
        if lower in _STANDING:
            return "v" in axes
        return bool(_FOREIGN.search(lower)) and not _BRIGHT.match(lower)
    if "h" in axes and lower in _H and not _understood(word):
        return True
    if "v" in axes and parts["vertical"] and not _understood_vertical(word, words):
        return True
    # a compound such as "upside" or "downmost" that English does not have
    return bool(parts["end"] in ("hand", "side") and not parts["horizontal"])


def _is(word: _Word | None, *sets: set[str]) -> bool:
    return word is not None and any(word.lower in one for one in sets)


def _understood(word: _Word) -> bool:
    """Whether left, right, top or bottom is in a construction that is known to mean a side of the image."""
    before, after = word.before, word.after
    opposite = {_H.get(word.lower) or _V[word.lower]}
    if _is(after, _PLACES):
        return True  # the left side, the top corner
    if _is(after, {"of"}) and after is not None:
        return _is(after.after, _ARTICLES, _NUMBERS, {"it", "center", "centre", "middle"})  # left of the pier
    ends = after is None or _is(after, _AFTER)
    if _is(before, _MODIFIERS) and (ends or _is(after, _IMAGE)):
        return True  # in the upper left
    if _is(after, {"and", "or", "to"}) and after is not None and _is(_skip_the(after.after), opposite):
        return _side_follows(before)  # from left to right, the left and right courts
    if _is(before, {"and", "or", "to"}) and before is not None and _is(before.before, opposite):
        return ends or _is(after, _THINGS)
    if _is(before, _ARTICLES, _NUMBERS, _MODIFIERS) and before is not None:
        if _is(after, _THINGS):
            return True  # the left court
        return ends and _is(before.before, _TOWARDS, _FACING)  # on the left
    return ends and _is(before, _TOWARDS - {"on", "in"}, _FACING)  # from left, facing right


def _side_follows(before: _Word | None) -> bool:
    return before is None or _is(before, _TOWARDS, _ARTICLES)


def _understood_vertical(word: _Word, words: Iterable[_Word]) -> bool:
    parts, before, after = word.parts, word.before, word.after
    assert parts is not None
    vertical = parts["vertical"]
    if parts["end"] == "most" or (parts["horizontal"] and vertical in ("top", "bottom", "upper", "lower")):
        return vertical in ("top", "bottom", "upper", "lower")
    if vertical in ("up", "down"):
        return _is(before, _FACING) and (after is None or _is(after, _AFTER))
    if parts["end"] or parts["between"]:
        return False
    if vertical in ("above", "below"):
        level = not any(one.lower in _CROSSING for one in words)
        return level and _is(after, _ARTICLES, _NUMBERS, {"it"}) and not _is(before, {"from", "seen", "viewed"})
    if after is not None and after.parts is not None and after.parts["horizontal"]:
        return True  # upper left: the second word is checked separately
    if vertical in ("upper", "lower"):
        return _is(after, _PLACES)  # "the lower building" may be lower in height
    if _is(after, {"of"}) and after is not None:  # not "on top of the building"
        image = _skip_the(after.after)
        return _is(image, _IMAGE) and _is(before, {"the", "at"})
    return _understood(word)
