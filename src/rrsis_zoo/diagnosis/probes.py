"""Sentences changed on purpose: does a method read them? No torch.

A probe changes the text alone. What the changed sentence refers to is known where the data's own geometry can say it
(`rrsis_zoo.data.synthetic.contents`); elsewhere only what needs no truth is measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rrsis_zoo.data.records import Record
from rrsis_zoo.data.synthetic.contents import Contents, understand
from rrsis_zoo.data.synthetic.draw import CATEGORIES, COLOURS
from rrsis_zoo.data.synthetic.language import CONFUSABLE_CATEGORIES, SIZES
from rrsis_zoo.diagnosis.records import Meant

PROBES = {
    "swap": "one word of place or size turned into its opposite",
    "paraphrase": "the same meaning in other words",
    "attribute": "colour or size replaced by another one of the scene",
    "anchor gone": "the mentioned object replaced by one that is not there",
    "noun only": "everything but the head noun dropped",
    "shuffle": "the words in random order",
    "blind": "an empty sentence, and one of another scene",
}
"""Name -> what is changed."""


@dataclass(frozen=True)
class Scene:
    """What is known about a scene.

    Attributes:
        sentences: all that are asked about it.
        categories: of their referents, None where unknown.
        contents: all of its objects; None if the data do not list them.
    """

    sentences: Sequence[str]
    categories: Sequence[str | None]
    contents: Contents | None = None


@dataclass(frozen=True)
class Change:
    """A changed sentence.

    Attributes:
        probe: one of ``PROBES``.
        what: the change, such as ``left -> right``.
        sentence: the result.
        meant: whether it refers to one other object, to none, to the same one, or it is not known.
        object: number of the object in the scene's contents.
    """

    probe: str
    what: str
    sentence: str
    meant: Meant = "unknown"
    object: int | None = None


def changes_of(
    record: Record, scene: Scene, elsewhere: str | None, probes: Sequence[str], rng: np.random.Generator
) -> list[Change]:
    """Return the changed sentences of a sample, in the order of ``PROBES``.

    A change is left out if nothing in the sentence can be changed so, or if a reasonable reader could take the result
    either way.

    Args:
        record: the sample.
        scene: its scene.
        elsewhere: a sentence of another scene; None if there is no other.
        probes: the kinds of change.
        rng: of the order of words.
    """
    makers: dict[str, Callable[[], list[tuple[str, str]]]] = {
        "swap": lambda: swaps(record.expression),
        "paraphrase": lambda: paraphrases(record.expression),
        "attribute": lambda: attributes(record.expression, scene),
        "anchor gone": lambda: anchors_gone(record.expression, scene),
        "noun only": lambda: nouns(record),
        "shuffle": lambda: shuffled(record.expression, rng),
        "blind": lambda: [("empty", ""), *([("another scene's", elsewhere)] if elsewhere else [])],
    }
    found: list[Change] = []
    for probe, make in makers.items():
        made = make()  # also where it is not asked for, so that the random numbers stay the same
        if probe in probes:
            found += [change for what, text in made if (change := _meant(probe, what, text, record, scene)) is not None]
    return found


def _meant(probe: str, what: str, text: str, record: Record, scene: Scene) -> Change | None:
    """Say what a changed sentence refers to; None if that is unclear."""
    contents = scene.contents
    original = contents.said(record.expression) if contents is not None else None
    if probe in ("shuffle", "blind", "noun only") or contents is None or original is None:
        return Change(probe, what, text)
    if probe == "paraphrase":  # by rule
        return Change(probe, what, text, "same", original.referent)
    reference = contents.refers(text)
    if reference is None or reference.status == "unclear":
        return None
    if reference.status == "none":
        return Change(probe, what, text, "none")
    return Change(probe, what, text, "same" if reference.object == original.referent else "one", reference.object)


def noun_is_unique(record: Record, scene: Scene) -> bool | None:
    """Return whether the head noun alone would be enough; None if that is not known."""
    meaning = understand(record.expression)
    if scene.contents is None or meaning is None:
        return None
    return scene.contents.unique(meaning.phrase.category)


# -- changes -----------------------------------------------------------------------------------------------------------

_OPPOSITES = (
    ("nearest to", "farthest from"),
    ("closest to", "farthest from"),
    ("nearest", "farthest"),
    ("closest", "farthest"),
    ("leftmost", "rightmost"),
    ("topmost", "bottommost"),
    ("uppermost", "lowest"),
    ("left", "right"),
    ("top", "bottom"),
    ("upper", "lower"),
    ("above", "below"),
    ("largest", "smallest"),
    ("biggest", "smallest"),
    ("larger", "smaller"),
    ("north", "south"),
    ("east", "west"),
    ("northern", "southern"),
    ("eastern", "western"),
    ("northeast", "southwest"),
    ("northwest", "southeast"),
)
_OPPOSITE: dict[str, str] = {}
for _one, _other in _OPPOSITES:
    _OPPOSITE.setdefault(_one, _other)
    _OPPOSITE.setdefault(_other, _one)
_SWAPPED = re.compile(rf"\b({'|'.join(sorted(_OPPOSITE, key=len, reverse=True))})\b", re.IGNORECASE)


def swaps(sentence: str) -> list[tuple[str, str]]:
    """Return the sentence with each word of place or size in turn replaced by its opposite."""
    found = []
    for match in _SWAPPED.finditer(sentence):
        word = match[1].lower()
        other = _OPPOSITE[word]
        found.append((f"{word} -> {other}", sentence[: match.start()] + other + sentence[match.end() :]))
    return found


_NOUN = "|".join(sorted(map(re.escape, CATEGORIES), key=len, reverse=True))
_COLOUR = "|".join(COLOURS)
_RULES = (
    (rf"^the (left|right|top|bottom)most ({_NOUN})$", r"the \2 on the far \1"),
    (rf"^the ({_COLOUR}) ({_NOUN})$", r"the \2 that is \1"),
    (r"\bnearest to\b", "closest to"),
    (r"\bclosest to\b", "nearest to"),
    (r"\bto the (upper|lower) (left|right) of\b", r"on the \1 \2 of"),
    (r"\bon the (upper|lower) (left|right) of\b", r"to the \1 \2 of"),
    (r"\bto the (left|right) of\b", r"\1 of"),
    (r"(?<!the )\b(left|right) of the (?!image)", r"to the \1 of the "),
    (r"\bon the (left|right) side of the image$", r"on the \1"),
    (r"\bon the (left|right)$", r"on the \1 side of the image"),
    (r"\bin the upper (left|right)$", r"at the top \1 of the image"),
    (r"\bin the lower (left|right)$", r"at the bottom \1 of the image"),
    (r"\bat the top (left|right) of the image$", r"in the upper \1"),
    (r"\bat the bottom (left|right) of the image$", r"in the lower \1"),
    (r"\bat the top$", "in the upper part of the image"),
    (r"\bat the bottom$", "in the lower part of the image"),
    (r"\bin the upper part of the image$", "at the top"),
    (r"\bin the lower part of the image$", "at the bottom"),
    (r"\bin the middle$", "in the center of the image"),
    (r"\bin the center of the image$", "in the middle"),
    (r"\buppermost\b", "topmost"),
    (r"\blowest\b", "bottommost"),
    (r"\blargest\b", "biggest"),
    (r"\blarger\b", "bigger"),
    (rf"^(?:the|an?) ({_NOUN}) in the image$", r"the \1"),
    (rf"^(?:the|an?) ({_NOUN})$", r"the \1 in the image"),
)


def paraphrases(sentence: str) -> list[tuple[str, str]]:
    """Return the sentence in other words, by the first rule that fits; nothing if none does."""
    for pattern, replacement in _RULES:
        changed, times = re.subn(pattern, replacement, sentence, count=1)
        if times and changed != sentence:
            return [("by rule", changed)]
    return []


_SIZED = {"large": "small", "small": "large"}


def attributes(sentence: str, scene: Scene) -> list[tuple[str, str]]:
    """Return the sentence with its first colour, and its first size, replaced by another that occurs in the scene.

    The colours of a scene are those of its objects, or else those that its sentences name.
    """
    if scene.contents is not None:
        there = {thing.colour for thing in scene.contents.objects if thing.colour}
    else:
        there = {word for text in scene.sentences for word in re.findall(r"[a-z]+", text.lower()) if word in COLOURS}
    found = []
    if (match := re.search(rf"\b({_COLOUR})\b", sentence)) and (others := sorted(there - {match[1]})):
        found.append((f"{match[1]} -> {others[0]}", sentence[: match.start()] + others[0] + sentence[match.end() :]))
    if match := re.search(rf"\b({'|'.join(SIZES)})\b", sentence):
        other = _SIZED[match[1]]
        found.append((f"{match[1]} -> {other}", sentence[: match.start()] + other + sentence[match.end() :]))
    return found


def anchors_gone(sentence: str, scene: Scene) -> list[tuple[str, str]]:
    """Return the sentence with its last anchor's noun replaced by one that is not in the scene.

    Only for scenes whose contents are known, and sentences of the generator's language.
    """
    meaning = understand(sentence)
    if scene.contents is None or meaning is None or not meaning.links:
        return []
    anchor = meaning.links[-1].anchors[-1].category
    there = {thing.category for thing in scene.contents.objects}
    there = there.union(*(pair for pair in CONFUSABLE_CATEGORIES if pair & there))
    absent = [name for name in CATEGORIES if name not in there]
    place = sentence.rfind(anchor)
    other = absent[len(sentence) % len(absent)]  # any, but always the same
    return [(f"{anchor} -> {other}", sentence[:place] + other + sentence[place + len(anchor) :])]


def nouns(record: Record) -> list[tuple[str, str]]:
    """Return ``the`` and the head noun: the sentence's own, or the category if the sentence names it."""
    meaning = understand(record.expression)
    noun = meaning.phrase.category if meaning else record.category
    if not noun or noun.lower() not in record.expression.lower():
        return []
    return [(noun, f"the {noun}")] if f"the {noun}" != record.expression else []


def shuffled(sentence: str, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Return the sentence with its words in another order; nothing if there is no other."""
    words = sentence.split()
    if len(set(words)) < 2:
        return []
    for _ in range(20):
        order = [words[i] for i in rng.permutation(len(words))]
        if order != words:
            return [("random order", " ".join(order))]
    return []
