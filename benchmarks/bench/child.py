"""A process that ends with whoever started it: ``python -m bench.child PROGRAM ARGUMENTS…``.

A runner that is killed cannot end the trainings that it started, and a training that goes on unseen would write into a
folder that the next runner uses. So every process of a job holds the reading end of a pipe whose other end the runner
alone holds: when that is closed, for whatever reason, this process ends, and with it all that it has started.
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
    """Run a module as ``python -m`` does, or a file whose name ends in ``.py``, under the eyes of the runner."""
    # taken out of the environment: what this process starts has no such pipe, and ends with its group
    pipe = int(os.environ.pop(PARENT))
    threading.Thread(target=_end_with_runner, args=(pipe,), daemon=True).start()
    program = sys.argv[1]
    sys.argv = sys.argv[1:]
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def _end_with_runner(pipe: int) -> None:
    os.read(pipe, 1)  # nothing is ever written: this returns when the other end is closed
    os.killpg(os.getpgid(0), signal.SIGKILL)  # the runner made this process the head of its own group


if __name__ == "__main__":
    main()
