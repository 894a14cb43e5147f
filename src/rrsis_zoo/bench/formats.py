"""A table and its four forms: Markdown, CSV, LaTeX (booktabs) and HTML. No torch.

The three forms for people hold rounded text, marks and notes; the CSV holds every value to ten digits, with the ends of
its interval, its deviation and its mark in columns of their own, and what the numbers depend on in every row.
"""

from __future__ import annotations

import csv
import html
import io
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Mark = Literal["", "best", "tied", "second"]
"""``best``: told from all others, the only one in bold; ``tied``: cannot be told from the highest; ``second``."""

_LONG = 45  # rows that still fit on a page of LaTeX
_WIDE = 6  # columns that still fit into one of two columns of a page
_HEX = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b")
_INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*")


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: as people read it; what is missing says why (``not run``, ``failed``).
        value: the number behind it in the column's unit, not rounded; None where there is none.
        mark: see ``Mark``.
        detail: what follows the text in smaller type, such as spread and interval.
        low, high: ends of the value's interval.
        deviation: standard deviation over trainings.
    """

    text: str
    value: float | None = None
    mark: Mark = ""
    detail: str = ""
    low: float | None = None
    high: float | None = None
    deviation: float | None = None


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        key: its name in the CSV.
        title: its name for people.
        numeric: whether it is set to the right.
    """

    key: str
    title: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A table with all that a reader must know of it.

    Attributes:
        name: short name, also of its files; letters, digits and ``-``.
        title: one line, above.
        caption: what it shows; `` `code` `` and ``**bold**`` are rendered.
        columns: C.
        rows: each of C cells.
        notes: sentences below it.
        provenance: what the numbers depend on (protocol, split, N, …), name -> text.
    """

    name: str
    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"{self.name}: a row does not have {len(self.columns)} cells")

    def said(self) -> str:
        """Return the provenance as a line, hashes cut to 12 digits."""
        return _HEX.sub(r"\1", "; ".join(f"{name} {text}" for name, text in self.provenance.items()))

    def markdown(self) -> str:
        """Return the table for a page."""
        lines = [f"## {self.title}", "", _bar(_plain_pipe(c.title) for c in self.columns)]
        lines.append("|" + "|".join("---:" if c.numeric else "---" for c in self.columns) + "|")
        lines += [_bar(_markdown_cell(cell) for cell in row) for row in self.rows]
        lines.append("")
        if self.notes:
            lines += [*(f"* {_one_line(note)}" for note in self.notes), ""]
        lines += [_one_line(text) + "\n" for text in (self.caption, self.said()) if text]
        return "\n".join(lines)

    def csv(self) -> str:
        """Return all values as comma-separated text with a header."""
        extra = [_extra(i, self.rows) for i in range(len(self.columns))]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        header = [name for c, parts in zip(self.columns, extra, strict=True) for name in (c.key, *_keys(c.key, parts))]
        writer.writerow([*header, *(name.replace(" ", "_") for name in self.provenance)])
        for row in self.rows:
            line = []
            for cell, parts in zip(row, extra, strict=True):
                line += [cell.text if cell.value is None else exact(cell.value)]
                line += [_part(cell, part) for part in parts]
            writer.writerow([*line, *self.provenance.values()])
        return out.getvalue()

    def latex(self) -> str:
        """Return a table environment for a paper; it needs the package booktabs, and longtable where it is long."""
        long, env = len(self.rows) > _LONG, "table*" if len(self.columns) > _WIDE else "table"
        spec = "@{}" + "".join("r" if c.numeric else "l" for c in self.columns) + "@{}"
        head = " & ".join(_latex_head(c) for c in self.columns) + r" \\"
        body = [" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in self.rows]
        caption = " ".join(text for text in (f"{self.title}.", _one_line(self.caption)) if text)
        title = rf"\caption{{{_latex_prose(caption)}}}\label{{tab:{self.name}}}"
        below = [_latex_prose(_one_line(text)) + r"\par" for text in (*self.notes, self.said()) if text]
        notes = [r"{\footnotesize\raggedright", *below, "}"] if below else []
        setting = [r"\small", r"\setlength{\tabcolsep}{4pt}"]
        if long:
            parts = [r"\begingroup", *setting, rf"\begin{{longtable}}{{{spec}}}", title + r"\\", r"\toprule", head]
            parts += [r"\midrule", r"\endhead", *body, r"\bottomrule", r"\end{longtable}", *notes, r"\endgroup"]
        else:
            parts = [rf"\begin{{{env}}}[t]", r"\centering", *setting, title, rf"\begin{{tabular}}{{{spec}}}"]
            parts += [
                r"\toprule",
                head,
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\par\smallskip",
                *notes,
            ]
            parts.append(rf"\end{{{env}}}")
        packages = "booktabs,longtable" if long else "booktabs"
        return "\n".join([rf"% \usepackage{{{packages}}}", *parts, ""])

    def html(self) -> str:
        """Return a fragment: a ``section`` of class ``table`` that needs no style; ``data-value`` holds full values."""
        e = html.escape
        lines = [f'<section class="table" id="table-{e(self.name)}">', f"<h2>{e(self.title)}</h2>"]
        lines += ['<div class="scroll"><table>', "<thead><tr>"]
        lines += [f'<th scope="col"{_html_class(c)}>{e(c.title)}</th>' for c in self.columns]
        lines += ["</tr></thead>", "<tbody>"]
        for row in self.rows:
            first = _html_cell(row[0], self.columns[0], first=True)
            others = [_html_cell(cell, c) for cell, c in zip(row[1:], self.columns[1:], strict=True)]
            lines.append(f"<tr>{''.join([first, *others])}</tr>")
        lines += ["</tbody>", "</table></div>"]
        if self.notes:
            lines += ['<ul class="notes">', *(f"<li>{_html_prose(note)}</li>" for note in self.notes), "</ul>"]
        if self.caption:
            lines.append(f'<p class="caption">{_html_prose(_one_line(self.caption))}</p>')
        if self.provenance:
            lines.append(f'<p class="provenance">{_html_prose(self.said())}</p>')
        return "\n".join([*lines, "</section>", ""])


def number(value: float, digits: int, sign: bool = False) -> str:
    """Return a number as people read it, with a true minus sign; ``sign``: also with a plus."""
    return f"{value:{'+' if sign else ''},.{digits}f}".replace("-", "−")


def exact(value: float) -> str:
    """Return a value to ten digits, an integer whole."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.10g}"


def millions(count: float) -> Cell:
    """Return the cell of a number of parameters."""
    return Cell(f"{number(count / 1e6, 2 if count < 1e7 else 1)} M", float(count))


# -- CSV ---------------------------------------------------------------------------------------------------------------


def _extra(column: int, rows: Sequence[Sequence[Cell]]) -> list[str]:
    """Return which parts of a column's cells have to be written beside the value."""
    cells = [row[column] for row in rows]
    parts = ["deviation", "low", "high"]
    found = [part for part in parts if any(getattr(cell, part) is not None for cell in cells)]
    return found + (["mark"] if any(cell.mark for cell in cells) else [])


def _keys(key: str, parts: Sequence[str]) -> list[str]:
    return [f"{key}_{part}" for part in parts]


def _part(cell: Cell, part: str) -> str:
    value = getattr(cell, part)
    return value if isinstance(value, str) else "" if value is None else exact(value)


# -- Markdown ----------------------------------------------------------------------------------------------------------


def _bar(texts: Iterable[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def _plain_pipe(text: str) -> str:
    return _one_line(text).replace("|", r"\|").replace("<", "&lt;")


def _markdown_cell(cell: Cell) -> str:
    text = _plain_pipe(cell.text)
    marked = {"": text, "best": f"**{text}**", "tied": f"*{text}*", "second": f"<ins>{text}</ins>"}[cell.mark]
    return f"{marked} {_plain_pipe(cell.detail)}".strip()


def _one_line(text: str) -> str:
    return " ".join(text.split())


# -- LaTeX -------------------------------------------------------------------------------------------------------------

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
    "[": "{[}",  # at the start of a row it would be an argument of the line break before it
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
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
    "’": "'",
}


def _latex(text: str) -> str:
    """Escape plain text."""
    return "".join(_TEX.get(character, character) for character in text)


def _latex_prose(text: str) -> str:
    return _rendered(text, _latex, r"\texttt{%s}", r"\textbf{%s}")


def _latex_cell(cell: Cell) -> str:
    text = _latex(_one_line(cell.text))
    marked = {"": "%s", "best": r"\textbf{%s}", "tied": r"\emph{%s}", "second": r"\underline{%s}"}[cell.mark] % text
    return marked + (rf" {{\scriptsize {_latex(cell.detail)}}}" if cell.detail else "")


def _latex_head(column: Column) -> str:
    """Break a long title into lines: columns are as wide as their numbers."""
    lines = textwrap.wrap(column.title, 16, break_long_words=False) or [""]
    if len(lines) == 1:
        return _latex(lines[0])
    side, broken = "r" if column.numeric else "l", r"\\".join(map(_latex, lines))
    return rf"\shortstack[{side}]{{{broken}}}"


# -- HTML --------------------------------------------------------------------------------------------------------------


def _html_class(column: Column) -> str:
    return ' class="number"' if column.numeric else ""


def _html_cell(cell: Cell, column: Column, first: bool = False) -> str:
    text = html.escape(cell.text)
    marked = {
        "": text,
        "best": f'<strong class="best">{text}</strong>',
        "tied": f'<em class="tied">{text}</em>',
        "second": f'<u class="second">{text}</u>',
    }[cell.mark]
    if cell.detail:
        marked += f' <small class="detail">{html.escape(cell.detail)}</small>'
    value = "" if cell.value is None else f' data-value="{exact(cell.value)}"'
    tag, scope = ("th", ' scope="row"') if first else ("td", "")
    return f"<{tag}{scope}{_html_class(column)}{value}>{marked}</{tag}>"


def _html_prose(text: str) -> str:
    return _rendered(text, html.escape, "<code>%s</code>", "<strong>%s</strong>")


# -- prose -------------------------------------------------------------------------------------------------------------


def _rendered(text: str, escape: Callable[[str], str], code: str, bold: str) -> str:
    """Return text with its `` `code` `` and ``**bold**`` in another language, everything else escaped."""
    parts, end = [], 0
    for found in _INLINE.finditer(text):
        parts.append(escape(text[end : found.start()]))
        parts.append(code % escape(found[1]) if found[1] is not None else bold % escape(found[2]))
        end = found.end()
    return "".join([*parts, escape(text[end:])])
