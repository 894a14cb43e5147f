"""The description of a model in our files, besides its tensors: one schema for checkpoints and folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field
from torch import Tensor

from rrsis_zoo.errors import WeightsMismatchError
from rrsis_zoo.schema import Strict, checked

FORMAT = 1


class _Format(Strict):
    format: int


class _Provenance(Strict):
    """The record of a conversion; it goes into the card."""

    source: str
    sha256: dict[str, str]
    release: str | None = None
    dtypes: list[str]
    report: str
    converted_by: str
    saved_again: bool = False


class _Tokenizer(Strict):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: Tensor | None = None  # a tokenizer without a file has none
    max_length: int = Field(ge=1)


class _Foundations(Strict):
    """Where the entries come from that a file leaves out, see `rrsis_zoo.pretrained.trained`."""

    sources: dict[str, str]
    sha256: str


class _Meta(Strict):
    format: int
    version: str = ""
    model: str
    config: dict[str, Any]
    tokenizer: _Tokenizer | None
    provenance: _Provenance | None = None
    foundations: _Foundations | None = None


class TokenizerFiles(Strict):
    """The tokenizer in a folder's ``config.json``."""

    files: list[str]


def check_format(content: Any, what: str) -> None:
    """Refuse a description in another version's format.

    Raises:
        WeightsMismatchError: the format is missing, or another one.
    """
    written = checked(_Format, content, what, WeightsMismatchError).format
    if written != FORMAT:
        raise WeightsMismatchError(f"{what} has format {written!r}; this version reads format {FORMAT}")


def checked_meta(content: Any, what: str) -> dict[str, Any]:
    """Check the structure of a model's description (`rrsis_zoo.models.hub.HubModel.description`) and return it.

    Args:
        content: plain values; the bytes of the tokenizer's files as uint8 tensors.
        what: where it comes from, for error messages.

    Raises:
        WeightsMismatchError: a missing or wrong field, or another version's format.
    """
    check_format(content, what)
    checked(_Meta, content, what, WeightsMismatchError)
    return dict(content) if isinstance(content, Mapping) else {}
