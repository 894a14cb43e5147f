"""Sentences as the readers take them: characters that exist, of a plausible length, in one normal form. No torch."""

from __future__ import annotations

import unicodedata

from rrsis_zoo.errors import DataFormatError

LONGEST = 10_000
"""Characters that a sentence may have; RISBench's longest have about 200."""


def sentence(text: str, where: str) -> str:
    """Return a sentence stripped of blanks at its ends, in Unicode NFC; inner blanks and letter case stay.

    Args:
        text: as the file has it.
        where: file and place, for errors.

    Raises:
        DataFormatError: implausibly long, or half characters (see `characters`).
    """
    if len(text) > LONGEST:
        raise DataFormatError(f"{where}: a sentence of {len(text):,} characters; at most {LONGEST:,} are read")
    # an UTF-8 mark stands where files were joined
    return unicodedata.normalize("NFC", characters(text, where).strip().removeprefix("\ufeff").strip())


def characters(text: str, where: str) -> str:
    """Return a text that can be written anywhere: the two halves of a character (surrogates) become one.

    JSON and pickles can hold a half alone, which no file, terminal or tokenizer takes.

    Raises:
        DataFormatError: a half alone.
    """
    if text.isascii():
        return text
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as cause:
        half = next(c for c in text[cause.start // 2 :] if "\ud800" <= c <= "\udfff")
        raise DataFormatError(
            f"{where}: holds half a character (the lone surrogate U+{ord(half):04X}), which cannot be written or read; "
            "correct the text"
        ) from cause


def visible(text: str) -> str:
    """Return a text as one line for a terminal: control characters as escapes, so that none of them is obeyed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
