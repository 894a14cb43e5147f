"""A process that ends together with its runner: ``python -m bench.child PROGRAM ARGUMENTS…``.

A killed runner cannot end the trainings that it started, and a training that continues unnoticed would write to a
folder that the next runner uses. So every process of a job holds the reading end of a pipe whose other end only the
runner holds: when that is closed, for any reason, this process ends together with all processes that it has started.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading

PARENT = "RRSIS_ZOO_PARENT"
"""Environment variable with the number of the pipe's reading end."""


def main() -> None:
    """Run a module like ``python -m``, or a file with the suffix ``.py``, and end with the runner."""
    # removed from the environment: processes started from here have no such pipe, and end with the group
    pipe = int(os.environ.pop(PARENT))
    threading.Thread(target=_end_with_runner, args=(pipe,), daemon=True).start()
    program = sys.argv[1]
    sys.argv = sys.argv[1:]
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def _end_with_runner(pipe: int) -> None:
    os.read(pipe, 1)  # nothing is ever written: it returns when the other end is closed
    os.killpg(os.getpgid(0), signal.SIGKILL)  # the runner made this process the head of its own group


if __name__ == "__main__":
    main()
