"""What our own files say of the model in them: one schema for each kind of file.

A checkpoint has it under ``rrsis_meta``, a folder in ``config.json``, a file of adapters in its header.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field

from rrsis_zoo.errors import ConfigError, WeightsMismatchError
from rrsis_zoo.registry import MODELS, card
from rrsis_zoo.schema import Strict, Text, checked

FORMAT = 1

PlainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class Provenance(Strict):
    """Where converted weights come from, as `rrsis_zoo.weights.official.convert` writes it."""

    source: Text
    sha256: dict[Text, Text]
    release: Text | None = None
    dtypes: list[Text]
    report: Text
    converted_by: Text
    saved_again: bool = False


class Description(Strict):
    """What every file says of a model."""

    format: int
    model: str
    config: dict[str, Any]


class FolderTokenizer(Strict):
    """A folder's tokenizer: its plain values, and the suffixes of its files."""

    max_length: Annotated[int, Field(ge=1)]
    files: Annotated[list[PlainName], Field(min_length=1, max_length=8)]


class CheckpointDescription(Description):
    """A checkpoint's; the tokenizer is held against what it should be when it is made."""

    tokenizer: dict[str, Any] | None


class FolderDescription(Description):
    """A folder's."""

    tokenizer: FolderTokenizer | None
    provenance: Provenance | None = None


class AdapterDescription(Description):
    """A file of adapters'."""

    base_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


D = TypeVar("D", bound=Description)


def described(schema: type[D], content: Any, what: str) -> D:
    """Return a description that holds what its schema says.

    Args:
        schema: of the kind of file.
        content: as it was read.
        what: the file and where in it, as an error says it.

    Raises:
        WeightsMismatchError: fields that are missing or of another kind; a later version's format; a method that this
            installation does not have.
    """
    found = content.get("format") if isinstance(content, Mapping) else None
    if type(found) is int and found != FORMAT:  # what else it says may be another thing by then
        raise WeightsMismatchError(f"{what} has format {found!r}; this version reads format {FORMAT}")
    said = checked(schema, content, what, WeightsMismatchError)
    if said.model not in MODELS:
        try:
            card(said.model)
        except ConfigError as error:
            raise WeightsMismatchError(f"{what}: {error}") from error
    return said
