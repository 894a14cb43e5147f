"""Profiles of several models, one after another: ``python -m bench.profiles LIST.json``. No torch.

``LIST.json`` holds ``profiles``, a list with ``arguments`` (of ``python benchmarks/costs.py``) and ``log`` (a
file; output is appended to it). Each entry gets a ``status`` after its profile: the exit status, minus the signal's
number if a signal ended it. A profile that fails does not affect the others.

Every profile has a process of its own, since the peak memory of a model depends on memory that an earlier one left to
the allocator (up to twice as much was measured). But importing torch, Lightning and their dependencies takes longer
than many profiles, so on Linux one process only imports them and the profiles are forks of it; on other systems, where
the frameworks do not survive a fork, each profile imports them itself.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.records import ProfileList
from rrsis_zoo.errors import RRSISError
from rrsis_zoo.files import write_json
from rrsis_zoo.tables.records import read_record

PROFILER = "bench.profile"
"""Module whose ``run`` takes a profile's arguments and returns an exit status."""

_IMPORTED_ONCE = (PROFILER, "rrsis_zoo.commands.fit")


def main() -> int:
    """Make the profiles of the list that the command line names."""
    if sys.platform == "linux":
        context = multiprocessing.get_context("forkserver")  # a server without measurements and threads
        context.set_forkserver_preload([*_IMPORTED_ONCE])
    else:
        context = multiprocessing.get_context("spawn")
    path = Path(sys.argv[1])
    listed = read_record(path, ProfileList, "the suite's runner writes it")
    for entry in listed["profiles"]:
        process = context.Process(target=_profile, args=(entry["arguments"], entry["log"]))
        process.start()
        process.join()
        entry["status"] = process.exitcode
        write_json(path, listed)
    return 0


def _profile(arguments: Sequence[str], log: str) -> None:
    """Make one profile; its output goes to its log."""
    with open(log, "ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    from importlib import import_module

    sys.exit(import_module(PROFILER).run(arguments))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RRSISError as error:
        print(f"profiles: {error}", file=sys.stderr)
        sys.exit(2)
