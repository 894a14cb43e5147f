"""The command in processes forked from one that has imported everything: a start takes a moment, not ten seconds."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import constants

from rrsis_zoo.methods.registry import list_models

_context = multiprocessing.get_context("forkserver")
_heavy = [f"rrsis_zoo.methods.{name}.module" for name in list_models()]
_context.set_forkserver_preload(["rrsis_zoo.commands.fit", *_heavy, "warm_frozen"])


class Signal(NamedTuple):
    """Signals that a process sends to itself when it comes to a place for the n-th time.

    Attributes:
        place: ``step``, ``validation`` (a batch of one, or of another evaluation), ``write`` (of some bytes of a
            checkpoint), ``replace`` (a file is about to take its place), ``log`` (a row is about to be written) or
            ``start`` (of the command).
        count: which time.
        number: of the signal.
        group: whether all processes that it has forked get it too, from outside.
        again_s: seconds after which it is sent once more; None for once.
    """

    place: str
    count: int
    number: int
    group: bool = False
    again_s: float | None = None


class Ended(NamedTuple):
    """Status, or minus the signal that ended it, and all that was printed."""

    status: int
    output: str

    @property
    def said(self) -> list[str]:
        """What the command itself said."""
        return [line for line in self.output.splitlines() if line.startswith("rrsis: ")]


def run(arguments, folder: Path, at: Signal | None = None, largest: int | None = None, **environment) -> Ended:
    """Run ``rrsis`` in a folder.

    Args:
        arguments: of the command.
        folder: where it runs; what it prints lies there in ``output.txt``.
        at: where it gets a signal.
        largest: bytes that its files may have: a disk that is full.
        **environment: further variables.
    """
    log = folder / "output.txt"
    words = [str(word) for word in arguments]
    process = _context.Process(target=_command, args=(words, str(folder), str(log), at, largest, environment))
    process.start()
    process.join()
    return Ended(process.exitcode, log.read_text())


def command(arguments, folder: Path | None = None, **environment) -> subprocess.CompletedProcess[str]:
    """Run ``rrsis`` and return what `subprocess.run` would: status, standard output and standard error apart.

    For commands whose environment matters only after the imports; Lightning's own further processes are not for it.

    Args:
        arguments: of the command.
        folder: where it runs; here by default.
        **environment: further variables.
    """
    words = [str(word) for word in arguments]
    with tempfile.TemporaryDirectory() as place:
        files = [os.path.join(place, name) for name in ("out", "err")]
        everything = {**os.environ, **{name: str(value) for name, value in environment.items()}}
        process = _context.Process(target=_plain, args=(words, str(folder or Path.cwd()), files, everything))
        process.start()
        process.join()
        texts = [Path(file).read_text(encoding="utf-8") for file in files]
    return subprocess.CompletedProcess(["rrsis", *words], process.exitcode or 0, *texts)


def _plain(words, folder, files, environment) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # these were read when huggingface_hub was imported
    constants.HF_HUB_CACHE = environment.get("HF_HUB_CACHE", constants.HF_HUB_CACHE)
    constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE or environment.get("HF_HUB_OFFLINE") == "1"
    for descriptor, file in zip((1, 2), files, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    multiprocessing.set_start_method("fork", force=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from rrsis_zoo import cli

    sys.argv = ["rrsis", *words]
    cli.main()


def _command(words, folder, log, at, largest, environment) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    os.setpgid(0, 0)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    multiprocessing.set_start_method("fork", force=True)  # as it is for a command from a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server that forks ignores it
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    if at is not None:
        _arm(at)
    from rrsis_zoo import cli

    sys.argv = ["rrsis", *words]
    cli.main()


def _arm(at: Signal) -> None:
    """Let this process signal itself."""
    from rrsis_zoo import files
    from rrsis_zoo.commands import fit as cli
    from rrsis_zoo.training import loggers, module
    from rrsis_zoo.weights import saving

    left = [at.count]

    def send():
        if at.group:
            kill = ["kill", f"-{at.number}", "--", f"-{os.getpgrp()}"]
            subprocess.run(kill, start_new_session=True, check=True)
        else:
            os.kill(os.getpid(), at.number)

    def here(function):
        def wrapped(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                send()
                if at.again_s is not None:
                    time.sleep(at.again_s)
                    send()
            return function(*arguments, **options)

        return wrapped

    owner, name = {
        "step": (module.RRSISModule, "training_step"),
        "validation": (module.RRSISModule, "predict_step"),
        "write": (saving._Sink, "write"),
        "replace": (files.os, "replace"),
        "log": (loggers._LogWriter, "save"),
        "start": (cli, "run_lightning"),
    }[at.place]
    setattr(owner, name, here(getattr(owner, name)))
