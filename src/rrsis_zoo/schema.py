"""Schemas of files from elsewhere: strict pydantic models, and errors that name file and field. No torch.

Every kind of file that is read has one schema. It subclasses `Strict`; further fields are ignored, so that a later
version may add some, and no value is converted: ``"12"``, ``12.0`` and ``true`` are not 12.
A JSON list is a ``list``; one of fixed length is ``Annotated[list[int], Field(min_length=2, max_length=2)]``.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError

from rrsis_zoo.errors import DataFormatError, RRSISError

T = TypeVar("T")

_SHOWN = 3


def _characters(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as cause:
        raise ValueError("it contains half a character (a lone surrogate)") from cause
    return text


Text = Annotated[str, AfterValidator(_characters)]
"""A string that can be encoded as UTF-8: without lone surrogates, which JSON escapes can contain."""


class Strict(BaseModel):
    """Base of schemas: nothing is converted, further fields are ignored, values cannot be set."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


def checked(
    schema: type[T] | TypeAdapter[T],
    content: Any,
    what: str,
    error: type[RRSISError] = DataFormatError,
    advice: str = "",
) -> T:
    """Return content validated by a schema.

    Args:
        schema: a subclass of `Strict`, or an adapter of another type.
        content: plain JSON values.
        what: the file (and line) they are from, for error messages.
        error: what is raised.
        advice: how to fix it, appended to the message.

    Raises:
        error: a field is missing, or has a value of another type or out of range; the first few are named.
    """
    try:
        if isinstance(schema, TypeAdapter):
            return schema.validate_python(content)
        return schema.model_validate(content)  # type: ignore[attr-defined]
    except (ValidationError, RecursionError) as cause:
        raise error(f"{what}: {_faults(cause)}{f'; {advice}' if advice else ''}") from cause


def _faults(cause: ValidationError | RecursionError) -> str:
    if isinstance(cause, RecursionError):
        return "it is nested too deeply"
    faults = cause.errors(include_url=False, include_context=False)
    named = [f"{'.'.join(map(str, f['loc'])) or 'the content'}: {_message(f)}" for f in faults[:_SHOWN]]
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return "; ".join(named) + more


def _message(fault: Any) -> str:
    if fault["type"] == "value_error":  # from a validator of a schema, which has named the value
        return fault["msg"].removeprefix("Value error, ")
    return f"{fault['msg']}, got {_short(fault)}"


def _short(fault: Any) -> str:
    if fault["type"] == "missing":
        return "nothing"
    text = repr(fault["input"])
    return text if len(text) <= 60 else f"{text[:57]}…"
