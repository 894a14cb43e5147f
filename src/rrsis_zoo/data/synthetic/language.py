"""Expressions that fit exactly one object of a scene.

An expression is first a logical form (`Meaning`), which is verified, and then a sentence. Verification asks of every
object of the scene whether the meaning fits it; the answer is YES, NO or UNCLEAR. An expression is accepted only if
**one object answers YES and all others answer NO**: whatever a reasonable reader could take either way is UNCLEAR and
discards the expression.

The reading, in fractions of the image side. ``c`` is the centroid of a mask, ``dx`` and ``dy`` go from one centroid to
another, x to the right and y down; the *peers* of an object are the objects of its category.

==================  ==================================================  =============================================
phrase              YES                                                 NO
==================  ==================================================  =============================================
category            same category                                       other category, unless a part of it looks the
                                                                        same (the pitch in a stadium or in a running
                                                                        track against a soccer field)
colour              painted so                                          other colour, unless the two are easily taken
                                                                        for each other (`CONFUSABLE_COLOURS`)
large, small        at least 1.6 times the area of every peer (at       some peer is 1.6 times larger (smaller)
                    most 1/1.6); at least one peer exists
left (right, top,   c at most 0.40 from that side                       c at least 0.56 from that side
bottom)
upper left, ...     c at most 0.40 from both sides                      c at least 0.56 from either side
middle              c at most 0.14 from the centre on both axes         more than 0.26 on either axis
leftmost, ...       c and the mask's outer edge beyond those of every   some peer's c lies further out by 0.10
                    peer, c by 0.10 at least
left of, above ...  c lies within 27 degrees of the axis, at least      c less than 0.02 to that side, or 65 degrees
                    0.12 away, and the two masks do not overlap on      and more from the axis
                    that axis
upper left of, ...  dx and dy both point there, the smaller at least    either points there by less than 0.03, or the
                    0.42 times and 0.10 long                            smaller is below 0.2 times the larger
nearest to          of all peers, both by centroids and by shortest      some peer is nearer by that much on both counts
                    way between masks: every other is farther by a
                    third and 0.03
farthest from       as nearest, the other way round                     as nearest, the other way round
between A and B     c projects to the middle half of the line A-B, at   c projects outside 0.05 to 0.95, or lies more
                    most 0.2 of its length off it                       than 0.45 of the length off
==================  ==================================================  =============================================

An anchor ("the large building") must itself fit exactly one object by the same rules. All kinds but `category` are
only made for objects with at least one peer, so that the words besides the category are needed; an anchor of the
referent's own category needs three objects of it. `multi` expressions join clauses and speak of at least two objects.

Kinds: ``category`` ("the harbor"), ``attribute`` ("the red ship"), ``position`` ("the ship at the top left"),
``relation`` ("the ship nearest to the harbor"), ``multi`` ("the red ship to the left of the large building").
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from rrsis_zoo.data.synthetic.chance import RandomStream
from rrsis_zoo.data.synthetic.draw import COLOURS
from rrsis_zoo.data.synthetic.scenes import SceneObject
from rrsis_zoo.shown import short_repr

KINDS = ("category", "attribute", "position", "relation", "multi")

YES, UNCLEAR, NO = 2, 1, 0
"""Answers; the answer to a conjunction is the smallest of the parts' answers."""

SIZES = ("large", "small")

CONFUSABLE_COLOURS = frozenset(
    frozenset(pair)
    for pair in (
        ("white", "grey"),
        ("grey", "black"),
        ("red", "brown"),
        ("brown", "grey"),
    )
)
CONFUSABLE_CATEGORIES = frozenset(
    frozenset(pair)
    for pair in (
        ("soccer field", "ground track field"),
        ("soccer field", "stadium"),
        ("ground track field", "stadium"),
    )
)

SIDES = {"left": (0, 1), "right": (0, -1), "top": (1, 1), "bottom": (1, -1)}
"""Side -> (axis, sign): x grows from the left, y from the top."""

_CORNERS = {f"{v} {h}": (v, h) for v in ("top", "bottom") for h in ("left", "right")}
_EXTREMES = {"leftmost": "left", "rightmost": "right", "topmost": "top", "bottommost": "bottom"}
POSITIONS = (*SIDES, *_CORNERS, "middle", *_EXTREMES)

_BESIDE = {"left of": "left", "right of": "right", "above": "top", "below": "bottom"}
_DIAGONAL = {
    "upper left of": ("top", "left"),
    "upper right of": ("top", "right"),
    "lower left of": ("bottom", "left"),
    "lower right of": ("bottom", "right"),
}
RELATIONS = (*_BESIDE, *_DIAGONAL, "nearest to", "farthest from", "between")


@dataclass(frozen=True)
class Phrase:
    """A category with at most one attribute: a colour name, ``large`` or ``small``."""

    category: str
    attribute: str | None = None


@dataclass(frozen=True)
class Link:
    """A relation to one anchor, or to two for ``between``."""

    relation: str
    anchors: tuple[Phrase, ...]


@dataclass(frozen=True)
class Meaning:
    """The logical form of an expression.

    Attributes:
        kind: one of ``KINDS``.
        phrase: what the referent is.
        position: one of ``POSITIONS``, or None.
        links: relations to other objects; all must hold.
    """

    kind: str
    phrase: Phrase
    position: str | None = None
    links: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Combination:
    """A pattern of words that must not meet: a category with an attribute, with a relation, or with both."""

    category: str
    attribute: str | None = None
    relation: str | None = None

    def __str__(self) -> str:
        return " + ".join(part for part in (self.attribute, self.category, self.relation) if part)

    def occurs_in(self, meaning: Meaning) -> bool:
        """Whether the expression uses the combination; anchors count for category with attribute."""
        if self.relation is None:
            phrases = [meaning.phrase, *(anchor for link in meaning.links for anchor in link.anchors)]
            return Phrase(self.category, self.attribute) in phrases
        if meaning.phrase.category != self.category or self.attribute not in (None, meaning.phrase.attribute):
            return False
        return self.relation in {link.relation for link in meaning.links}


HELD_OUT: tuple[Combination, ...] = (
    Combination("vehicle", "red"),
    Combination("ship", "green"),
    Combination("building", "white"),
    Combination("airplane", "yellow"),
    Combination("storage tank", "blue"),
    Combination("tennis court", "blue"),
    Combination("helipad", "green"),
    Combination("basketball court", "large"),
    Combination("ship", None, "left of"),
    Combination("building", None, "above"),
    Combination("storage tank", None, "right of"),
    Combination("airplane", None, "below"),
    Combination("swimming pool", None, "nearest to"),
    Combination("vehicle", None, "upper left of"),
    Combination("helipad", None, "farthest from"),
    Combination("building", "large", "left of"),
    Combination("ship", "small", "right of"),
    Combination("tennis court", "small", "above"),
)
"""Combinations that occur in test expressions only. Each word of them occurs in training, in other company."""


def held_out(meaning: Meaning) -> list[Combination]:
    """Return the held-out combinations that the expression uses."""
    return [combination for combination in HELD_OUT if combination.occurs_in(meaning)]


# -- what is measured --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """Measurements of one object, in fractions of the image side.

    Attributes:
        category, colour: as painted.
        area: fraction of the image.
        centre: centroid (x, y).
        low, high: least and greatest extent (x, y) of the mask's pixels.
        border: int32 (K, 2) pixels (x, y) on the mask's border.
        size: image side in pixels.
    """

    category: str
    colour: str | None
    area: float
    centre: tuple[float, float]
    low: tuple[float, float]
    high: tuple[float, float]
    border: np.ndarray
    size: int


def measure(thing: SceneObject) -> Shape:
    """Measure an object."""
    return measure_part(thing.category, thing.colour, thing.mask, 0, 0, len(thing.mask))


def measure_part(category: str, colour: str | None, mask: np.ndarray, left: int, top: int, size: int) -> Shape:
    """Measure an object by the part of the image around it.

    Only sums of integers and single divisions, so equal on all machines.

    Args:
        category, colour: as painted.
        mask: bool (h, w) with all its pixels.
        left, top: the part's corner in the image.
        size: side of the image in pixels.
    """
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1] = mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    by, bx = np.nonzero(mask & ~inner)
    ys, xs = np.nonzero(mask)
    ys, xs, by, bx = ys + top, xs + left, by + top, bx + left
    n = len(xs)
    centre = ((int(xs.sum()) * 2 + n) / (2 * n * size), (int(ys.sum()) * 2 + n) / (2 * n * size))
    return Shape(
        category,
        colour,
        n / (size * size),
        centre,
        (int(xs.min()) / size, int(ys.min()) / size),
        ((int(xs.max()) + 1) / size, (int(ys.max()) + 1) / size),
        np.stack([bx, by], axis=1).astype(np.int32),
        size,
    )


class Reader:
    """Answers for one scene whether meanings fit its objects, by the rules of this module.

    Args:
        objects: the scene's objects, or their measurements.
        grain: what the 0.02 and 0.03 of the rules are multiplied with, below which an object lies to no side of
            another. In a large scene these would be more than the length of an object: less than 1 keeps them small.
    """

    def __init__(self, objects: Sequence[SceneObject | Shape], grain: float = 1.0) -> None:
        self.grain = grain
        self.shapes = [thing if isinstance(thing, Shape) else measure(thing) for thing in objects]
        n = len(self.shapes)
        self.peers = [
            [j for j in range(n) if j != i and self.shapes[j].category == self.shapes[i].category] for i in range(n)
        ]
        self._shortest: dict[tuple[int, int], float] = {}
        self._phrases: dict[Phrase, list[int]] = {}
        self._links: dict[tuple[str, tuple[int, ...]], list[int]] = {}

    def _straight(self, i: int, j: int) -> float:
        """Return the distance between two centroids."""
        (ax, ay), (bx, by) = self.shapes[i].centre, self.shapes[j].centre
        return math.sqrt((bx - ax) * (bx - ax) + (by - ay) * (by - ay))

    def _way(self, i: int, j: int) -> float:
        """Return the shortest way between two masks; measured when it is first asked for."""
        pair = (min(i, j), max(i, j))
        if pair not in self._shortest:
            first, second = self.shapes[i], self.shapes[j]
            step = first.border[:, None, :] - second.border[None, :, :]
            squared = int((step[..., 0] * step[..., 0] + step[..., 1] * step[..., 1]).min())
            self._shortest[pair] = math.sqrt(squared) / first.size
        return self._shortest[pair]

    # -- answers -----------------------------------------------------------------------------------------------------

    def phrase(self, phrase: Phrase) -> list[int]:
        """Return one answer per object: is it such a thing?"""
        if phrase not in self._phrases:
            self._phrases[phrase] = [self._is(i, phrase) for i in range(len(self.shapes))]
        return self._phrases[phrase]

    def _is(self, i: int, phrase: Phrase) -> int:
        shape, attribute = self.shapes[i], phrase.attribute
        if shape.category != phrase.category:
            return UNCLEAR if frozenset((shape.category, phrase.category)) in CONFUSABLE_CATEGORIES else NO
        if attribute is None:
            return YES
        if attribute in COLOURS:
            if shape.colour == attribute:
                return YES
            close = shape.colour is None or frozenset((shape.colour, attribute)) in CONFUSABLE_COLOURS
            return UNCLEAR if close else NO
        if not self.peers[i]:
            return UNCLEAR
        ratios = [shape.area / self.shapes[j].area for j in self.peers[i]]
        if attribute == "small":
            ratios = [1 / ratio for ratio in ratios]
        return YES if min(ratios) >= 1.6 else NO if min(ratios) <= 1 / 1.6 else UNCLEAR

    def position(self, position: str) -> list[int]:
        """Return one answer per object: is it there?"""
        return [self._lies(i, position) for i in range(len(self.shapes))]

    def _lies(self, i: int, position: str) -> int:
        shape = self.shapes[i]
        if position == "middle":
            off = max(abs(shape.centre[0] - 0.5), abs(shape.centre[1] - 0.5))
            return YES if off <= 0.14 else NO if off > 0.26 else UNCLEAR
        if position in _EXTREMES:
            if not self.peers[i]:
                return UNCLEAR
            side = _EXTREMES[position]
            own, outer = self._depth(i, side), self._outer(i, side)
            if any(self._depth(j, side) <= own - 0.10 for j in self.peers[i]):
                return NO
            clear = all(self._depth(j, side) >= own + 0.10 and self._outer(j, side) > outer for j in self.peers[i])
            return YES if clear else UNCLEAR
        depths = [self._depth(i, side) for side in _CORNERS.get(position, (position,))]
        return YES if max(depths) <= 0.40 else NO if max(depths) >= 0.56 else UNCLEAR

    def _depth(self, i: int, side: str) -> float:
        """Distance of the centroid from a side of the image."""
        axis, sign = SIDES[side]
        return self.shapes[i].centre[axis] if sign > 0 else 1 - self.shapes[i].centre[axis]

    def _outer(self, i: int, side: str) -> float:
        """Distance of the mask's nearest pixel from a side of the image."""
        axis, sign = SIDES[side]
        return self.shapes[i].low[axis] if sign > 0 else 1 - self.shapes[i].high[axis]

    def link(self, relation: str, anchors: tuple[int, ...]) -> list[int]:
        """Return one answer per object: is it in this relation to the anchors? Anchors themselves are not."""
        key = (relation, anchors)
        if key not in self._links:
            self._links[key] = [
                NO if i in anchors else self._stands(i, relation, anchors) for i in range(len(self.shapes))
            ]
        return self._links[key]

    def _stands(self, i: int, relation: str, anchors: tuple[int, ...]) -> int:
        if relation in _BESIDE:
            return self._beside(i, anchors[0], _BESIDE[relation])
        if relation in _DIAGONAL:
            return self._diagonal(i, anchors[0], _DIAGONAL[relation])
        if relation == "between":
            return self._between(i, anchors[0], anchors[1])
        return self._nearest(i, anchors[0], farthest=relation == "farthest from")

    def _beside(self, i: int, anchor: int, side: str) -> int:
        axis, _ = SIDES[side]
        ahead = self._depth(anchor, side) - self._depth(i, side)
        off = abs(self.shapes[i].centre[1 - axis] - self.shapes[anchor].centre[1 - axis])
        if ahead < 0.02 * self.grain or off >= 2.14 * ahead:
            return NO
        opposite = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}[side]
        apart = self._outer(i, opposite) + self._outer(anchor, side) >= 1 - 0.005
        return YES if ahead >= 0.12 and off <= 0.5 * ahead and apart else UNCLEAR

    def _diagonal(self, i: int, anchor: int, sides: tuple[str, str]) -> int:
        ahead = [self._depth(anchor, side) - self._depth(i, side) for side in sides]
        low, high = min(ahead), max(ahead)
        if low < 0.03 * self.grain or low < 0.2 * high:
            return NO
        return YES if low >= 0.10 and low >= 0.42 * high else UNCLEAR

    def _nearest(self, i: int, anchor: int, farthest: bool) -> int:
        rivals = [j for j in self.peers[i] if j != anchor]
        if not rivals:
            return UNCLEAR
        beats, loses = True, False
        for j in rivals:
            beats &= self._closer(j, i, anchor) if farthest else self._closer(i, j, anchor)
            loses |= self._closer(i, j, anchor) if farthest else self._closer(j, i, anchor)
        return YES if beats else NO if loses else UNCLEAR

    def _closer(self, i: int, j: int, anchor: int) -> bool:
        """Whether i is clearly closer to the anchor than j, by centroids and by the shortest way."""
        return all(way(j, anchor) >= way(i, anchor) * 4 / 3 + 0.03 for way in (self._straight, self._way))

    def _between(self, i: int, first: int, second: int) -> int:
        ax, ay = self.shapes[first].centre
        bx, by = self.shapes[second].centre
        x, y = self.shapes[i].centre
        length = (bx - ax) * (bx - ax) + (by - ay) * (by - ay)
        along = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length
        off = abs((x - ax) * (by - ay) - (y - ay) * (bx - ax)) / length
        if not 0.05 <= along <= 0.95 or off > 0.45:
            return NO
        return YES if 0.25 <= along <= 0.75 and off <= 0.2 else UNCLEAR

    # -- referents ---------------------------------------------------------------------------------------------------

    def sole(self, answers: Sequence[int]) -> int | None:
        """Return the only object that answers YES when all others answer NO; None otherwise."""
        return answers.index(YES) if answers.count(YES) == 1 and answers.count(UNCLEAR) == 0 else None

    def anchors(self, meaning: Meaning) -> tuple[tuple[int, ...], ...] | None:
        """Return the objects that each link's anchors fit; None where an anchor does not fit exactly one object."""
        out = []
        for link in meaning.links:
            soles = [self.sole(self.phrase(anchor)) for anchor in link.anchors]
            known = tuple(anchor for anchor in soles if anchor is not None)
            if len(known) != len(soles) or len(set(known)) != len(known):
                return None
            out.append(known)
        return tuple(out)

    def answers(self, meaning: Meaning) -> list[int] | None:
        """Return one answer per object, or None where an anchor does not fit exactly one object."""
        anchors = self.anchors(meaning)
        if anchors is None:
            return None
        parts = [self.phrase(meaning.phrase)]
        if meaning.position:
            parts.append(self.position(meaning.position))
        parts += [self.link(link.relation, known) for link, known in zip(meaning.links, anchors, strict=True)]
        return [min(column) for column in zip(*parts, strict=True)]

    def referent(self, meaning: Meaning) -> int | None:
        """Return the index of the one object that the meaning fits, or None where it does not fit exactly one."""
        answers = self.answers(meaning)
        return None if answers is None else self.sole(answers)


# -- all possible meanings ---------------------------------------------------------------------------------------------


def sayable(reader: Reader, kinds: Sequence[str] = KINDS) -> list[tuple[Meaning, int]]:
    """Return every accepted meaning of a scene with the index of its referent.

    Args:
        reader: of the scene.
        kinds: those to look for. Most meanings are of kind ``multi``: without it a scene of many objects takes seconds.
    """
    shapes = reader.shapes
    out: list[tuple[Meaning, int]] = []

    def keep(meaning: Meaning) -> None:
        referent = reader.referent(meaning) if meaning.kind in kinds else None
        if referent is not None:
            out.append((meaning, referent))

    categories = sorted({shape.category for shape in shapes})
    attributes: dict[str, list[str]] = {}
    for category in categories:
        colours = {shape.colour for shape in shapes if shape.category == category and shape.colour}
        attributes[category] = [*sorted(colours), *SIZES]
    common = [c for c in categories if len([s for s in shapes if s.category == c]) > 1]
    anchors = [Phrase(c) for c in categories] + [Phrase(c, a) for c in common for a in attributes[c]]
    anchors = [phrase for phrase in anchors if reader.sole(reader.phrase(phrase)) is not None]

    for category in categories:
        keep(Meaning("category", Phrase(category)))
    for category in common:
        for attribute in attributes[category]:
            keep(Meaning("attribute", Phrase(category, attribute)))
        for position in POSITIONS:
            keep(Meaning("position", Phrase(category), position))
        if "multi" in kinds:
            for phrase in [Phrase(category), *(Phrase(category, a) for a in attributes[category])]:
                _relate(phrase, anchors, reader, keep)
        elif "relation" in kinds:
            _relate(Phrase(category), [anchor for anchor in anchors if anchor.attribute is None], reader, keep, False)
    return out


def _relate(
    phrase: Phrase, anchors: list[Phrase], reader: Reader, keep: Callable[[Meaning], None], two: bool = True
) -> None:
    """Relate a thing to every anchor; with ``two`` also to every two of them."""
    plain = phrase.attribute is None
    single = [relation for relation in RELATIONS if relation != "between"]
    for anchor in anchors:
        if anchor == phrase:
            continue
        # Of two ships, "the ship to the left of the red ship" says no more than "the other ship".
        if anchor.category == phrase.category and len([s for s in reader.shapes if s.category == phrase.category]) < 3:
            continue
        for relation in single:
            if relation in ("nearest to", "farthest from") and anchor.category == phrase.category:
                continue
            kind = "relation" if plain and anchor.attribute is None else "multi"
            keep(Meaning(kind, phrase, None, (Link(relation, (anchor,)),)))
    others = [anchor for anchor in anchors if anchor.category != phrase.category] if two else []
    for a, first in enumerate(others):
        for second in others[a + 1 :]:
            if reader.sole(reader.phrase(first)) == reader.sole(reader.phrase(second)):
                continue
            keep(Meaning("multi", phrase, None, (Link("between", (first, second)),)))
            if plain:
                for r, s in ((r, s) for r in _BESIDE for s in _BESIDE):
                    keep(Meaning("multi", phrase, None, (Link(r, (first,)), Link(s, (second,)))))


def is_minimal(reader: Reader, meaning: Meaning) -> bool:
    """Whether every attribute and relation of the referent is needed: without it, the rest fits no sole object."""
    shorter = [replace(meaning, links=meaning.links[:i] + meaning.links[i + 1 :]) for i in range(len(meaning.links))]
    if meaning.phrase.attribute:
        shorter.append(replace(meaning, phrase=Phrase(meaning.phrase.category)))
    return all(reader.referent(less) is None for less in shorter)


# -- sentences ---------------------------------------------------------------------------------------------------------

_PLACES = {
    "left": ("on the left", "on the left side of the image"),
    "right": ("on the right", "on the right side of the image"),
    "top": ("at the top", "in the upper part of the image"),
    "bottom": ("at the bottom", "in the lower part of the image"),
    "top left": ("in the upper left", "at the top left of the image"),
    "top right": ("in the upper right", "at the top right of the image"),
    "bottom left": ("in the lower left", "at the bottom left of the image"),
    "bottom right": ("in the lower right", "at the bottom right of the image"),
    "middle": ("in the middle", "in the center of the image"),
}
_BEYOND = {
    "leftmost": ("leftmost",),
    "rightmost": ("rightmost",),
    "topmost": ("topmost", "uppermost"),
    "bottommost": ("bottommost", "lowest"),
}
_LINKS = {
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above",),
    "below": ("below",),
    "upper left of": ("to the upper left of", "on the upper left of"),
    "upper right of": ("to the upper right of", "on the upper right of"),
    "lower left of": ("to the lower left of", "on the lower left of"),
    "lower right of": ("to the lower right of", "on the lower right of"),
    "nearest to": ("nearest to", "closest to"),
    "farthest from": ("farthest from",),
    "between": ("between",),
}
_COMPARED = {"large": ("larger", "largest"), "small": ("smaller", "smallest")}


class Wordings(NamedTuple):
    """All wordings of the parts of a meaning, for whoever reads sentences back.

    Attributes:
        places, beyond: position -> its wordings, behind and before the noun.
        links: relation -> its wordings.
        compared: size -> its wordings among two and among more.
    """

    places: dict[str, tuple[str, ...]]
    beyond: dict[str, tuple[str, ...]]
    links: dict[str, tuple[str, ...]]
    compared: dict[str, tuple[str, str]]


WORDINGS = Wordings(_PLACES, _BEYOND, _LINKS, _COMPARED)


def _noun(phrase: Phrase) -> str:
    return f"{phrase.attribute} {phrase.category}" if phrase.attribute else phrase.category


def say(meaning: Meaning, peers: int, stream: RandomStream) -> str:
    """Return the meaning as an English phrase, lower case, without a full stop.

    Args:
        meaning: an accepted meaning.
        peers: how many other objects of the referent's category the scene holds ("larger" of two, "largest" of more).
        stream: chooses among the wordings.
    """
    noun = _noun(meaning.phrase)
    if meaning.kind == "category":
        return stream.choice(
            (f"the {noun}", f"the {noun} in the image", f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}")
        )
    if meaning.kind == "attribute":
        compared = _COMPARED.get(meaning.phrase.attribute or "")
        if compared and stream.chance(0.5):
            return f"the {compared[0 if peers == 1 else 1]} {meaning.phrase.category}"
        return f"the {noun}"
    if meaning.position in _BEYOND:
        return f"the {stream.choice(_BEYOND[meaning.position])} {noun}"
    if meaning.position:
        return f"the {noun} {stream.choice(_PLACES[meaning.position])}"
    links = []
    for link in meaning.links:
        anchors = " and ".join(f"the {_noun(anchor)}" for anchor in link.anchors)
        links.append(f"{stream.choice(_LINKS[link.relation])} {anchors}")
    return f"the {noun} {' and '.join(links)}"


def superlative(phrase: Phrase, peers: int) -> str:
    """Return a size as a comparison with all others: "the largest ship", "the larger ship" of two."""
    return f"the {_COMPARED[phrase.attribute or ''][0 if peers == 1 else 1]} {phrase.category}"


@dataclass(frozen=True)
class Expression:
    """A verified sentence.

    Attributes:
        text: the sentence.
        meaning: its logical form.
        referent: index of the object it fits.
        anchors: for each link of the meaning, the indices of the objects it speaks of.
        peers: how many other objects of the referent's category there are.
        minimal: whether no attribute and no relation of the referent could be left out.
        held_out: the held-out combinations it uses; empty in training and validation.
    """

    text: str
    meaning: Meaning
    referent: int
    anchors: tuple[tuple[int, ...], ...]
    peers: int
    minimal: bool
    held_out: tuple[Combination, ...]

    __repr__ = short_repr


KIND_WEIGHTS = {"category": 5, "attribute": 10, "position": 4, "relation": 20, "multi": 9}
"""How often a kind is drawn where a scene allows it; chosen so that the five come out about equally often."""


def express(objects: Sequence[SceneObject], count: int, novel: bool, stream: RandomStream) -> list[Expression]:
    """Return ``count`` expressions for a scene, for different referents as far as possible; fewer where it has fewer.

    Args:
        objects: the scene's objects.
        count: how many expressions to make.
        novel: whether held-out combinations may occur; then half of the draws prefer them.
        stream: source of chance.
    """
    reader = Reader(objects)
    pool = [(meaning, referent, tuple(held_out(meaning))) for meaning, referent in sayable(reader)]
    if not novel:
        pool = [entry for entry in pool if not entry[2]]
    out: list[Expression] = []
    while pool and len(out) < count:
        used = {expression.referent for expression in out}
        options = [entry for entry in pool if entry[1] not in used] or pool
        unseen = [entry for entry in options if entry[2]]
        if unseen and stream.chance(0.5):
            options = unseen
        kinds = [kind for kind in KINDS if any(entry[0].kind == kind for entry in options)]
        kind = stream.weighted(kinds, [KIND_WEIGHTS[kind] for kind in kinds])
        options = [entry for entry in options if entry[0].kind == kind]
        if kind == "multi" and stream.chance(0.9):
            options = [entry for entry in options if is_minimal(reader, entry[0])] or options
        forms = sorted({form_of(entry[0]) for entry in options})
        form = stream.choice(forms)
        entry = stream.choice([entry for entry in options if form_of(entry[0]) == form])
        pool.remove(entry)
        meaning, referent, combinations = entry
        peers = len(reader.peers[referent])
        text = say(meaning, peers, stream)
        anchors = reader.anchors(meaning) or ()
        out.append(Expression(text, meaning, referent, anchors, peers, is_minimal(reader, meaning), combinations))
    return out


def form_of(meaning: Meaning) -> tuple[str, ...]:
    """Group meanings by the words that join them, so that rare relations are drawn as often as frequent ones."""
    if meaning.links:
        # Two relations at once are one form: there are sixteen pairs of them.
        return tuple(link.relation for link in meaning.links) if len(meaning.links) == 1 else ("two",)
    if meaning.position:
        return ("extreme" if meaning.position in _EXTREMES else "corner" if meaning.position in _CORNERS else "side",)
    return ("size" if meaning.phrase.attribute in SIZES else "colour",)
