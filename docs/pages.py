"""Parts of the site and the README that are made from code: cards, options of commands, sections of other pages.

A page includes one with a comment on a line of its own, which `fill` replaces::

    <!-- made from: card rsrefseg -->      authors, code, licences
    <!-- made from: sizes rsrefseg -->     its presets, trained weights and published results
    <!-- made from: published -->          published results of all methods
    <!-- made from: leakage weights -->    of the leakage ledger: levels, weights, bases, overlaps, splits, sources
    <!-- made from: commands -->           the help of all commands
    <!-- made from: page benchmarks/README.md -->            another page, without its title
    <!-- made from: page README.md: Weights, Overlays -->    some of its sections

Text in, text out, no Sphinx. ``python docs/pages.py`` rewrites the README's table of published results.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from unittest import mock

from rrsis_zoo import cli
from rrsis_zoo.leakage.judge import Finding
from rrsis_zoo.leakage.ledger import Ledger, shipped
from rrsis_zoo.leakage.levels import CONTAMINATED, FOOTNOTED, MEANING, WORDS, Certainty
from rrsis_zoo.leakage.lineage import published_finding
from rrsis_zoo.leakage.text import evidence_text, seen
from rrsis_zoo.methods.registry import card, method_named, methods
from rrsis_zoo.models.card import MethodCard, Score
from rrsis_zoo.weights.catalogue import REPOSITORIES, size_text
from rrsis_zoo.weights.sources import HubSource, parse_source

ROOT = Path(__file__).absolute().parents[1]
REPOSITORY = "https://github.com/rrsis-zoo/rrsis-zoo"
NOTEBOOKS = ROOT / "docs" / "notebooks"
"""Where the notebooks are copied to, because Sphinx reads nothing outside of its folder."""

COMMANDS = {**cli._LIGHTNING, **cli._OTHER}
"""All commands with what they do, in the order of `rrsis --help`."""

_METRICS = {
    "pr@0.5": "Pr@0.5",
    "pr@0.6": "Pr@0.6",
    "pr@0.7": "Pr@0.7",
    "pr@0.8": "Pr@0.8",
    "pr@0.9": "Pr@0.9",
    "oiou": "oIoU",
    "miou": "mIoU",
}


# -- cards -------------------------------------------------------------------------------------------------------------


def card_text(name: str) -> str:
    """Return a method's paper, code, licences and classes."""
    method_card, known = card(name), method_named(name)
    code = f"{method_card.code_licence}, <{method_card.code}>" if method_card.code else method_card.code_licence
    facts = [
        ("name", f"`{name}`"),
        ("published in", method_card.paper),
        ("authors' code", code),
        ("weights", method_card.weights_licence),
        ("torch class", _class(known.model())),
        ("Lightning class", _class(known.module())),
        ("in this repository", f"[methods/{name}](/src/rrsis_zoo/methods/{name})"),
    ]
    return _table(("", ""), facts)


def sizes_text(name: str) -> str:
    """Return a method's presets and what they start from, the authors' trained weights, published results."""
    method_card = card(name)
    parts = ["## Presets", _presets(method_card)]
    if method_card.releases:
        parts += ["## The authors' trained weights", _releases(method_card), _seen(method_card)]
    if method_card.published:
        parts += ["## Published results", published_text(name)]
    return "\n\n".join(parts)


def _class(kind: type) -> str:
    """Return a link to a class in the API reference."""
    return f"{{py:class}}`{kind.__name__} <{kind.__module__}.{kind.__qualname__}>`"


def _presets(method_card: MethodCard) -> str:
    rows = []
    for name, preset in method_card.presets.items():
        sources = [f"{role}: {_weights(text)}" for role, text in preset.weights.items()]
        start = "<br>".join(sources) or "random weights; nothing is downloaded"
        rows.append((f"`{name}`", f"{preset.parameters / 1e6:,.1f} M", f"{preset.trained / 1e6:,.1f} M", start))
    return _table(("preset", "parameters", "trained", "starts from"), rows, numbers=(1, 2))


def _weights(text: str) -> str:
    source = parse_source(text)
    known = REPOSITORIES.get(source.repo) if isinstance(source, HubSource) else None
    return f"`{text}`" + (f" ({known.what}, {size_text(known.bytes)}, {known.licence})" if known else "")


def _releases(method_card: MethodCard) -> str:
    rows = [
        (f"`{method_card.name}/{r.name}`", r.dataset, f"`{r.preset}`", f"`{r.source}:{r.files[0]}`", r.licence)
        for r in method_card.releases
    ]
    fetch = f"```sh\nrrsis models fetch {method_card.name}/{method_card.releases[0].name}\n```"
    return _table(("release", "trained on", "preset", "source", "licence"), rows) + f"\n\n{fetch}"


def _seen(method_card: MethodCard) -> str:
    """Return what the authors' weights have seen of test splits, with the evidence."""
    rows = [
        (f"`{release.name}`", f"{found.test}", found.level, evidence_text(found))
        for release in method_card.releases
        for found in seen(shipped(), f"{method_card.name}/{release.name}")
    ]
    head = "What they have seen; nothing is known of any other split ([what the words mean](/docs/leakage.md)):"
    return f"{head}\n\n{_table(('release', 'split', 'level', 'evidence'), rows)}"


def published_text(only: str = "") -> str:
    """Return the published results of all methods or of one, in percent, with notes on protocol and source."""
    scores = [(card(name), score) for name in ([only] if only else methods()) for score in card(name).published]
    scores.sort(key=lambda pair: (pair[1].dataset, pair[1].split))  # comparable rows next to each other
    notes = list(dict.fromkeys((method_card.name, *_note(score)) for method_card, score in scores))
    rows = []
    for method_card, score in scores:
        values = [f"{score.values[metric]:.2f}" if metric in score.values else "–" for metric in _METRICS]
        number = notes.index((method_card.name, *_note(score))) + 1
        method = () if only else (f"`{method_card.name}`",)
        rows.append((*method, score.dataset, score.split, *values, _behind(method_card, score).level, f"{number}"))
    columns = (
        *(() if only else ("method",)),
        "data set",
        "split",
        *_METRICS.values(),
        "[seen](/docs/leakage.md)",
        "note",
    )
    first = len(columns) - len(_METRICS) - 2
    table = _table(columns, rows, numbers=(*range(first, len(columns) - 2), len(columns) - 1))
    lines = [f"{i}. `{name}`. Protocol: {how}. Printed in {source}." for i, (name, how, source) in enumerate(notes, 1)]
    known = [
        f"* `{method_card.name}`, {score.dataset}, {score.split}: **{found.level}**. {evidence_text(found)}"
        for method_card, score in scores
        if (found := _behind(method_card, score)).level != "unknown"
    ]
    reading = "Seen: what the weights behind a result have seen of its split; *unknown* where nothing is recorded."
    return "\n".join([table, "", *lines, "", reading, *(["", *known] if known else [])])


def _behind(method_card: MethodCard, score: Score) -> Finding:
    """Return what the weights behind a published result have seen of its split."""
    return published_finding(shipped(), method_card.title.partition(":")[0], score.dataset, score.split)


def _note(score: Score) -> tuple[str, str]:
    return score.protocol, score.source


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]], numbers: tuple[int, ...] | range = ()) -> str:
    rule = "|".join("---:" if i in numbers else "---" for i in range(len(columns)))
    return "\n".join([f"| {' | '.join(columns)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)])


# -- the leakage ledger ------------------------------------------------------------------------------------------------


def leakage_text(part: str) -> str:
    """Return a part of the ledger of what weights have seen, with links to what was read.

    Raises:
        ValueError: there is no such part.
    """
    makers = {
        "levels": lambda _: _levels(),
        "weights": _weights_seen,
        "bases": _bases,
        "overlaps": _overlaps,
        "splits": _splits,
        "sources": _sources,
    }
    if part not in makers:
        raise ValueError(f"the ledger has no part {part!r}; it has {', '.join(makers)}")
    return makers[part](shipped())


def _levels() -> str:
    rows = []
    for level, what in MEANING.items():
        how = {"unknown": "° at the row's name", "clean": "nothing"}.get(level, "")
        how = "‡ and a letter; not ranked" if level in CONTAMINATED else "§ and a letter" if level in FOOTNOTED else how
        rows.append((f"**{level}**", what, how))
    return _table(("level", "meaning", "in a table"), rows)


def _said(ledger: Ledger, evidence: str, certainty: Certainty) -> str:
    """Return evidence with its certainty, and links to what was read; to files of the repository as to any."""
    known = ledger.evidence[evidence]
    places = [where if where.startswith("https:") else f"/{where}" for where in known.see]
    links = [f"[{_SHORT.sub('', where)}]({place})" for where, place in zip(known.see, places, strict=True)]
    return f"{known.text} *{WORDS[certainty]}*{': ' if links else ''}{', '.join(links)}"


_SHORT = re.compile(r"^https://(github\.com|huggingface\.co|arxiv\.org/abs)/")


def _weights_seen(ledger: Ledger) -> str:
    rows = []
    for entry in ledger.released.values():
        bases = ", ".join(ledger.title(base) for base in entry.bases)
        title = f"{entry.title}{f' (from {bases})' if bases else ''}"
        for line in (*entry.trained_on, *entry.marks):
            said = _said(ledger, line.evidence, line.certainty)
            rows.append((title, str(line.part), line.level, said))
    return _table(("weights", "split", "level", "evidence"), rows)


def _bases(ledger: Ledger) -> str:
    rows = [
        (base.title, base.data, base.aerial, _said(ledger, base.evidence, base.certainty))
        for base in ledger.bases.values()
    ]
    return _table(("starting weights", "trained on", "aerial images", "evidence"), rows)


def _overlaps(ledger: Ledger) -> str:
    rows = [
        (str(on), str(line.part), line.level, _said(ledger, line.evidence, line.certainty))
        for on, line in ledger.overlaps
    ]
    return _table(("training on", "touches", "level", "evidence"), rows)


def _splits(ledger: Ledger) -> str:
    rows = []
    for dataset, within in ledger.within.items():
        pairs = ", ".join(" and ".join(sorted(pair)) for pair in within.disjoint)
        rows.append((dataset, pairs or "not known", _said(ledger, within.evidence, within.certainty)))
    return _table(("data set", "splits without a common image", "evidence"), rows)


def _sources(ledger: Ledger) -> str:
    rows = [
        (dataset, f"{o.name}{f', through {o.via}' if o.via else ''}", _said(ledger, o.evidence, o.certainty))
        for dataset, some in ledger.origins.items()
        for o in some
    ]
    return _table(("data set", "images from", "evidence"), rows)


# -- commands ----------------------------------------------------------------------------------------------------------


def commands_text() -> str:
    """Return a section for every command: what it does, and the ``--help`` of it and its subcommands."""
    parts = []
    for name, what in COMMANDS.items():
        parts += [f"## `rrsis {name}`", f"{what[0].upper()}{what[1:]}."]
        for command, text in helps(name).items():
            parts += [f"### `rrsis {command}`"] if command != name else []
            block = f"```text\n{text.strip()}\n```"
            many = text.count("\n") > 80
            parts.append(f"<details><summary>all options</summary>\n\n{block}\n\n</details>" if many else block)
    return "\n\n".join(parts)


def helps(name: str) -> dict[str, str]:
    """Return the help of a command and of its subcommands, from the real parsers.

    Raises:
        ValueError: the command has no parser.
    """
    with _plain_terminal():
        if name in cli._LIGHTNING:
            out = io.StringIO()
            with redirect_stdout(out), mock.patch.object(sys, "argv", ["rrsis"]), suppress(SystemExit):  # after a help
                cli.run([name, "--help"])
            return {name: out.getvalue()}
        return {" ".join(p.prog.split()[1:]): p.format_help() for p in _parsers(_parser_of(name))}


class _ParserReached(Exception):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def _parser_of(name: str) -> argparse.ArgumentParser:
    """Run the command until it reads its arguments, and return its parser."""

    def reached(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        raise _ParserReached(self)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", reached):
        try:
            cli.run([name])
        except _ParserReached as caught:
            return caught.parser
    raise ValueError(f"rrsis {name} has no parser")


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _parsers(inner)


@contextmanager
def _plain_terminal() -> Iterator[None]:
    """Make line breaks the same everywhere, without colours."""
    with mock.patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1"}):
        yield


# -- other pages -------------------------------------------------------------------------------------------------------


def page_text(wanted: str) -> str:
    """Return a page of the repository without its title, or some of its sections with their headings.

    Args:
        wanted: ``PATH`` or ``PATH: SECTION, SECTION …``; a path is relative to the repository.

    Raises:
        ValueError: the page has no such section.
    """
    path, _, sections = wanted.partition(": ")
    text = (ROOT / path).read_text(encoding="utf-8")
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    if not sections:
        return relink(re.sub(r"^# .*\n", "", text), ROOT / path)
    titles = {part.splitlines()[0].removeprefix("## "): part for part in parts[1:]}
    for section in (wanted_sections := sections.split(", ")):
        if section not in titles:
            raise ValueError(f"{path} has no section {section!r}; it has {', '.join(titles)}")
    return relink("\n".join(titles[section] for section in wanted_sections), ROOT / path)


def relink(text: str, page: Path) -> str:
    """Make the relative links of a text absolute paths of the repository, outside code."""

    def absolute(match: re.Match[str]) -> str:
        target, anchor = match[2], match[3] or ""
        return f"{match[1]}(/{os.path.relpath((page.parent / target).absolute(), ROOT)}{anchor})"

    return _outside_code(text, lambda part: _LINK.sub(absolute, part))


_LINK = re.compile(r"(\])\((?![a-z]+:|#|/)([^)#\s]+)(#[^)\s]+)?\)")
_ABSOLUTE = re.compile(r"(!?)(\[[^\]]*\])\(/([^)#\s]+)(#[^)\s]+)?\)")


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    parts = re.split(r"(^```.*?^```\s*?$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if i % 2 else change(part) for i, part in enumerate(parts))


# -- a page of the site ------------------------------------------------------------------------------------------------

_MAKERS: dict[str, Callable[[str], str]] = {
    "card": card_text,
    "sizes": sizes_text,
    "published": published_text,
    "leakage": leakage_text,
    "commands": lambda _: commands_text(),
    "page": page_text,
}


def fill(text: str, page: Path, shown: Path | None = None) -> str:
    """Return the text of a page of the site with everything inserted and links that work on the site.

    Links to files of the repository outside ``docs`` lead to GitHub; pictures are taken from where they are.

    Args:
        text: Markdown.
        page: its file.
        shown: the file in ``docs`` that it is shown from; None for the file itself.

    Raises:
        ValueError: an unknown maker, or a link to a file that is not there.
    """

    def made(match: re.Match[str]) -> str:
        maker, _, wanted = match[1].strip().partition(" ")
        if maker not in _MAKERS:
            raise ValueError(f"{page}: nothing is made from {maker!r}; known: {', '.join(_MAKERS)}")
        return _MAKERS[maker](wanted)

    def local(match: re.Match[str]) -> str:
        picture, label, target, anchor = match[1], match[2], ROOT / match[3], match[4] or ""
        if not target.exists():
            raise ValueError(f"{page}: {target} is not there")
        if target.suffix == ".ipynb":
            target = NOTEBOOKS / target.name
        if picture or (ROOT / "docs" in target.parents and target.suffix in (".md", ".ipynb")):
            return f"{picture}{label}({os.path.relpath(target, (shown or page).parent)}{anchor})"
        kind = "tree" if target.is_dir() else "blob"
        return f"{label}({REPOSITORY}/{kind}/main/{match[3]}{anchor})"

    text = re.sub(r"^<!-- made from: (.*?) -->$", made, relink(text, page), flags=re.MULTILINE)
    return _outside_code(text, lambda part: _ABSOLUTE.sub(local, part))


def readme_text(readme: str) -> str:
    """Return the README with its table of published results made from the cards."""
    made = published_text().replace("](/", "](")  # relative to the README
    table = f"<!-- published table -->\n\n{made}\n\n<!-- end of published table -->"
    return re.sub(
        r"<!-- published table -->.*?<!-- end of published table -->", lambda _: table, readme, flags=re.DOTALL
    )


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(readme_text(path.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote the published results into {path}")
