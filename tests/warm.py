"""Processes forked from one that has imported everything: a start takes a moment, not ten seconds.

`run` and `command` are ``rrsis``; `call` is a function; `python` is a program that can be started like a Python, by
tests and by what they start. One `warm_server` is there for all processes that pytest runs in.
"""

from __future__ import annotations

import atexit
import functools
import os
import pickle
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

import warm_client

REAL = sys.executable
"""The interpreter that runs the tests: what it starts imports everything anew."""

_HERE = Path(__file__).parent


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
    status = call(_command, words, str(log), at, largest, folder=folder, **environment)
    return Ended(status, log.read_text())


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
        status = call(plain, words, files, folder=folder, **environment)
        texts = [Path(file).read_text(encoding="utf-8") for file in files]
    return subprocess.CompletedProcess(["rrsis", *words], status, *texts)


def call(function: Callable, *arguments: Any, folder: Path | None = None, **environment: object) -> int:
    """Call a function in a fork; return its status, or minus the signal that ended it.

    Args:
        function: of a module that can be imported.
        *arguments: of the function; what pickle can carry.
        folder: where it is called; here by default.
        **environment: further variables.
    """
    asked = warm_client.situation()
    asked["environment"] |= {name: str(value) for name, value in environment.items()}
    name = f"{function.__module__}:{function.__qualname__}"
    asked |= {"kind": "call", "call": pickle.dumps((name, arguments)), "paths": sys.path}
    asked |= {"folder": str(folder or asked["folder"])}
    with warm_client.ask(str(_served() / "socket"), asked) as connection:
        pid, status = warm_client.answer(connection), warm_client.answer(connection)
    assert pid, "the server of warm processes has ended"
    assert status is not None, "the server of warm processes has ended"
    return status


def python() -> str:
    """Return the path of a program that is started like a Python, by name, ``-m``, ``-c`` or a script, and is warm.

    It and `sys.executable` in it are the same.
    """
    return str(_served() / "python")


@functools.cache
def _served() -> Path:
    """Start the server, unless another process of this test run has; return the folder of its socket."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    folder = Path(tempfile.gettempdir()) / f"rrsis-zoo-{os.getuid()}-{run}"  # a socket's path is to be short
    folder.mkdir(mode=0o700, exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "socket").exists():
            started = [REAL, str(_HERE / "warm_client.py")]
            words = " ".join(map(shlex.quote, [started[0], "-I", "-S", started[1], str(folder / "socket")]))
            (folder / "python").write_text(f'#!/bin/sh\nexec {words} "$0" "$@"\n')
            (folder / "python").chmod(0o755)
            server = subprocess.Popen(
                [REAL, str(_HERE / "warm_server.py"), str(folder / "socket"), os.pathsep.join(sys.path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
            while not (folder / "socket").exists():
                assert server.poll() is None, "the server of warm processes has failed to start"
                time.sleep(0.05)
        hold = warm_client.ask(str(folder / "socket"), {"kind": "hold", "files": []})
    atexit.register(hold.close)  # it serves as long as this is open
    return folder


def plain(words: list[str], files: list[str]) -> None:
    """Be the command, with standard output and standard error in these files."""
    for descriptor, file in zip((1, 2), files, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    from rrsis_zoo import cli

    sys.argv = ["rrsis", *words]
    cli.main()


def _command(words, log, at, largest) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
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
