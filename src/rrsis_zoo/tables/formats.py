"""A table and its four forms: Markdown, CSV, LaTeX (booktabs) and HTML. No torch.

The three readable forms hold rounded numbers, marks, footnotes and notes; the CSV holds every value to ten digits, with
interval, deviation and mark in separate columns, and the provenance of the numbers in every row.

Texts may come from outside, so every form shows them literally (`rrsis_zoo.escape`), except for those of the type
`Prose`, which `prose` and `caption` make.
"""

from __future__ import annotations

import csv
import html
import io
import re
import string
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

from rrsis_zoo import escape
from rrsis_zoo.shown import short_repr

Mark = Literal["", "best", "tied", "second"]
"""``best``: significantly above all others, the only one in bold; ``tied``: not significantly below the highest."""

_LONG = 45  # rows that still fit on a page of LaTeX
_WIDE = 6  # columns that still fit into one of two columns of a page
_HEX = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b")

# -- text --------------------------------------------------------------------------------------------------------------

_INLINE = re.compile(r"`([^`]+)`|\*\*(?=\S)([^*]+)(?<=\S)\*\*|(?<![\w*])\*(?=\S)([^*]+)(?<=\S)\*(?![\w*])")
_KINDS = ("code", "bold", "italic")

Kind = Literal["plain", "ours", "code", "bold", "italic"]
"""``ours`` keeps the special characters of a form; every other kind is shown literally."""


class Span(NamedTuple):
    """A part of a text, of one kind."""

    kind: Kind
    text: str


class Prose(str):
    """A text with known markup and known origin of its parts. As a ``str`` it includes the markup characters.

    Slices and concatenations are plain text again, and shown literally.

    Attributes:
        spans: its parts in order.
    """

    spans: tuple[Span, ...]

    def __new__(cls, text: str, spans: Iterable[Span]) -> Self:
        """Make it from the text as a ``str``, and its spans."""
        made = super().__new__(cls, text)
        made.spans = tuple(spans)
        return made


def prose(template: str, **texts: object) -> Prose:
    """Return a text of this program with other texts inserted.

    Args:
        template: a constant of this program, with the markup `` `code` ``, ``**bold**`` and ``*italic*``, and
            ``{name}`` in place of a text.
        **texts: name -> text, which is always shown literally.
    """
    spans: list[Span] = []
    for kind, part in _inline(template, "ours"):
        if kind != "ours":
            spans.append(Span(kind, part.format(**texts)))
            continue
        for literal, name, _, _ in string.Formatter().parse(part):
            if literal:
                spans.append(Span("ours", literal))
            if name is not None:
                spans.append(Span("plain", str(texts[name])))
    return Prose(template.format(**texts), spans)


def caption(text: str) -> Prose:
    """Return a text from outside whose only markup is `` `code` ``, ``**bold**`` and ``*italic*``."""
    return Prose(text, _inline(text, "plain"))


def _inline(text: str, between: Literal["plain", "ours"]) -> Iterator[Span]:
    end = 0
    for match in _INLINE.finditer(text):
        yield Span(between, text[end : match.start()])
        yield next(Span(kind, group) for kind, group in zip(_KINDS, match.groups(), strict=True) if group is not None)
        end = match.end()
    yield Span(between, text[end:])


@dataclass(frozen=True)
class _Form:
    """How one form shows the spans of a text."""

    plain: Callable[[str], str]
    ours: Callable[[str], str]
    code: Callable[[str], str]
    bold: str
    italic: str

    def show(self, text: str) -> str:
        """Return a text in one line."""
        spans = text.spans if isinstance(text, Prose) else (Span("plain", text),)
        return "".join(map(self._span, spans)).strip()

    def _span(self, span: Span) -> str:
        kind, text = span
        if kind == "code":
            return self.code(text)
        if kind in ("bold", "italic"):
            return (self.bold if kind == "bold" else self.italic) % self.plain(text)
        inner = (self.ours if kind == "ours" else self.plain)(text)
        if not inner:
            return " " if text else ""
        return f"{' ' * text[0].isspace()}{inner}{' ' * text[-1].isspace()}"


# -- tables ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Footnote:
    """What must be known about a cell or a column; its text stands below the table.

    Attributes:
        sign: at the cell, and before the text.
        level: one word for the CSV (`rrsis_zoo.leakage.levels.Level`).
        text: sentences.
        warns: whether the cell must not be ranked.
    """

    sign: str
    level: str
    text: str
    warns: bool


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: for the readable forms; in place of a missing number the reason (``not run``, ``failed``).
        value: its number in the column's unit, not rounded; None if there is none.
        mark: see ``Mark``.
        detail: shown after the text in smaller type, such as spread and interval.
        low, high: ends of the value's interval.
        deviation: standard deviation over training runs.
        footnote: what must be known about it.
    """

    text: str
    value: float | None = None
    mark: Mark = ""
    detail: str = ""
    low: float | None = None
    high: float | None = None
    deviation: float | None = None
    footnote: Footnote | None = None


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        key: its name in the CSV.
        title: its name in the other forms.
        numeric: whether it is aligned to the right.
        footnote: what must be known about all of its cells.
    """

    key: str
    title: str
    numeric: bool = True
    footnote: Footnote | None = None


@dataclass(frozen=True)
class Table:
    """A table with everything that a reader needs to know about it.

    Attributes:
        name: short name, also of its files: letters, digits, ``-``, ``.`` and ``_`` (`rrsis_zoo.escape.slug`).
        title: one line, above.
        caption: what it shows; a plain ``str`` is passed through `caption`.
        columns: C.
        rows: each of C cells.
        notes: sentences below it, after the footnotes.
        provenance: what the numbers depend on (protocol, split, N, …), name -> text.
    """

    name: str
    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if self.name != escape.slug(self.name):
            raise ValueError(f"{self.name!r} is not a valid table name; {escape.slug(self.name)!r} is")
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"{self.name}: a row does not have {len(self.columns)} cells")

    def _caption(self) -> Prose:
        return self.caption if isinstance(self.caption, Prose) else caption(self.caption)

    @property
    def footnotes(self) -> list[Footnote]:
        """The footnotes of its cells and columns, without repetitions, those that warn first."""
        found = [cell.footnote for row in self.rows for cell in row] + [column.footnote for column in self.columns]
        known = list(dict.fromkeys(note for note in found if note is not None))
        return sorted(known, key=lambda note: (not note.warns, note.sign == "°"))

    def remarks(self) -> list[str]:
        """Return everything that stands below it: its footnotes, each with its sign, and its notes."""
        return [*(f"{note.sign} {note.text}" for note in self.footnotes), *self.notes]

    def provenance_line(self) -> str:
        """Return the provenance as one line, with hashes shortened to 12 digits."""
        return _HEX.sub(r"\1", "; ".join(f"{name} {text}" for name, text in self.provenance.items()))

    def markdown(self) -> str:
        """Return the table as Markdown."""
        show = _MARKDOWN.show
        lines = [f"## {show(self.title)}", "", _bar(map(_markdown_head, self.columns))]
        lines.append("|" + "|".join("---:" if c.numeric else "---" for c in self.columns) + "|")
        lines += [_bar(_markdown_cell(cell) for cell in row) for row in self.rows]
        lines.append("")
        if remarks := self.remarks():
            lines += [*(f"* {show(note)}" for note in remarks), ""]
        lines += [show(text) + "\n" for text in (self._caption(), self.provenance_line()) if text]
        return "\n".join(lines)

    def csv(self) -> str:
        """Return all values as comma-separated text with a header.

        A cell with a footnote has its level in a column ``KEY_leakage``; the evidence of a row's footnotes is in
        ``leakage``.
        """
        extra = [_extra(i, column, self.rows) for i, column in enumerate(self.columns)]
        evidence = [_HEADING] if self.footnotes else []
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        header = [name for c, parts in zip(self.columns, extra, strict=True) for name in (c.key, *_keys(c.key, parts))]
        header += [*evidence, *(name.replace(" ", "_") for name in self.provenance)]
        writer.writerow(map(escape.csv_text, header))
        for row in self.rows:
            line = []
            for cell, column, parts in zip(row, self.columns, extra, strict=True):
                line += [escape.csv_text(cell.text) if cell.value is None else exact(cell.value)]
                line += [_part(cell, column, part) for part in parts]
            line += [escape.csv_text(_evidence(row, self.columns))] * len(evidence)
            writer.writerow([*line, *map(escape.csv_text, self.provenance.values())])
        return out.getvalue()

    def latex(self) -> str:
        """Return a table environment for LaTeX; it needs the package booktabs, and longtable if it is long."""
        long, env = len(self.rows) > _LONG, "table*" if len(self.columns) > _WIDE else "table"
        spec = "@{}" + "".join("r" if c.numeric else "l" for c in self.columns) + "@{}"
        head = " & ".join(_latex_head(c) for c in self.columns) + r" \\"
        body = [" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in self.rows]
        show = _LATEX.show
        text = " ".join(text for text in (f"{show(self.title)}.", show(self._caption())) if text)
        title = rf"\caption{{{text}}}\label{{tab:{self.name}}}"
        below = [show(text) + r"\par" for text in (*self.remarks(), self.provenance_line()) if text]
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
        """Return a fragment: a ``section`` of class ``table`` that needs no CSS; ``data-value`` holds full values."""
        show = _HTML.show
        lines = [f'<section class="table" id="table-{self.name}">', f"<h2>{show(self.title)}</h2>", self.html_rows()]
        if remarks := self.remarks():
            lines += ['<ul class="notes">', *(f"<li>{show(note)}</li>" for note in remarks), "</ul>"]
        if self.caption:
            lines.append(f'<p class="caption">{show(self._caption())}</p>')
        if self.provenance:
            lines.append(f'<p class="provenance">{show(self.provenance_line())}</p>')
        return "\n".join([*lines, "</section>", ""])

    def html_rows(self) -> str:
        """Return the rows with their header alone, as `html` has them."""
        lines = ['<div class="scroll"><table>', "<thead><tr>"]
        lines += [
            f'<th scope="col"{_html_class(c)}>{_HTML.show(c.title)}{_html_sign(c.footnote)}</th>' for c in self.columns
        ]
        lines += ["</tr></thead>", "<tbody>"]
        for row in self.rows:
            first = _html_cell(row[0], self.columns[0], first=True)
            others = [_html_cell(cell, c) for cell, c in zip(row[1:], self.columns[1:], strict=True)]
            lines.append(f"<tr>{''.join([first, *others])}</tr>")
        return "\n".join([*lines, "</tbody>", "</table></div>"])


def number(value: float, digits: int, sign: bool = False) -> str:
    """Return a number as readable text, with a true minus sign; with ``sign`` also a plus sign."""
    return f"{value:{'+' if sign else ''},.{digits}f}".replace("-", "−")


def exact(value: float) -> str:
    """Return a value to ten digits, an integer in full."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.10g}"


def millions(count: float) -> Cell:
    """Return the cell of a number of parameters."""
    return Cell(f"{number(count / 1e6, 2 if count < 1e7 else 1)} M", float(count))


# -- CSV ---------------------------------------------------------------------------------------------------------------


_LEAKAGE = "leakage"
_HEADING = "leakage"
"""Header of the evidence; no column of a table has this key."""


def _extra(place: int, column: Column, rows: Sequence[Sequence[Cell]]) -> list[str]:
    """Return which parts of a column's cells must be written in addition to the value."""
    cells = [row[place] for row in rows]
    parts = ["deviation", "low", "high"]
    needed = [part for part in parts if any(getattr(cell, part) is not None for cell in cells)]
    needed += ["mark"] if any(cell.mark for cell in cells) else []
    noted = column.footnote is not None or any(cell.footnote is not None for cell in cells)
    return needed + ([_LEAKAGE] if noted else [])


def _keys(key: str, parts: Sequence[str]) -> list[str]:
    return [f"{key}_{part}" for part in parts]


def _part(cell: Cell, column: Column, part: str) -> str:
    if part == _LEAKAGE:
        note = cell.footnote or column.footnote
        return "" if note is None else note.level
    value = getattr(cell, part)
    return value if isinstance(value, str) else "" if value is None else exact(value)


def _evidence(row: Sequence[Cell], columns: Sequence[Column]) -> str:
    """Return the texts of all footnotes of a row."""
    found = [cell.footnote or column.footnote for cell, column in zip(row, columns, strict=True)]
    return " | ".join(dict.fromkeys(note.text for note in found if note is not None))


# -- Markdown ----------------------------------------------------------------------------------------------------------


def _bar(texts: Iterable[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def _markdown_cell(cell: Cell) -> str:
    text = _MARKDOWN_CELL.show(cell.text)
    marked = {"": text, "best": f"**{text}**", "tied": f"*{text}*", "second": f"<ins>{text}</ins>"}[cell.mark]
    return f"{marked}{_markdown_sign(cell.footnote)} {_MARKDOWN_CELL.show(cell.detail)}".strip()


def _markdown_head(column: Column) -> str:
    return _MARKDOWN_CELL.show(column.title) + _markdown_sign(column.footnote)


def _markdown_sign(note: Footnote | None) -> str:
    """Return a sign as it can also be read in a terminal: no tags."""
    return "" if note is None else f" {note.sign}"


def _in_cell(text: str) -> str:
    return escape.one_line(text).replace("|", r"\|").replace("<", "&lt;")


_MARKDOWN = _Form(escape.markdown, escape.one_line, escape.markdown_code, "**%s**", "*%s*")
# a vertical bar ends a cell even inside code
_MARKDOWN_CELL = _Form(escape.markdown, _in_cell, escape.markdown, "**%s**", "*%s*")


# -- LaTeX -------------------------------------------------------------------------------------------------------------

_LATEX = _Form(
    escape.latex, escape.latex, lambda text: rf"\texttt{{{escape.latex(text)}}}", r"\textbf{%s}", r"\emph{%s}"
)


def _latex_cell(cell: Cell) -> str:
    text = _LATEX.show(cell.text)
    marked = {"": "%s", "best": r"\textbf{%s}", "tied": r"\emph{%s}", "second": r"\underline{%s}"}[cell.mark] % text
    marked += _latex_sign(cell.footnote)
    return marked + (rf" {{\scriptsize {_LATEX.show(cell.detail)}}}" if cell.detail else "")


def _latex_sign(note: Footnote | None) -> str:
    return "" if note is None else rf"\textsuperscript{{{escape.latex(note.sign)}}}"


def _latex_head(column: Column) -> str:
    """Break a long title into lines, so that columns are only as wide as their numbers."""
    lines = textwrap.wrap(column.title, 16, break_long_words=False) or [""]
    sign = _latex_sign(column.footnote)
    if len(lines) == 1:
        return escape.latex(lines[0]) + sign
    side, broken = "r" if column.numeric else "l", r"\\".join(map(escape.latex, lines)) + sign
    return rf"\shortstack[{side}]{{{broken}}}"


# -- HTML --------------------------------------------------------------------------------------------------------------


def _html_class(column: Column) -> str:
    return ' class="number"' if column.numeric else ""


def _html_cell(cell: Cell, column: Column, first: bool = False) -> str:
    text = _HTML.show(cell.text)
    marked = {
        "": text,
        "best": f'<strong class="best">{text}</strong>',
        "tied": f'<em class="tied">{text}</em>',
        "second": f'<u class="second">{text}</u>',
    }[cell.mark]
    marked += _html_sign(cell.footnote)
    if cell.detail:
        marked += f' <small class="detail">{_HTML.show(cell.detail)}</small>'
    value = "" if cell.value is None else f' data-value="{exact(cell.value)}"'
    tag, scope = ("th", ' scope="row"') if first else ("td", "")
    return f"<{tag}{scope}{_html_class(column)}{value}>{marked}</{tag}>"


def _html_sign(note: Footnote | None) -> str:
    if note is None:
        return ""
    kind = "warns" if note.warns else "says"
    return f'<sup class="leakage {kind}" title="{_html(note.text)}">{_html(note.sign)}</sup>'


def _html(text: str) -> str:
    return html.escape(escape.one_line(text))


_HTML = _Form(_html, _html, lambda text: f"<code>{_html(text)}</code>", "<strong>%s</strong>", "<em>%s</em>")


def html_prose(text: str) -> str:
    """Return a text as HTML; only `Prose` has markup."""
    return _HTML.show(text)
