r"""Untrusted text in Markdown, LaTeX and CSV: shown literally, never interpreted. No torch.

Titles, sentences, names and reasons come from files that anyone may have written. Each function here takes such a
text and returns what shows it literally in one format; HTML has `html.escape`. Our own markup is a separate type, see
`rrsis_zoo.tables.formats.Prose`.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

_REPLACED = "�"
_HIDDEN = frozenset(map(chr, (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))))
"""Marks that change the writing direction, which can make a text look like another."""

# an underscore between letters is not markup
_MARKDOWN = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])|(?<=\])\(")
_NUMBERS = re.compile(r"(\[[\d\s.,+−±%-]+\](?![(\[:{]))")  # "[95 %]", "[53.9, 59.3]": not a link
_ENTITY = re.compile(r"&(?=#|\w+;)")
_ADDRESS = re.compile(r"(?i)(?:\b[a-z][a-z0-9+.-]{0,30}:/|\bwww\.)\S*|[^\s@]{1,64}@[^\s@]{1,255}\.[a-z]\S*")
_ADDRESS_SIGNS = re.compile(r"[:/.@]")
# at the start of a line: heading, list, rule, quotation, comment, directive, label
_OPENING = re.compile(r"#{1,6}(?:\s|$)|[+-](?:\s|$)|[+=-]{2}|=$|>|%|:::|\(.*\)=")
_CLOSING = re.compile(r"(?<= )#+$")  # of a heading
_COUNTED = re.compile(r"(\d{1,9})([.)])(?=\s|$)")

_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "[": "{[}",  # at the start of a row it would be an argument of the preceding line break
    "*": "{*}",  # so would this
    "−": "$-$",
    "–": "--",
    "—": "---",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "≈": r"$\approx$",
    "·": r"$\cdot$",
    "→": r"$\to$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "§": r"\S{}",
    "°": r"$^\circ$",
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
    "’": "'",
}

_FORMULA = frozenset("=+-@\t\r＝＋－＠")
"""First characters that make a spreadsheet treat a text as a formula."""


def visible(text: str, kept: str = "") -> str:
    """Return text with control characters, direction marks and lone surrogates replaced by ``�``.

    Args:
        text: any.
        kept: control characters that stay.
    """
    return "".join(
        _REPLACED if c not in kept and (c in _HIDDEN or unicodedata.category(c) in ("Cc", "Cs")) else c for c in text
    )


def one_line(text: str) -> str:
    """Return text in one line: runs of white space become one space, invisible characters are replaced."""
    return visible(" ".join(text.split()))


# -- Markdown ----------------------------------------------------------------------------------------------------------


def markdown(text: str) -> str:
    r"""Return text, in one line, as Markdown that shows it: no link, image, HTML, code, formula, emphasis or new cell.

    It can be used in a paragraph, a list, a heading and a table cell, on GitHub and elsewhere.

    Example:
        >>> markdown("a|b <b> [x](javascript:y)")
        'a\\|b &lt;b> \\[x\\]\\(javascript:y)'
    """
    text = one_line(text)
    parts, end = [], 0
    for address in _ADDRESS.finditer(text):  # GitHub turns bare addresses into links
        parts.append(_markdown_signs(text[end : address.start()]))
        parts.append(_ADDRESS_SIGNS.sub(r"\\\g<0>", _markdown_signs(address[0])))
        end = address.end()
    text = "".join([*parts, _markdown_signs(text[end:])])
    text = _CLOSING.sub(r"\\\g<0>", text)
    text = _COUNTED.sub(r"\1\\\2", text, count=1) if _COUNTED.match(text) else text
    return f"\\{text}" if _OPENING.match(text) else text


def _markdown_signs(text: str) -> str:
    parts = _NUMBERS.split(text)  # every second part is a match
    parts[::2] = [_MARKDOWN.sub(r"\\\g<0>", part) for part in parts[::2]]
    return _ENTITY.sub("&amp;", "".join(parts)).replace("<", "&lt;")


def markdown_code(text: str) -> str:
    """Return text, in one line, as a code span that it cannot break out of; not for table cells."""
    text = one_line(text)
    if not text:
        return ""
    fence = "`" * (1 + _longest_ticks(text))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def markdown_block(text: str, language: str = "") -> str:
    """Return text as a fenced code block that it cannot break out of.

    Args:
        text: any, may have several lines.
        language: of the code; trusted.
    """
    fence = "`" * max(3, 1 + _longest_ticks(text))
    return "\n".join([f"{fence}{language}", visible(text, kept="\n\t"), fence])


def _longest_ticks(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


# -- LaTeX and CSV -----------------------------------------------------------------------------------------------------


def latex(text: str) -> str:
    r"""Return text, in one line, as LaTeX that shows it: no command, comment, formula, group or new cell.

    Example:
        >>> latex(r"50 % of \input{x}")
        '50 \\% of \\textbackslash{}input\\{x\\}'
    """
    return "".join(_TEX.get(character, character) for character in one_line(text))


def csv_text(text: str) -> str:
    """Return a text for a CSV cell, prefixed with an apostrophe if a spreadsheet would evaluate it.

    A cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return is a formula to spreadsheets, which
    may start programs and send the content of other cells; an apostrophe makes it text. Numbers are unchanged, and so
    are line breaks, which the CSV writer quotes.

    Example:
        >>> csv_text("=1+1"), csv_text("-1.5"), csv_text("ship")
        ("'=1+1", '-1.5', 'ship')
    """
    text = visible(text, kept="\n\r\t")
    begins = text[:1] in _FORMULA or text.lstrip()[:1] in _FORMULA
    return f"'{text}" if text and begins and not _is_number(text) else text


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", text) is not None


# -- names -------------------------------------------------------------------------------------------------------------


def slug(name: str) -> str:
    """Return a name that is safe in a file name, a LaTeX label and an HTML address.

    A name of letters, digits, ``.``, ``_`` and ``-`` that begins with a letter or digit is unchanged; in any other name
    the rest is replaced, and a few digits distinguish it from similar ones.

    Example:
        >>> slug("rrsis-d"), slug("../my data").startswith("my-data-")
        ('rrsis-d', True)
    """
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        return name
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:60].strip("-._")
    digits = hashlib.sha256(name.encode("utf-8", errors="replace")).hexdigest()[:6]
    return f"{kept}-{digits}" if kept else digits
