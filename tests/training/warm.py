"""The command in processes forked from one that has imported everything: a start takes a moment, not ten seconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import NamedTuple

PLACES = {
    "step": "a training step",
    "validation": "a batch of a validation",
    "write": "a write of some bytes of a checkpoint",
    "replace": "the moment before a file takes its place",
    "log": "a row of the log",
    "import": "the start of the command",
}
"""Where a process can be told to signal itself."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["rrsis_zoo.training.cli", "rrsis_zoo.training.evisam3", "rrsis_zoo.training.control"])


class Signal(NamedTuple):
    """Signals that a process sends to itself when it comes to a place for the n-th time."""

    place: str
    count: int
    number: int
    times: int = 1


class Ended(NamedTuple):
    """Status, or minus the signal that ended it, and all that was printed."""

    status: int
    output: str


def start(arguments, folder: Path, at: Signal | None = None, **environment):
    """Start ``rrsis`` in a folder; return the process and the file that takes what it prints."""
    log = folder / "output.txt"
    words = [str(word) for word in arguments]
    process = _context.Process(target=_command, args=(words, str(folder), str(log), at, environment))
    process.start()
    return process, log


def run(arguments, folder: Path, at: Signal | None = None, **environment) -> Ended:
    """Run ``rrsis`` in a folder."""
    process, log = start(arguments, folder, at, **environment)
    process.join()
    return Ended(process.exitcode, log.read_text())


def _command(words: list[str], folder: str, log: str, at: Signal | None, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    multiprocessing.set_start_method("fork", force=True)  # as it is for a command from a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server that forks ignores it
    if at is not None:
        _arm(at)
    from rrsis_zoo import cli

    sys.argv = ["rrsis", *words]
    cli.main()


def _arm(at: Signal) -> None:
    """Let this process signal itself."""
    from rrsis_zoo import files
    from rrsis_zoo.training import cli, loggers, module
    from rrsis_zoo.weights import saving

    left = [at.count]

    def here(function):
        def wrapped(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                for _ in range(at.times):
                    os.kill(os.getpid(), at.number)
            return function(*arguments, **options)

        return wrapped

    owner, name = {
        "step": (module.RRSISModule, "training_step"),
        "validation": (module.RRSISModule, "_score"),
        "write": (saving._Sink, "write"),
        "replace": (files.os, "replace"),
        "log": (loggers._LogWriter, "save"),
        "import": (cli, "run_lightning"),
    }[at.place]
    setattr(owner, name, here(getattr(owner, name)))
