"""Everything in a synthetic scene, and what sentences about it mean: the oracle of the language probes. No torch.

`understand` is the inverse of `rrsis_zoo.data.synthetic.language.say`: from a sentence to its logical form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle
from pydantic import Field

from rrsis_zoo.data.synthetic.draw import CATEGORIES, COLOURS
from rrsis_zoo.data.synthetic.language import (
    NO,
    SIZES,
    WORDINGS,
    YES,
    Link,
    Meaning,
    Phrase,
    Reader,
)
from rrsis_zoo.data.synthetic.scenes import SceneObject
from rrsis_zoo.data.synthetic.sidecar import Code, Number, part, read_sidecar
from rrsis_zoo.data.synthetic.write import SIDECAR
from rrsis_zoo.schema import Strict


class Thing(Strict):
    """An object as the oracle needs it."""

    category: str
    colour: str | None
    large: bool | None
    angle: int
    segmentation: Code


class Pictured(Strict):
    """A scene."""

    file_name: str
    id: Number
    objects: Annotated[list[Thing], Field(min_length=1)]


class Said(Strict):
    """An expression and its objects."""

    image_id: Number
    text: str
    referent: Number
    links: list[dict[str, Any]]


class Everything(Strict):
    """What is read from the sidecar."""

    images: list[Pictured]
    expressions: list[Said]


class Mentioned(NamedTuple):
    """The objects of a sentence of the dataset, by their numbers in the scene."""

    referent: int
    anchors: tuple[int, ...]


class Reference(NamedTuple):
    """What a sentence refers to.

    Attributes:
        status: ``one``, ``none``, or ``unclear`` where a reasonable reader could take it either way.
        object: number of the object, if it is one.
    """

    status: str
    object: int | None = None


@dataclass(frozen=True)
class Contents:
    """The objects of a scene, and what was said about them.

    Attributes:
        objects: with their masks.
        sentences: text -> the objects that it is about.
    """

    objects: tuple[SceneObject, ...]
    sentences: dict[str, Mentioned]

    @cached_property
    def reader(self) -> Reader:
        """The rules by which sentences fit objects."""
        return Reader(self.objects)

    @property
    def masks(self) -> list[NDArray[np.bool_]]:
        """Masks of all objects, bool (H, W)."""
        return [thing.mask for thing in self.objects]

    def said(self, sentence: str) -> Mentioned | None:
        """Return the objects of one of the dataset's own sentences."""
        return self.sentences.get(sentence)

    def refers(self, sentence: str) -> Reference | None:
        """Return what any sentence of the generator's language refers to; None for a sentence that is not in it."""
        meaning = understand(sentence)
        return None if meaning is None else self.fits(meaning)

    def fits(self, meaning: Meaning) -> Reference:
        """Return what a meaning refers to.

        An anchor that fits no object makes the sentence refer to nothing; one that is unclear makes it unclear. "The
        small ship nearest to the harbor" is, to some readers, the nearest of the small ships, even if a large one is
        nearer: no object fits both words as `Reader` takes them, but it is unclear, not nothing.
        """
        reader = self.reader
        for link in meaning.links:
            for anchor in link.anchors:
                answers = reader.phrase(anchor)
                if all(answer == NO for answer in answers):
                    return Reference("none")
        answers = reader.answers(meaning)
        if answers is None:
            return Reference("unclear")
        if all(answer == NO for answer in answers):
            compared = meaning.position in COMPARING or any(link.relation in COMPARING for link in meaning.links)
            return Reference("unclear" if compared and self._may_be_narrower(meaning) else "none")
        sole = reader.sole(answers)
        return Reference("unclear") if sole is None else Reference("one", sole)

    def _may_be_narrower(self, meaning: Meaning) -> bool:
        """Whether a comparison could be meant among fewer objects: those with the attribute or the other relation.

        That takes an object which fits everything but the comparisons.
        """
        rest = tuple(link for link in meaning.links if link.relation not in COMPARING)
        place = None if meaning.position in COMPARING else meaning.position
        if meaning.phrase.attribute is None and not rest and place is None:
            return False
        answers = self.reader.answers(replace(meaning, position=place, links=rest))
        return answers is None or any(answer != NO for answer in answers)

    def unique(self, category: str) -> bool:
        """Whether the name of a category alone refers to one object."""
        return self.reader.phrase(Phrase(category)).count(YES) == 1


def read_contents(root: Path) -> dict[str, Contents]:
    """Return file name of an image -> what is in it.

    Raises:
        MissingDataError, DataFormatError: the sidecar is missing or damaged.
    """
    path = root / SIDECAR
    everything = part(Everything, read_sidecar(path), path)
    sentences: dict[int, dict[str, Mentioned]] = {}
    for said in everything.expressions:
        anchors = tuple(int(anchor["object"]) for link in said.links for anchor in link["anchors"])
        sentences.setdefault(said.image_id, {})[said.text] = Mentioned(said.referent, anchors)
    return {
        picture.file_name: Contents(tuple(_object(thing) for thing in picture.objects), sentences.get(picture.id, {}))
        for picture in everything.images
    }


def _object(thing: Thing) -> SceneObject:
    code = {"size": thing.segmentation.size, "counts": thing.segmentation.counts.encode("ascii")}
    mask = rle.decode(cast(Any, code)).astype(np.bool_)
    return SceneObject(thing.category, thing.colour, thing.large, thing.angle, mask)


COMPARING = frozenset(("nearest to", "farthest from", "leftmost", "rightmost", "topmost", "bottommost"))
"""Relations and positions that compare an object with its peers."""


# -- from a sentence to its meaning ------------------------------------------------------------------------------------

_SIZE_WORDS = {
    **{size: size for size in SIZES},
    **{word: size for size, words in WORDINGS.compared.items() for word in words},
}
_NOUN = "|".join(sorted(map(re.escape, CATEGORIES), key=len, reverse=True))
_ATTRIBUTE = "|".join([*COLOURS, *_SIZE_WORDS])
_PHRASE = re.compile(rf"(?:(?P<attribute>{_ATTRIBUTE}) )?(?P<category>{_NOUN})")
_PLACE = {wording: position for position, wordings in WORDINGS.places.items() for wording in wordings}
_BEYOND = {word: position for position, words in WORDINGS.beyond.items() for word in words}
_LINK = {wording: relation for relation, wordings in WORDINGS.links.items() for wording in wordings}
_LINK_WORDS = sorted(_LINK, key=len, reverse=True)


def understand(sentence: str) -> Meaning | None:
    """Return the logical form of a sentence of the generator's language; None for any other.

    Example:
        >>> understand("the red ship to the left of the pier") is None
        True
        >>> understand("the red ship to the left of the harbor").links[0].relation
        'left of'
    """
    words = re.match(r"(?:the|a|an) (.+)$", sentence)
    if not words:
        return None
    rest = words[1]
    position = None
    for word, where in _BEYOND.items():
        if rest.startswith(f"{word} "):
            position, rest = where, rest[len(word) + 1 :]
            break
    found = _PHRASE.match(rest)
    if not found:
        return None
    phrase, rest = _phrase(found), rest[found.end() :].strip()
    if rest == "in the image":
        rest = ""
    if rest in _PLACE:
        position, rest = (None, "?") if position else (_PLACE[rest], "")
    links = _links(rest) if rest else ()
    if links is None or (links and position):
        return None
    spoken = [phrase, *(anchor for link in links for anchor in link.anchors)]
    plain = len(spoken) == 2 and not any(one.attribute for one in spoken)  # two objects, neither described
    kind = ("relation" if plain else "multi") if links else "position" if position else "attribute"
    if kind == "attribute" and phrase.attribute is None:
        kind = "category"
    return Meaning(kind, phrase, position, tuple(links))


def _phrase(found: re.Match[str]) -> Phrase:
    attribute = found["attribute"]
    return Phrase(found["category"], _SIZE_WORDS.get(attribute, attribute) if attribute else None)


def _links(text: str) -> Sequence[Link] | None:
    """Return the relations that a sentence ends with; None if it ends otherwise."""
    links: list[Link] = []
    while text:
        word = next((word for word in _LINK_WORDS if text.startswith(f"{word} the ")), None)
        if word is None:
            return None
        text = text[len(word) + 5 :]
        anchors: list[Phrase] = []
        for _ in range(2 if _LINK[word] == "between" else 1):
            if anchors:
                if not text.startswith("and the "):
                    return None
                text = text[8:]
            if not (found := _PHRASE.match(text)):
                return None
            anchors.append(_phrase(found))
            text = text[found.end() :].strip()
        links.append(Link(_LINK[word], tuple(anchors)))
        if text and not text.startswith("and "):
            return None
        text = text.removeprefix("and ")
    return links
