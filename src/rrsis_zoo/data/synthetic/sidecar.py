"""The sidecar ``synthetic.json`` of a synthetic dataset, as it is read back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from rrsis_zoo.data.cards import Split
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.files import read_json
from rrsis_zoo.schema import Strict, checked

Number = Annotated[int, Field(ge=0, lt=2**53)]
S = TypeVar("S", bound=Strict)


class Made(Strict):
    """How it was generated: all that is read from another generator version."""

    version: int
    layout: str = "rrsis-d"


class Content(Strict):
    """An object of a scene, as far as the reader needs it."""

    category: str


class Sentence(Strict):
    """An expression, as far as the reader needs it."""

    ref_id: Number
    kind: str


class Contents(Strict):
    """The categories of all objects of a scene."""

    file_name: str
    objects: list[Content]


class Readings(Strict):
    """What the reader takes from it: the kinds of all expressions, and what occurs in every scene."""

    expressions: list[Sentence]
    images: list[Contents] = Field(default_factory=list)


class Code(Strict):
    """A mask as run lengths."""

    size: Annotated[list[int], Field(min_length=2, max_length=2)]
    counts: str


class Thing(Strict):
    """An object of a scene."""

    bbox: Annotated[list[int], Field(min_length=4, max_length=4)]
    segmentation: Code


class Picture(Strict):
    """A scene."""

    id: Number
    file_name: str
    split: Split
    objects: list[Thing]


class Said(Sentence):
    """An expression with what it is about."""

    image_id: Number
    text: str
    referent: Number


class Drawn(Strict):
    """All that a contact sheet shows."""

    layout: str = "rrsis-d"
    size: Annotated[int, Field(ge=1, le=1024)]
    images: list[Picture]
    expressions: list[Said]


def read_sidecar(path: Path) -> Any:
    """Return the content of a sidecar as plain values.

    Raises:
        MissingDataError: there is none.
        DataFormatError: not JSON.
    """
    try:
        return read_json(path)
    except DataFormatError as cause:
        raise DataFormatError(f"{cause}; {_AGAIN}") from cause


def part(schema: type[S], content: Any, path: Path) -> S:
    """Return the part of a sidecar's content that a schema describes.

    Raises:
        DataFormatError: it is missing, or does not match the schema.
    """
    return checked(schema, content, str(path), advice=_AGAIN)


_AGAIN = "remove its folder to generate it again"
