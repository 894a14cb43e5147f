"""``rrsis runs``: the runs in a folder."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rrsis_zoo.commands.arguments import Arguments

_DESCRIPTION = """List the runs in a folder, the earliest first: what each is (fit, validate, test, predict), when it
started, how far it came, and its scores in percent: of a training those of its best validation, of a test those under
its protocol. A training that stopped is continued with `rrsis fit --resume RUN`."""


def run_runs(arguments: Sequence[str]) -> int:
    """Print the list; return 0.

    Raises:
        MissingDataError: there is no such folder.
    """
    parser = Arguments("rrsis runs", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs"), help="default: runs")
    parser.add_argument("--json", action="store_true", help="print a JSON list with all scores")
    options = parser.parse_args(arguments)

    from rrsis_zoo.tables.listing import list_runs, listing

    entries = list_runs(options.folder)
    if options.json:
        print(json.dumps([entry.plain() for entry in entries], indent=1))
    elif entries:
        print(listing(entries))
    else:
        print(f"there are no runs in {options.folder}")
    return 0
