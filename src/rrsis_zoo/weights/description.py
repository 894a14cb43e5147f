"""What our files say of a model besides its tensors: one schema for checkpoints and folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field
from torch import Tensor

from rrsis_zoo.errors import WeightsMismatchError, unknown_name
from rrsis_zoo.registry import MODELS
from rrsis_zoo.schema import Strict, checked

FORMAT = 1


class _Format(Strict):
    format: int


class _Provenance(Strict):
    """What a conversion wrote down; it goes into the card."""

    source: str
    sha256: dict[str, str]
    release: str | None = None
    dtypes: list[str]
    report: str
    converted_by: str
    saved_again: bool = False


class _Tokenizer(Strict):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: Tensor
    max_length: int = Field(ge=1)


class _Meta(Strict):
    format: int
    version: str = ""
    model: str
    config: dict[str, Any]
    tokenizer: _Tokenizer | None
    provenance: _Provenance | None = None


class TokenizerFiles(Strict):
    """What a folder's ``config.json`` says of its tokenizer."""

    files: list[str]


def check_format(content: Any, what: str) -> None:
    """Refuse a description of another version.

    Raises:
        WeightsMismatchError: see there.
    """
    said = checked(_Format, content, what, WeightsMismatchError)
    if said.format != FORMAT:
        raise WeightsMismatchError(f"{what} has format {said.format!r}; this version reads format {FORMAT}")


def checked_meta(content: Any, what: str) -> dict[str, Any]:
    """Return the description of a model (`rrsis_zoo.weights.checkpoints.meta`), its structure looked at.

    Args:
        content: plain values; the tokenizer's files as uint8 tensors of their bytes.
        what: where it is from, as an error says it.

    Raises:
        WeightsMismatchError: a missing or wrong field, another version's format, or an unknown method.
    """
    check_format(content, what)
    said = checked(_Meta, content, what, WeightsMismatchError)
    if said.model not in MODELS:
        raise WeightsMismatchError(f"{what}: {unknown_name('model', said.model, MODELS)}")
    return dict(content) if isinstance(content, Mapping) else {}
