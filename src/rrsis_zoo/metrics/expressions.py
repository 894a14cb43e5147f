"""The kinds of an expression, inferred from its words. English; no torch.

The published data sets do not label them. The word lists below were made for their templates (RefSegRS: "car driving
on the road"; RRSIS-D: "the ship on the upper left", "the dam is on the left of the overpass"); an expression may be of
several kinds or of none.
"""

from __future__ import annotations

import re

KINDS = ("position", "relation", "colour", "size")
"""``position``: where in the image; ``relation``: where relative to something else; words for colour and size."""

LENGTHS = (("1-4 words", 4), ("5-8 words", 8), ("9-12 words", 12), ("13 or more words", None))
"""Classes of length: name, and largest number of words."""

_SIDE = (
    r"(?:(?:upper|lower|top|bottom|far|very|north|south)[ -]?)?"
    r"(?:left|right|top|bottom|upper|lower|middle|cent(?:er|re)|central|north|south|east|west)"
)
_IMAGE = r"(?:the |this )?(?:whole )?(?:image|picture|photo|photograph|scene|frame|view)\b"
# "left of the pier" is relative to something; "left of the image" is not
_SIDE_OF = rf"\b{_SIDE}(?:[ -]hand)?(?: side| part| corner)? of (?!{_IMAGE})"
_PREPOSITIONS = (
    r"next to|near(?:est|by|er)?|close(?:st|r)? to|clos(?:est|er) to|farthest from|furthest from|far from|beside|"
    r"besides|between|among|above|below|under(?:neath)?|beneath|behind|in front of|adjacent to|opposite|"
    r"along(?:side)?(?: with)?|around|surround(?:ed|ing)|inside|outside|within|across|connect(?:ed|ing)|parallel to|"
    r"facing|driving on|driving in|parked (?:on|in|at|by)|in the parking area|on the road|with respect to"
)
_RELATION = re.compile(rf"{_SIDE_OF}|\b(?:{_PREPOSITIONS})\b", re.IGNORECASE)
_POSITION = re.compile(
    rf"\b(?:{_SIDE}|(?:left|right|top|bottom|upper|lower|north|south|east|west)(?:ern)?[ -]?most|lowest|highest|corner|"
    rf"edge of {_IMAGE})\b",
    re.IGNORECASE,
)
_COLOUR = re.compile(
    r"\b(?:red|orange|yellow|green|cyan|turquoise|blue|purple|violet|pink|brown|beige|tan|black|white|gr[ae]y|silver|"
    r"(?:light|dark)[ -]colou?red|colou?rful)(?:ish)?\b",
    re.IGNORECASE,
)
_SIZE = re.compile(
    r"\b(?:large|big|huge|giant|small|little|tiny|long|short|tall|wide|broad|narrow)(?:r|er|st|est|ger|gest)?\b|"
    r"\b(?:tin|medium|mid)(?:ier|iest|-?sized)\b",
    re.IGNORECASE,
)


def word_kinds(expression: str) -> frozenset[str]:
    """Return the kinds, from ``KINDS``, of the words in an expression; empty for a bare noun.

    Example:
        >>> sorted(word_kinds("the small red ship left of the pier"))
        ['colour', 'relation', 'size']
        >>> word_kinds("the ship")
        frozenset()
    """
    rest = _RELATION.sub(" ", expression)  # words of a relation are not a position
    tests = {
        "relation": rest != expression,
        "position": _POSITION.search(rest) is not None,
        "colour": _COLOUR.search(expression) is not None,
        "size": _SIZE.search(expression) is not None,
    }
    return frozenset(kind for kind, there in tests.items() if there)


def length_class(expression: str) -> str:
    """Return the class, from ``LENGTHS``, of an expression's number of words (split at white space)."""
    words = len(expression.split())
    return next(name for name, most in LENGTHS if most is None or words <= most)
