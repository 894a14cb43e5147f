"""Published results next to our own. No torch.

Two sources: the cards of the zoo's methods, and a file of results from the literature,
``benchmarks/published_results.csv`` in the repository; a test checks that they agree.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rrsis_zoo.data.sources import SOURCES
from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.escape import slug
from rrsis_zoo.files import read_text
from rrsis_zoo.leakage.judge import Finding
from rrsis_zoo.leakage.ledger import shipped
from rrsis_zoo.leakage.lineage import published_finding
from rrsis_zoo.methods.registry import methods
from rrsis_zoo.metrics.protocols import PROTOCOLS
from rrsis_zoo.models.card import MethodCard, Score
from rrsis_zoo.tables.estimates import MAIN, Board, Trial, estimate
from rrsis_zoo.tables.formats import Cell, Column, Footnote, Table, number
from rrsis_zoo.tables.leakage import Footnotes

METRICS = ("pr@0.5", "pr@0.6", "pr@0.7", "pr@0.8", "pr@0.9", "oiou", "miou")
"""In the usual order of papers."""

_MEASURES = {measure.key: measure for measure in MAIN}
_TITLES = {name: measure.title for name, measure in _MEASURES.items()}
_FIELDS = {name: f"pr{round(100 * float(name.removeprefix('pr@')))}" for name in METRICS if name.startswith("pr@")}
_TEXTS = ("method", "model", "venue_year", "arxiv", "type", "visual_encoder", "text_encoder", "dataset", "split")
_COLUMNS = (*_TEXTS, *(_FIELDS.get(name, name) for name in METRICS), "protocol", "source")

UNKNOWN = "not stated"
"""Protocol of a result whose program is not known."""

_DIFFERENCE = "difference"
_LIMIT = 16 * 2**20  # bytes; the shipped file has 20 kB


@dataclass(frozen=True)
class PublishedResult:
    """A row of a published table.

    Attributes:
        method: the authors' spelling.
        model: its name in the zoo, empty if the zoo does not have it.
        venue: and year of publication.
        kind: ``coupled``, ``decoupled`` or ``llm``.
        dataset, split: that the method was tested on.
        values: metric -> percent, under our names, assigned by definition and not by the name in the paper.
        protocol: of the public program of the method's authors, or ``not stated``; the source may have used another.
        source: of the numbers.
    """

    method: str
    model: str
    venue: str
    kind: str
    dataset: str
    split: str
    values: Mapping[str, float]
    protocol: str
    source: str


def read_published(path: str | Path) -> list[PublishedResult]:
    """Read a file of published results.

    Raises:
        MissingDataError: the file does not exist.
        DataFormatError: wrong columns, or an impossible value.
    """
    try:
        text = read_text(path, _LIMIT)
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except MissingDataError as error:
        raise MissingDataError(f"{error}; the repository contains it as benchmarks/published_results.csv") from error
    except csv.Error as error:
        raise DataFormatError(f"{path} cannot be read as published results ({error})") from error
    return [_result(f"{path}, line {number}", row) for number, row in enumerate(rows, 2)]


def _result(where: str, row: Mapping[str, str]) -> PublishedResult:
    if tuple(row) != _COLUMNS or None in row.values():
        raise DataFormatError(f"{where}: the columns must be {', '.join(_COLUMNS)}; got {', '.join(map(str, row))}")
    values = {}
    for name in METRICS:
        text = row[_FIELDS.get(name, name)]
        if text:
            values[name] = _percent(f"{where}, {name}", text)
    if row["protocol"] != UNKNOWN and row["protocol"] not in PROTOCOLS:
        raise DataFormatError(f"{where}: protocol {row['protocol']!r} is none of {', '.join(PROTOCOLS)}, {UNKNOWN}")
    for name in ("method", "dataset", "split"):
        if not row[name].strip():
            raise DataFormatError(f"{where}: {name} is empty")
    if row["model"] and row["model"] not in methods():
        raise DataFormatError(f"{where}: model {row['model']!r} is none of {', '.join(methods())}")
    return PublishedResult(
        row["method"],
        row["model"],
        row["venue_year"],
        row["type"],
        row["dataset"],
        row["split"],
        values,
        row["protocol"],
        row["source"],
    )


def _percent(where: str, text: str) -> float:
    value = float(text) if re.fullmatch(r"\d{1,3}(\.\d{1,12})?", text) else math.nan
    if not 0 <= value <= 100:
        raise DataFormatError(f"{where}: must be a number from 0 to 100, got {text!r}")
    return value


# -- published, ours, difference ---------------------------------------------------------------------------------------


def published_table(boards: Sequence[Board]) -> Table:
    """Return the published results of the zoo's methods, ours, and the difference.

    Ours are runs of a published preset on the same split of the same dataset: according to the record of the test, the
    counts and annotations match the published split. Runs on synthetic scenes or your own data in the dataset's layout,
    runs of a smaller preset, and runs whose record lacks this statement (earlier versions) do not count.

    Args:
        boards: of a suite, one for each dataset.
    """
    columns = [Column("method", "method", numeric=False), Column("dataset", "data set", numeric=False)]
    columns += [Column("split", "split", numeric=False), Column("result", "result", numeric=False), Column("n", "N")]
    columns.append(Column("protocol", "protocol", numeric=False))
    columns += [Column(name, _TITLES[name]) for name in METRICS]
    rows: list[list[Cell]] = []
    notes: list[str] = []
    everything = [(known.card, score) for known in methods().values() for score in known.card.published]
    ours = [list(_ours(card, score, boards)) for card, score in everything]
    seen = [published_finding(shipped(), _short(card), score.dataset, score.split) for card, score in everything]
    entries: list[tuple[str, Finding | None]] = [
        (f"{_short(card)}, published", one) for (card, _), one in zip(everything, seen, strict=True)
    ]
    entries += [
        (f"{_short(card)}, ours", t.seen) for (card, _), found in zip(everything, ours, strict=True) for _, t in found
    ]
    footnotes, run = Footnotes(entries), len(everything)
    for i, ((card, score), matches) in enumerate(zip(everything, ours, strict=True)):
        where = [Cell(score.dataset), Cell(score.split)]
        name, printed = Cell(_short(card), footnote=footnotes.name(i)), footnotes.score(i)
        values = [_printed(score, metric, printed) for metric in METRICS]
        rows.append([name, *where, Cell("published"), Cell("–"), Cell(score.program or UNKNOWN), *values])
        for board, trial in matches:
            head = [Cell(_short(card), footnote=footnotes.name(run)), *where]
            rows += _reproduced(head, score, board, trial, printed, footnotes.score(run))
            notes.append(_run_of(card, score, board, trial))
            run += 1
        if not matches:
            head = [Cell(_short(card)), *where]
            rows.append([*head, Cell("ours"), *[Cell("–")] * 2, *[Cell("not run")] * len(METRICS)])
        note = f"{_short(card)}: protocol {score.protocol}. Source: {score.source}."
        if note not in notes:
            notes.append(note)
    notes.append(
        "Difference: ours − published, in points. †: our protocol differs from that of the authors' program, which "
        "explains a part of the difference. –: not published. No score is marked as the best, and there are no "
        "intervals, because nobody has published per-sample results."
    )
    return Table(
        "published",
        "Published, ours, difference",
        "Protocols are named as in docs/metrics.md; a published row has that of the authors' program. Ours are only "
        "runs on the same data set and split with the published foundation weights, never miniatures or synthetic "
        "scenes.",
        columns,
        rows,
        notes,
    )


def has_ours(table: Table) -> bool:
    """Return whether a table from `published_table` contains a run of ours."""
    return any(cell.text == _DIFFERENCE for row in table.rows for cell in row)


def _short(card: MethodCard) -> str:
    """Return a method's name in the authors' spelling."""
    return card.title.partition(":")[0]


def _printed(score: Score, name: str, footnote: Footnote | None) -> Cell:
    value = score.values.get(name)
    return Cell("–") if value is None else Cell(number(value, 2), value, footnote=footnote)


def _ours(card: MethodCard, score: Score, boards: Sequence[Board]) -> Iterator[tuple[Board, Trial]]:
    for board in boards:
        for trial in board.trials:
            if not trial.finished or trial.model.role != "method":
                continue
            result = trial.finished[0].result
            same = result["dataset"].casefold() == score.dataset.casefold() and result["split"] == score.split
            preset = card.presets.get(result["preset"]) if result["model"] == card.name else None
            if same and result.get("published_split") is True and preset is not None and preset.kind == "published":
                yield board, trial


def _reproduced(
    head: Sequence[Cell],
    score: Score,
    board: Board,
    trial: Trial,
    printed: Footnote | None,
    measured: Footnote | None,
) -> Iterator[list[Cell]]:
    result = trial.finished[0].result
    protocol, n = Cell(result["protocol"]), Cell(f"{len(board.samples):,}", float(len(board.samples)))
    estimates = [estimate(board, trial, _MEASURES[name]) for name in METRICS]
    ours = [Cell("none") if e is None else replace(e.cell(2), footnote=measured) for e in estimates]
    yield [*head, Cell("ours"), n, protocol, *ours]
    foreign = "" if result["protocol"] == score.program else "†"
    cells = []
    for name, cell in zip(METRICS, ours, strict=True):
        value = score.values.get(name)
        if value is None or cell.value is None:
            cells.append(Cell("–"))
        else:
            cells.append(Cell(number(d := cell.value - value, 2, sign=True) + foreign, d, footnote=printed or measured))
    yield [*head, Cell(_DIFFERENCE), n, protocol, *cells]


def _run_of(card: MethodCard, score: Score, board: Board, trial: Trial) -> str:
    result = trial.finished[0].result
    seeds = ", ".join("not known" if job.seed is None else str(job.seed) for job in trial.finished)
    counts = next(known.card.counts for known in SOURCES.values() if known.card and known.card.title == score.dataset)
    whole = next((count for split, count in counts.items() if split == score.split), None)
    n, text_mode = len(board.samples), result.get("text_mode") or "not known"
    part = "" if whole in (None, n) else f" N is {n:,}, the published split has {whole:,}."
    return (
        f"{_short(card)} on {score.dataset}, {score.split}, ours: preset {result['preset']}, "
        f"{len(trial.finished)} of {len(trial.model.seeds)} trainings (seed {seeds}), text mode {text_mode}, "
        f"evaluation size {result['eval_size']}, annotations {result['annotations_sha256'][:12]}, "
        f"commit {(result['code']['commit'] or 'not known')[:12]}.{part}"
    )


# -- the literature ----------------------------------------------------------------------------------------------------


def literature_tables(results: Iterable[PublishedResult]) -> Iterator[Table]:
    """Yield a table of published results for each dataset, the test split first, the highest mIoU first."""
    by_dataset: dict[str, list[PublishedResult]] = {}
    for result in results:
        by_dataset.setdefault(result.dataset.casefold(), []).append(result)
    for mine in by_dataset.values():
        dataset = mine[0].dataset
        sources = list(dict.fromkeys(result.source for result in mine))
        mine.sort(key=lambda r: (r.split != "test", r.split, -r.values.get("miou", 0.0)))
        columns = [Column(name, name, numeric=False) for name in ("method", "venue", "type", "split", "protocol")]
        columns += [*(Column(name, _TITLES[name]) for name in METRICS), Column("source", "source", numeric=False)]
        footnotes = Footnotes([(r.method, published_finding(shipped(), r.method, r.dataset, r.split)) for r in mine])
        rows = [
            [
                Cell(r.method, footnote=footnotes.name(i)),
                *(Cell(text or "–") for text in (r.venue, r.kind, r.split, r.protocol)),
                *(
                    Cell("–")
                    if n not in r.values
                    else Cell(number(r.values[n], 2), r.values[n], footnote=footnotes.score(i))
                    for n in METRICS
                ),
                Cell(f"[{sources.index(r.source) + 1}]"),
            ]
            for i, r in enumerate(mine)
        ]
        notes = [f"[{i}] {source}" for i, source in enumerate(sources, 1)]
        notes.append(
            "As printed; –: not printed. Protocols differ, test sets do not always contain the same samples, and "
            "nobody has published per-sample results or seeds. So nothing is marked as the best, and a difference of "
            "one point proves nothing."
        )
        caption = (
            "Protocol: that of the authors' public program, where it is known, under our name for it; the paper that "
            "prints a number may have used another."
        )
        yield Table(
            f"literature--{slug(dataset.lower())}", f"Published results on {dataset}", caption, columns, rows, notes
        )
