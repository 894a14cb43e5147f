"""Shorter prompts for SAM 3, which was trained on noun phrases: a rule of ours on a sentence's words.

``noun_phrase``: what the sentence is about, without determiners and place words and without what follows the noun;
``head_noun``: without its leading attributes either. "the red and white ship on the left" gives "red and white ship"
and "ship". A sentence of attributes alone, or without a noun, stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

Prompt = Literal["sentence", "noun_phrase", "head_noun"]
"""What of a sentence is given to SAM 3."""

_DET = frozenset(
    [
        "a",
        "all",
        "an",
        "any",
        "both",
        "each",
        "every",
        "five",
        "four",
        "one",
        "several",
        "six",
        "some",
        "that",
        "the",
        "these",
        "this",
        "those",
        "three",
        "two",
    ]
)
"""Determiners and numbers."""
_SPACE = frozenset(
    [
        "bottom",
        "bottommost",
        "center",
        "central",
        "centre",
        "closest",
        "corner",
        "east",
        "eastern",
        "edge",
        "entire",
        "far",
        "farthest",
        "first",
        "furthest",
        "highest",
        "innermost",
        "last",
        "left",
        "leftmost",
        "lower",
        "lowermost",
        "lowest",
        "middle",
        "nearest",
        "north",
        "northeast",
        "northern",
        "northwest",
        "only",
        "outermost",
        "right",
        "rightmost",
        "second",
        "side",
        "south",
        "southeast",
        "southern",
        "southwest",
        "third",
        "top",
        "topmost",
        "upper",
        "uppermost",
        "very",
        "west",
        "western",
        "whole",
    ]
)
"""Place words: they say which of several, not what."""
_SIZE = frozenset(
    [
        "big",
        "bigger",
        "biggest",
        "giant",
        "huge",
        "large",
        "larger",
        "largest",
        "little",
        "long",
        "longest",
        "medium",
        "medium-sized",
        "narrow",
        "short",
        "shortest",
        "small",
        "smaller",
        "smallest",
        "tall",
        "tiny",
        "wide",
    ]
)
_COLOUR = frozenset(
    [
        "beige",
        "black",
        "blue",
        "bluish",
        "bright",
        "brown",
        "colored",
        "coloured",
        "cyan",
        "dark",
        "dark-colored",
        "golden",
        "gray",
        "green",
        "greenish",
        "grey",
        "light",
        "light-colored",
        "maroon",
        "multicolored",
        "orange",
        "pink",
        "purple",
        "red",
        "reddish",
        "silver",
        "tan",
        "white",
        "whitish",
        "yellow",
        "yellowish",
    ]
)
_SHAPE = frozenset(
    [
        "circular",
        "curved",
        "elliptical",
        "irregular",
        "long-shaped",
        "oval",
        "rectangular",
        "round",
        "square",
        "straight",
        "strip-shaped",
        "triangular",
    ]
)
_STOP = frozenset(
    [
        "above",
        "across",
        "adjacent",
        "against",
        "along",
        "amid",
        "among",
        "and",
        "are",
        "around",
        "as",
        "at",
        "be",
        "because",
        "behind",
        "below",
        "beneath",
        "beside",
        "besides",
        "between",
        "beyond",
        "but",
        "by",
        "can",
        "during",
        "from",
        "had",
        "has",
        "have",
        "in",
        "inside",
        "into",
        "is",
        "it",
        "its",
        "near",
        "next",
        "not",
        "off",
        "on",
        "onto",
        "opposite",
        "or",
        "outside",
        "over",
        "surrounding",
        "that",
        "there",
        "through",
        "throughout",
        "to",
        "toward",
        "towards",
        "under",
        "was",
        "were",
        "when",
        "where",
        "which",
        "while",
        "who",
        "whose",
        "with",
        "within",
        "without",
    ]
)
"""Words that end a noun phrase."""
_PART = frozenset(
    [
        "bunch",
        "cluster",
        "couple",
        "fleet",
        "group",
        "kind",
        "line",
        "lot",
        "number",
        "pair",
        "part",
        "piece",
        "portion",
        "row",
        "section",
        "series",
        "set",
        "type",
    ]
)
"""Nouns of quantity: "a row of cars" is about cars."""
_KEEP = frozenset(
    [
        "bed",
        "breed",
        "building",
        "buildings",
        "housing",
        "landing",
        "marking",
        "markings",
        "parking",
        "racing",
        "seed",
        "shed",
        "shipping",
        "speed",
        "swimming",
        "training",
        "weed",
    ]
)
"""Words in -ing or -ed that are nouns or belong to one."""
_ATTRIBUTES = _SIZE | _COLOUR | _SHAPE
_ENDINGS = frozenset(["shaped", "sized", "colored", "coloured", "and"])
_MARKS = frozenset(",.;:")


def _attribute(word: str) -> bool:
    parts = word.split("-")
    hyphenated = len(parts) > 1 and all(part in _ATTRIBUTES | _ENDINGS for part in parts)
    return word in _ATTRIBUTES or word == "and" or hyphenated


def _place(word: str) -> bool:
    parts = word.split("-")
    return word in _SPACE or (len(parts) > 1 and all(part in _SPACE or part in ("most", "hand") for part in parts))


def _is_part(word: str) -> bool:
    return word in _PART or any(word in (f"{part}s", f"{part}es") for part in _PART)


def noun_phrase(sentence: str) -> str:
    """Return what the sentence is about, lower case."""
    return " ".join(_phrase(sentence)) or plain(sentence)


def head_noun(sentence: str) -> str:
    """Return the noun alone, as far as the words before it are known attributes; lower case."""
    words = _phrase(sentence)
    while len(words) > 1 and _attribute(words[0]):
        words = words[1:]
    return " ".join(words) or plain(sentence)


def plain(sentence: str) -> str:
    """Return the sentence in lower case with single blanks."""
    return " ".join(sentence.lower().split())


PROMPTS: dict[str, Callable[[str], str]] = {"sentence": str, "noun_phrase": noun_phrase, "head_noun": head_noun}
"""Kind of prompt -> what it makes of a sentence."""


def _phrase(sentence: str) -> list[str]:
    """Return the words of the noun phrase; none if there is nothing but attributes."""
    out: list[str] = []
    for word in words_of(sentence):
        noun = any(not _attribute(each) for each in out)
        if word in _MARKS:
            if noun:
                break
        elif word == "of":
            if out and _is_part(out[-1]):
                out = []
            elif out:
                break
        elif word in _STOP:
            if noun:
                break
            if out and word == "and":
                out.append(word)
            elif out and word != "or":
                break
        elif noun and len(word) > 4 and word.endswith(("ing", "ed")) and word not in _KEEP:
            break
        elif word in _DET or _place(word):
            if noun and _place(word):
                break
        else:
            out.append(word)
    return out if any(not _attribute(word) for word in out) else []


def words_of(sentence: str) -> list[str]:
    """Return the words of the lower-cased sentence, of letters, digits, ' and -; marks are words of their own."""
    kept = "".join(c if c.isalnum() or c in "'-,.;:" else " " for c in sentence.lower())
    return re.sub(r"([,.;:])", r" \1 ", kept).split()
