"""Tables, report and figures of a suite, made from the folder of its runs. No torch."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path

from bench.report import write_report
from rrsis_zoo.data.pixels import open_image
from rrsis_zoo.files import make_folder, writing
from rrsis_zoo.tables.formats import Cell, Table
from rrsis_zoo.tables.published import read_published
from rrsis_zoo.tables.runs import JobRecord, Runs, read_runs
from rrsis_zoo.tables.suite_tables import tables_of, write_tables

REPORT = "report.html"

_LITERATURE = Path(__file__).parents[1] / "published_results.csv"
_SHOWN = ("miou", "oiou", "pr@0.5", "pr@0.7", "pr@0.9", "train_cpu_min")
"""Columns of the main table that fit into a terminal."""
_NAME = 36  # letters of a name in a line
_WIDTH = 110  # of a footnote


def write_results(folder: Path, out: Path) -> dict[str, Table]:
    """Write all tables, the report and a figure for each method.

    Args:
        folder: of the runs, with ``suite.json``.
        out: is created.

    Returns:
        The tables.

    Raises:
        MissingDataError: the folder has no ``suite.json``, or per-sample counts are missing.
        DataFormatError: a file in it is damaged.
        OutputError: a file cannot be written.
    """
    runs = read_runs(folder)
    tables = tables_of(runs, read_published(_LITERATURE))
    write_tables(tables, make_folder(out))
    own = {name: table for name, table in tables.items() if not name.startswith("literature")}  # 114 lines of others
    write_report(folder, out / REPORT, own)
    for job in first_trainings(runs):
        if not runs.model(job.record["model"]).ranked:
            continue
        figure = job.place / "predictions.png"
        if not os.path.isfile(figure):
            continue  # a copy of the records alone
        # a tenth of the PNG's size, with all its colours: sentences name them
        with writing(out / f"{job.record['model']}--{job.record['dataset']}.webp") as path:
            open_image(figure).convert("RGB").save(path, "WEBP", quality=90, method=6)
    return tables


def first_trainings(runs: Runs) -> list[JobRecord]:
    """Return the first finished job of every row on every data set: those whose pictures are shown."""
    jobs = [runs.of(model.name, dataset) for dataset in runs.datasets for model in runs.models]
    return [next(job for job in some if job.finished) for some in jobs if any(job.finished for job in some)]


# -- in a terminal -----------------------------------------------------------------------------------------------------


def overview(tables: Mapping[str, Table]) -> str:
    """Return the main table, of every data set, as lines that fit into a terminal."""
    main = [table for name, table in tables.items() if name.partition("--")[0] == "main"]
    return "\n\n".join(_lines(table) for table in main)


def _lines(table: Table) -> str:
    places = [i for key in _SHOWN for i, column in enumerate(table.columns) if column.key == key]
    head = [table.columns[i].title.replace("training, ", "") for i in places]
    rows: list[list[str]] = []
    names: list[list[str]] = []
    for row in table.rows:
        names.append(textwrap.wrap(_signed(row[0]), _NAME, subsequent_indent="  ") or [""])
        rows.append([_text(row[i], table.columns[i].key == "miou") for i in places])
    widths = [max(len(text) for text in column) for column in zip(head, *rows, strict=True)]
    # scores stand under each other: the intervals behind them have different widths
    left = [table.columns[i].key == "miou" for i in places]
    lines = [table.title, _line("", head, widths, left)]
    for name, cells in zip(names, rows, strict=True):
        lines.append(_line(name[0], cells, widths, left))
        lines += name[1:]
    for note in table.footnotes:
        lines += textwrap.wrap(f"{note.sign} {note.text}", _WIDTH, subsequent_indent="  ")
    return "\n".join(lines)


def _line(name: str, cells: list[str], widths: list[int], left: list[bool]) -> str:
    padded = [
        text.ljust(width) if before else text.rjust(width)
        for text, width, before in zip(cells, widths, left, strict=True)
    ]
    return f"{name:<{_NAME}}  {'  '.join(padded)}".rstrip()


def _text(cell: Cell, whole: bool) -> str:
    detail = f" {cell.detail}" if whole and cell.detail else ""
    return f"{cell.text.rjust(5) if whole and cell.value is not None else cell.text}{_sign(cell)}{detail}"


def _signed(cell: Cell) -> str:
    return cell.text + _sign(cell)


def _sign(cell: Cell) -> str:
    return "" if cell.footnote is None else f" {cell.footnote.sign}"
