"""``rrsis table``: the tables of a suite's runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from rrsis_zoo.commands.arguments import Arguments
from rrsis_zoo.commands.plugin_options import add_plugin
from rrsis_zoo.errors import unknown_name

_DESCRIPTION = """Make the tables of a suite from the files of its jobs: published / ours / difference, the main
comparison with intervals and significance by scene, and scores by category, size and kind of expression.

RUNS is the folder of a suite's runs, such as runs/embedded; or folders from `rrsis test`, each a row with the run's
name. Of tests only the main comparison is made; --all adds the others, such as their differences from the first, pair
by pair. A test of part of the split, or of an untrained model, does not appear in any table. With --out every table is
written as Markdown, CSV, LaTeX (booktabs) and HTML; without it the tables are printed as Markdown. docs/tables.md
explains every number."""


def run_table(arguments: Sequence[str]) -> int:
    """Write or print the tables; return 0.

    Raises:
        MissingDataError, DataFormatError, ConfigError: files or options that cannot be used.
        OutputError: a table cannot be written.
    """
    parser = Arguments("rrsis table", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUNS", help="folder of a suite's runs, or folders of `rrsis test`"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write files to this folder instead of printing")
    parser.add_argument(
        "--format", action="append", metavar="F", help="with --out: md, csv, tex or html; may be repeated; default: all"
    )
    parser.add_argument("--table", action="append", metavar="NAME", help="only this table; may be repeated")
    parser.add_argument("--all", action="store_true", help="all tables of tests too, not only the main comparison")
    parser.add_argument(
        "--published", type=Path, metavar="CSV", help="also list the literature: benchmarks/published_results.csv"
    )
    add_plugin(parser)
    options = parser.parse_args(arguments)

    from rrsis_zoo.tables.published import read_published
    from rrsis_zoo.tables.suite_tables import FORMATS, read_runs, read_tests, tables_of, write_tables

    for form in options.format or ():
        if form not in FORMATS:
            raise unknown_name("format", form, FORMATS)
    literature = read_published(options.published) if options.published else []
    tests = len(options.runs) > 1 or os.path.isfile(options.runs[0] / "test.json")
    runs = read_tests(options.runs) if tests else read_runs(options.runs[0])
    tables = tables_of(runs, literature)
    for name in options.table or ():
        if name not in tables:
            raise unknown_name("table", name, tables)
    wanted = {name: table for name, table in tables.items() if not options.table or name in options.table}
    if tests and not options.table and not options.all:
        shown = ("main", "literature") if literature else ("main",)
        wanted = {name: table for name, table in tables.items() if name.partition("--")[0] in shown}
    if options.out is None:
        print("\n\n".join(table.markdown().rstrip() for table in wanted.values()))
        return 0
    written = write_tables(wanted, options.out, options.format or FORMATS)
    print(f"wrote {len(written)} files to {options.out}: {', '.join(wanted)}")
    return 0
