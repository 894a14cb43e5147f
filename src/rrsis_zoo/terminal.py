"""A command at its terminal: output in any locale, errors in one line, exit statuses. No heavy imports."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

from rrsis_zoo.errors import RRSISError

FIXABLE = 2
"""Exit status after an error that the user can fix."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as a shell reports SIGINT (128 + 2)."""

NO_READER = 141
"""Exit status if the reader of the output is gone, as a shell reports it (128 + SIGPIPE)."""

_DISK = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO))
"""Errors of a disk, never caused by a bug of ours."""

_FILES = _DISK | {
    errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
    errno.ESTALE, errno.EMFILE, errno.ENFILE,
}  # fmt: skip
"""File system errors that the user can fix if a file is named."""


def guarded(command: Callable[[], int]) -> int:
    """Run a command as ``rrsis`` does and return its exit status.

    Errors that a user can fix are printed as one line, with status `FIXABLE`: our own, and those of the operating
    system and of memory, wherever they were raised. Several missing files are a list, with the command that fetches a
    file on its own line. Other errors are bugs and propagate.

    Args:
        command: runs and returns its exit status.
    """
    prepare_streams()
    try:
        try:
            return command()
        finally:  # also when a parser exits after its help
            sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_is_gone():  # another pipe, such as that of a loading process
            raise
        return NO_READER
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        line = explained(error)
        if line is None:
            raise
        parts = next((cause.parts for cause in _chain(error) if isinstance(cause, RRSISError)), ())
        if parts:
            _say(f"{len(parts)} things are missing:")
            for part in parts:
                _print(f"  {_one_line(part.what)}")
                if part.mend:
                    _print(f"      {_one_line(part.mend)}")
        else:
            _say(line)
        return FIXABLE


def prepare_streams() -> None:
    """Make standard output and error work in any locale, here and in child processes.

    A character that the encoding lacks becomes a question mark (in errors: its code). A closed stream is replaced by
    one that discards everything; otherwise the next file to be opened would take its place.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # open for the life of the process
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):  # a notebook or a test installs something else
            stream.reconfigure(errors=errors)
    os.environ["PYTHONIOENCODING"] = f"{sys.stdout.encoding or 'utf-8'}:replace"


def explained(error: BaseException) -> str | None:
    """Return one line about an error that the user can fix, None for a bug."""
    for cause in _chain(error):
        if isinstance(cause, RRSISError):
            return _of_process(str(cause))
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in _FILES and cause.filename is not None:
            other = f" (and {os.fsdecode(cause.filename2)})" if isinstance(cause.filename2, str | bytes) else ""
            return f"{_name(cause.filename)}{other} cannot be read or written ({cause.strerror})"
        if isinstance(cause, OSError) and cause.errno in _DISK:
            # without a buffer (PYTHONUNBUFFERED) there is nothing left to try it with
            what = "standard output" if _cannot_flush() else "an output, perhaps standard output,"
            return f"{what} cannot be written ({cause.strerror})"
        if isinstance(cause, MemoryError):
            return f"there is not enough memory{f' ({cause})' if str(cause) else ''}"
    if not isinstance(error, Exception):  # raised by a library in another language
        return f"a library failed ({type(error).__name__}: {error}): a file that it was reading is probably damaged"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and all its causes, explicit or not: jsonargparse wraps what a constructor raises."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its explicit causes: a bug met while handling another error is still a bug."""
    while error is not None:
        yield error
        error = error.__cause__


def _of_process(text: str) -> str:
    """Return the message without a loading process's traceback, which torch puts in front of it."""
    if "Original Traceback (most recent call last):" not in text:
        return text
    return text.strip().splitlines()[-1].partition(": ")[2]


def _name(filename: object) -> str:
    return os.fsdecode(filename) if isinstance(filename, str | bytes | os.PathLike) else f"descriptor {filename}"


def _say(text: str) -> None:
    """Print one line to standard error."""
    _print(f"rrsis: {_one_line(text)}")


def _one_line(text: str) -> str:
    """Return a text in one printable line, whatever it contains: a file name may be anything."""
    line = "".join(c if c.isprintable() else " " if c.isspace() else repr(c)[1:-1] for c in text)
    return " ".join(line.split())


def _print(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def _cannot_flush() -> bool:
    """Return whether standard output cannot be written; its buffer is discarded then."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard(sys.stdout)
        return True
    return False


def _reader_is_gone() -> bool:
    """Return whether standard output is a pipe whose reader is gone, as in ``rrsis models | head``."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    _discard(sys.stdout)
    return True


def _discard(stream: TextIO) -> None:
    """Redirect a stream to nowhere: Python flushes its buffer at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
