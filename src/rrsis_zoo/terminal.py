"""How a command meets its terminal: output in any locale, errors in one line, status codes. Nothing heavy here."""

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

MENDABLE = 2
"""Status of a command that ended with something the user can mend."""

INTERRUPTED = 130
"""Status after Ctrl-C: what a shell reports for SIGINT (128 + 2)."""

NO_READER = 141
"""Status where nobody read the output any more, as a shell reports it (128 + SIGPIPE)."""

_DISK = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO))
"""Errors of a disk: no defect of ours makes them."""

_FILES = _DISK | {
    errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
    errno.ESTALE, errno.EMFILE, errno.ENFILE,
}  # fmt: skip
"""Errors of a file system that the user can mend where a file is named."""


def guarded(command: Callable[[], int]) -> int:
    """Run a command as ``rrsis`` does and return its exit status.

    What a user can mend is printed as one line, with status `MENDABLE`: our own errors, and those of the operating
    system and of memory that come through from wherever they were raised. Other errors are defects and pass.

    Args:
        command: what runs, and returns its status.
    """
    prepare_streams()
    try:
        try:
            return command()
        finally:  # also where a parser ends the program after its help
            sys.stdout.flush()
    except BrokenPipeError:
        if not _nobody_reads():  # another pipe, say of a loading process
            raise
        return NO_READER
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        said = explained(error)
        if said is None:
            raise
        _say(said)
        return MENDABLE


def prepare_streams() -> None:
    """Have standard output and errors show what they can in any locale, here and in processes that are started.

    A letter that the encoding does not have becomes a question mark (in errors: its code). A stream that is closed
    takes everything and shows nothing; else the next file that is opened would take its place.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # as long as the process
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):  # a notebook or a test puts something else there
            stream.reconfigure(errors=errors)
    os.environ["PYTHONIOENCODING"] = f"{sys.stdout.encoding or 'utf-8'}:replace"


def explained(error: BaseException) -> str | None:
    """Return one line that says what the user can mend, None for a defect."""
    for cause in _chain(error):
        if isinstance(cause, RRSISError):
            return _of_process(str(cause))
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in _FILES and cause.filename is not None:
            other = f" (and {os.fsdecode(cause.filename2)})" if isinstance(cause.filename2, str | bytes) else ""
            return f"{_name(cause.filename)}{other} cannot be read or written ({cause.strerror})"
        if isinstance(cause, OSError) and cause.errno in _DISK:
            # without a buffer (PYTHONUNBUFFERED) nothing is left to try it with
            what = "the standard output" if _cannot_flush() else "an output, perhaps the standard output,"
            return f"{what} cannot be written ({cause.strerror})"
        if isinstance(cause, MemoryError):
            return f"there is not enough memory{f' ({cause})' if str(cause) else ''}"
    if not isinstance(error, Exception):  # a library in another language that gave up
        return f"a library gave up ({type(error).__name__}: {error}): a file that it was reading is probably damaged"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came from, also where nobody said so: jsonargparse wraps what a constructor raises."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was said to come from: a defect that is found on the way out of another is one."""
    while error is not None:
        yield error
        error = error.__cause__


def _of_process(text: str) -> str:
    """Return a message alone: torch puts a loading process's traceback in front of it."""
    if "Original Traceback (most recent call last):" not in text:
        return text
    return text.strip().splitlines()[-1].partition(": ")[2]


def _name(filename: object) -> str:
    return os.fsdecode(filename) if isinstance(filename, str | bytes | os.PathLike) else f"descriptor {filename}"


def _say(text: str) -> None:
    """Print one line to the standard errors, whatever the text holds: a file's name may be anything."""
    line = "".join(c if c.isprintable() else " " if c.isspace() else repr(c)[1:-1] for c in text)
    try:
        print(f"rrsis: {' '.join(line.split())}", file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def _cannot_flush() -> bool:
    """Tell whether the standard output cannot be written; what it holds is given up then."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard(sys.stdout)
        return True
    return False


def _nobody_reads() -> bool:
    """Tell whether the standard output is a pipe whose reader is gone, as in ``rrsis models | head``."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    _discard(sys.stdout)
    return True


def _discard(stream: TextIO) -> None:
    """Let a stream lead nowhere: Python writes what is left in it when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
