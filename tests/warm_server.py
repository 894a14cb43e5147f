"""The process that `warm` forks programs from: it imports what takes long, listens, forks and waits.

``python warm_server.py SOCKET PATHS``, where PATHS are where it looks for modules. A program that is run in a fork
finds what a Python that was just started would have given it: its own arguments, environment, folder, open files,
search path and ``__main__``; but the imports are done. It is alone in its session, and is killed, with what it has
started in its group, when who asked for it is gone.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import io
import logging
import marshal
import multiprocessing.util
import os
import pickle
import runpy
import selectors
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import traceback
import types
import warnings
import weakref
from pathlib import Path
from typing import Any

HOLD, CALL, PROGRAM = "hold", "call", "program"
"""What is asked for: that the server stays, a function of ours, what a command line of Python names."""

_IMPORTED = ("rrsis_zoo.commands.fit", "bench.processes", "pandas", "scipy.stats", "lightning.pytorch.strategies.ddp")
_MOST = 64  # open files that one request may pass on


class Server:
    """Forks for who asks, and tells them what became of it.

    Args:
        path: of the socket; it is there once everything is imported.
    """

    def __init__(self, path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{path}.part")
        self._listener.listen(64)
        os.rename(f"{path}.part", path)
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._holding: set[socket.socket] = set()
        self._asked: dict[int, socket.socket] = {}
        self._held = False

    def run(self) -> tuple[dict[str, Any], list[int]] | None:
        """Serve until nobody holds it; in a fork return the request and the files that came with it."""
        while self._holding or not self._held:
            for key, _ in self._selector.select():
                if key.fileobj == self._woken:
                    os.read(self._woken, 4096)
                    self._tell()
                elif key.fileobj is self._listener:
                    if (found := self._accept()) is not None:
                        return found
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._gone(key.fileobj)
        for pid in self._asked:
            _kill(pid)
        return None

    def _accept(self) -> tuple[dict[str, Any], list[int]] | None:
        connection, _ = self._listener.accept()
        request, files = _receive(connection)
        if request is None:
            connection.close()
            return None
        if request["kind"] == HOLD:
            self._holding.add(connection)
            self._held = True
        else:
            pid = os.fork()
            if pid == 0:
                self._leave(connection)
                return request, files
            for file in files:
                os.close(file)
            self._asked[pid] = connection
            with contextlib.suppress(OSError):
                connection.sendall(struct.pack("<i", pid))
        self._selector.register(connection, selectors.EVENT_READ)
        return None

    def _leave(self, connection: socket.socket) -> None:
        """In a fork: nothing of the server is left, so that it notices who is gone."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for one in (self._listener, connection, *self._holding, *self._asked.values()):
            one.close()
        os.close(self._woken)
        os.close(self._waker)

    def _tell(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            connection = self._asked.pop(pid, None)
            if connection is not None:
                with contextlib.suppress(OSError):
                    connection.sendall(struct.pack("<i", os.waitstatus_to_exitcode(status)))
                self._close(connection)

    def _gone(self, connection: socket.socket) -> None:
        for pid, other in list(self._asked.items()):
            if other is connection:
                _kill(pid)
                del self._asked[pid]
        self._holding.discard(connection)
        self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection)
        connection.close()


def _receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    head, files, *_ = socket.recv_fds(connection, 8, _MOST)
    length = int.from_bytes(head, "little")
    content = b""
    while head and len(content) < length:
        piece = connection.recv(length - len(content))
        if not piece:
            return None, files
        content += piece
    return (marshal.loads(content) if head else None), list(files)


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # it may not have come to its own group yet
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


# -- in a fork ---------------------------------------------------------------------------------------------------------


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Take over what the asking process has."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    os.umask(request["umask"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    free = max([0, *request["files"], *files]) + 1
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, free) for file in files]
    for file in files:
        os.close(file)
    for file, number in zip(moved, request["files"], strict=True):
        os.dup2(file, number)
        os.close(file)
    _forget_what_is_done_at_exit()
    if request["files"]:
        _open_streams()
    import numpy as np
    from huggingface_hub import constants

    tempfile.tempdir = None
    np.random.seed()  # noqa: NPY002 - as at a start; a fork would go on from the same state as all others
    # these were read at the import
    if "matplotlib" in sys.modules and "MPLBACKEND" in os.environ:
        sys.modules["matplotlib"].rcParams["backend"] = os.environ["MPLBACKEND"]
    constants.HF_HUB_CACHE = os.environ.get("HF_HUB_CACHE", constants.HF_HUB_CACHE)
    constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE") == "1"


def _forget_what_is_done_at_exit() -> None:
    """What was imported has asked for it in the server, such as to remove a temporary folder that other forks need."""
    atexit._clear()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    for function in (logging.shutdown, multiprocessing.util._exit_function):
        atexit.register(function)


def _open_streams() -> None:
    """Standard streams as a start makes them: what they are, such as a pipe, decides how they behave."""
    raw = bool(os.environ.get("PYTHONUNBUFFERED"))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            stream = None
        else:
            errors = "backslashreplace" if name == "stderr" else "strict"
            buffered = os.fdopen(number, "wb" if number else "rb", 0 if raw and number else -1, closefd=False)
            terminal = os.isatty(number) or name == "stderr"
            stream = io.TextIOWrapper(
                buffered, errors=errors, line_buffering=terminal, write_through=raw and number > 0
            )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _program(executable: str, words: list[str], installed: list[str]) -> None:
    """Do what ``python WORDS`` does."""
    sys.executable, sys.orig_argv = executable, [executable, *words]
    multiprocessing.set_executable(executable)
    given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*given, *(path for path in installed if path not in given)]
    while words[0] in ("-W", "-B") or words[0].startswith("-X"):
        if words[0] == "-W":
            warnings._processoptions([words.pop(1)])  # type: ignore[attr-defined]
        words = words[1:]
    first, rest = words[0], words[1:]
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    if first == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.path.insert(0, "")
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    elif first == "-m":
        sys.argv = ["-m", *rest[1:]]
        sys.path.insert(0, os.getcwd())
        runpy._run_module_as_main(rest[0])  # type: ignore[attr-defined]
    else:
        sys.argv = [first, *rest]
        if not os.path.isdir(first):
            sys.path.insert(0, str(Path(first).resolve().parent))
        runpy.run_path(first, run_name="__main__")


def _call(pickled: bytes, paths: list[str]) -> None:
    sys.path[:] = paths
    function, arguments = pickle.loads(pickled)
    module, _, name = function.partition(":")
    getattr(importlib.import_module(module), name)(*arguments)


def _ended(run: Any, *arguments: Any) -> int:
    """Run it to the end of its process; return the status."""
    status = 0
    try:
        try:
            run(*arguments)
        finally:
            threading._shutdown()  # type: ignore[attr-defined]
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        status = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    return status & 0xFF


def main() -> None:
    """Serve, and run what is asked for in forks."""
    installed = [path for path in sys.path[1:] if path not in os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    sys.path[:] = [path for path in sys.argv[2].split(os.pathsep) if path]
    from rrsis_zoo.methods.registry import list_models

    for name in (*_IMPORTED, *(f"rrsis_zoo.methods.{name}.module" for name in list_models())):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is imported by now is no garbage
    found = Server(sys.argv[1]).run()
    if found is None:
        shutil.rmtree(Path(sys.argv[1]).parent)
        atexit._run_exitfuncs()
        os._exit(0)  # some libraries count at length what they have not given back
    request, files = found
    gc.enable()
    _become(request, files)
    if request["kind"] == CALL:
        status = _ended(_call, request["call"], request["paths"])
    else:
        status = _ended(_program, request["executable"], request["words"], installed)
    os._exit(status)


if __name__ == "__main__":
    main()
