"""Sentences as the readers accept them: valid characters, a plausible length, one normal form. No torch."""

from __future__ import annotations

import re
import unicodedata

from rrsis_zoo.errors import DataFormatError

LONGEST = 10_000
"""Most characters of a sentence; RISBench's longest have about 200."""


def sentence(text: str, where: str) -> str:
    """Return a sentence stripped at both ends, in Unicode NFC; inner spaces and case are kept.

    Args:
        text: as in the file.
        where: file and place, for errors.

    Raises:
        DataFormatError: implausibly long, or lone surrogates (see `characters`).
    """
    if len(text) > LONGEST:
        raise DataFormatError(f"{where}: the sentence has {len(text):,} characters; at most {LONGEST:,} are read")
    # a byte order mark is left where files were joined
    return unicodedata.normalize("NFC", characters(text, where).strip().removeprefix("\ufeff").strip())


def characters(text: str, where: str) -> str:
    """Return a text that can be written anywhere: surrogate pairs become one character.

    JSON and pickles can contain a lone surrogate, which no file, terminal or tokenizer accepts.

    Raises:
        DataFormatError: a lone surrogate.
    """
    if text.isascii():
        return text
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as cause:
        half = next(c for c in text[cause.start // 2 :] if "\ud800" <= c <= "\udfff")
        raise DataFormatError(
            f"{where}: contains half a character (the lone surrogate U+{ord(half):04X}), which cannot be encoded; "
            "correct the text"
        ) from cause


def visible(text: str) -> str:
    """Return a text as one line for a terminal, with control characters escaped, so that none takes effect."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def has_control(text: str) -> bool:
    """Return whether a text contains control characters: tabs, line breaks, NUL, marks of writing direction."""
    return _CONTROL.search(text) is not None


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
