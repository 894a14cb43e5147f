"""Reading and writing files: read within limits, written completely or not at all. No torch.

All JSON that the package reads and every file it writes goes through here, so that a damaged or hostile file raises
one of our own errors, and a failed write leaves neither a partial nor a temporary file behind.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError, OutputError, RRSISError

JSON_LIMIT = 512 * 2**20
"""Largest JSON file in bytes, compressed or not; RRSIS-D's published instances have 30 MB."""


# -- paths -------------------------------------------------------------------------------------------------------------


def expanded(path: str | Path) -> Path:
    """Return a path that a user named, with ``~``, ``~user`` and ``$VARIABLE`` expanded as in a shell.

    Options and YAML files arrive as written: a shell does not expand ``--root=~/data``.

    Raises:
        ConfigError: no such user or variable, and no file of exactly that name.
    """
    with_variables = os.path.expandvars(path)
    result = Path(os.path.expanduser(with_variables))  # Path.expanduser raises where there is no such user
    unknown = re.search(r"\$(\w+|\{\w+\})", with_variables) or re.match(r"~[^/]*", str(result))
    if unknown and not os.path.lexists(result):
        what = "variable" if unknown[0].startswith("$") else "user"
        raise ConfigError(f"{path}: there is no {what} {unknown[0]!r}; write out the path")
    return result


def dangling(path: str | Path) -> str:
    """Return what to add to "is missing" if a path is a broken link; an empty text otherwise."""
    try:
        target = os.readlink(path)
    except (OSError, ValueError):
        return ""
    return f" (it is a link to {target}, which does not exist: mount that disk, or fetch the file)"


# -- reading -----------------------------------------------------------------------------------------------------------


def regular_file(path: str | Path, error: type[RRSISError] = DataFormatError) -> Path:
    """Return the path of a file that can be read without blocking.

    Raises:
        MissingDataError: nothing is there, or a broken link.
        error: a folder, a named pipe, a device or a socket.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as cause:
        raise MissingDataError(f"there is no file {path}{dangling(path)}") from cause
    except (OSError, ValueError) as cause:  # no permission, a loop of links, a NUL in the name
        raise error(f"{path} cannot be read ({reason(cause)})") from cause
    if stat.S_ISDIR(mode):
        raise error(f"{path} is a folder; a file was expected")
    if not stat.S_ISREG(mode):
        raise error(f"{path} is a pipe, device or socket; a regular file was expected")
    return path


def read_bytes(path: str | Path, limit: int = JSON_LIMIT, error: type[RRSISError] = DataFormatError) -> bytes:
    """Return a file's bytes; a name that ends in ``.gz`` is decompressed.

    Args:
        path: of a regular file.
        limit: largest number of bytes, after decompression; checked before they are in memory.
        error: what is raised for a file that cannot be read.

    Raises:
        MissingDataError: there is no such file.
        error: not a regular file, larger than the limit, or damaged.
    """
    path = regular_file(path, error)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as cause:
        raise error(f"{path} cannot be read ({reason(cause)})") from cause
    if len(content) > limit:
        most = f"{limit / 2**20:,.0f} MiB" if limit >= 2**20 else f"{limit / 2**10:,.0f} KiB"
        raise error(f"{path} contains more than {most}, which is more than such a file can have")
    return content


def read_text(path: str | Path, limit: int = JSON_LIMIT, error: type[RRSISError] = DataFormatError) -> str:
    """Return a file's text; it must be UTF-8. Errors as `read_bytes`."""
    content = read_bytes(path, limit, error)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(f"{path} is not UTF-8 text (byte {content[cause.start]:#04x} at {cause.start})") from cause


def read_lines(path: str | Path, limit: int = JSON_LIMIT, error: type[RRSISError] = DataFormatError) -> list[str]:
    r"""Return a file's lines without their ends; a line ends only at ``\n`` (or ``\r\n``).

    ``str.splitlines`` would also break a sentence at U+2028, U+0085 and six other characters. Errors as `read_bytes`.
    """
    lines = read_text(path, limit, error).split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def each_line(
    path: str | Path, longest: int = 2**24, limit: int = JSON_LIMIT, error: type[RRSISError] = DataFormatError
) -> Iterator[str]:
    r"""Yield a file's lines as `read_lines` returns them, one at a time: only one is in memory.

    Args:
        path: of a regular file; decompressed if its name ends in ``.gz``.
        longest: largest number of bytes in a line.
        limit: largest number of bytes in the file, after decompression.
        error: what is raised for a file that cannot be read.

    Raises:
        MissingDataError: there is no such file.
        error: not a regular file, a line or the whole too long, damaged, or not UTF-8 text.
    """
    path = regular_file(path, error)
    number, total = 0, 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(longest + 1), b""), start=1):
                total += len(raw)
                if len(raw) > longest or total > limit:
                    raise error(f"{path}, line {number}: the file is larger than such a file can be")
                yield raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as cause:
        raise error(f"{path}, line {number}: not UTF-8 text (byte {cause.object[cause.start]:#04x})") from cause
    except (OSError, EOFError, zlib.error) as cause:
        raise error(f"{path} cannot be read ({reason(cause)})") from cause


def read_json(path: str | Path, limit: int = JSON_LIMIT, error: type[RRSISError] = DataFormatError) -> Any:
    """Return the content of a JSON file. Errors as `read_bytes`; text that is not JSON raises ``error`` too."""
    return parse_json(read_text(path, limit, error), str(path), error)


def parse_json(text: str, what: str, error: type[RRSISError] = DataFormatError) -> Any:
    """Return the value of a JSON text.

    Args:
        text: the text.
        what: where it is from, for error messages.
        error: what is raised.

    Raises:
        error: not JSON, nested too deeply, or a number with more digits than Python converts.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as cause:
        why = "it is nested too deeply" if isinstance(cause, RecursionError) else str(cause)
        raise error(f"{what} is not JSON ({why})") from cause


def reason(cause: BaseException) -> str:
    """Return in one line why an operation on a file failed, without the file's name."""
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return " ".join(str(cause).split()) or type(cause).__name__


# -- writing -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Write a file completely or not at all: the block writes to the path it is given, which then replaces the file.

    The temporary file is next to the target, with a unique name, so that several writers never share one, and with the
    target's suffix. It is flushed to disk before it replaces the target, and removed if anything fails. The target's
    folder is created.

    Raises:
        OutputError: the file cannot be written; an existing one is unchanged.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem[:100]}.{secrets.token_hex(8)}.part{path.suffix}")
    try:
        with cannot_write(path):
            if os.path.isdir(path):
                raise IsADirectoryError(None, "it is a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _to_disk(temporary)
            os.replace(temporary, path)
            _to_disk(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def cannot_write(path: str | Path) -> Iterator[None]:
    """Turn an operating system's error in the block into one that names the output.

    Raises:
        OutputError: the block raised an OSError.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of standard output is gone, which has nothing to do with this file
        raise
    except OSError as cause:
        where = "" if cause.filename in (None, str(path)) or ".part" in str(cause.filename) else f": {cause.filename}"
        raise OutputError(f"{path} cannot be written ({reason(cause)}{where})") from cause


def make_folder(path: str | Path) -> Path:
    """Create a folder for outputs, with its parents, and return it.

    Raises:
        OutputError: it cannot be created, or a file has its name.
    """
    path = Path(path)
    with cannot_write(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file completely or not at all; errors as `writing`."""
    with writing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    r"""Write a text as UTF-8, completely or not at all, with its line ends unchanged; errors as `writing`.

    A lone surrogate, which is not a character, is written as ``?``.
    """
    write_bytes(path, text.encode("utf-8", errors="replace"))


def write_json(path: str | Path, content: Any, indent: int | None = 1) -> None:
    """Write a value as JSON, completely or not at all; errors as `writing`."""
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False) + "\n")


def write_json_lines(path: str | Path, lines: Iterable[Any]) -> None:
    """Write one line of JSON per value, gzipped, completely or not at all; the same values give the same bytes.

    Raises:
        OutputError: the file cannot be written; an existing one is unchanged.
    """
    # no file name and no time in the header
    with (
        writing(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file,
    ):
        for line in lines:
            # a lone surrogate, which is not a character, becomes a question mark
            file.write((json.dumps(line, ensure_ascii=False) + "\n").encode(errors="replace"))


def link(source: str | Path, target: str | Path) -> None:
    """Give a file a second name, replacing what has that name; makes a copy where there are no hard links.

    Replacing one of the two later, as all writers here do, leaves the other unchanged.

    Raises:
        OutputError: the target cannot be written; an existing one is unchanged.
    """
    with writing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def remove_parts(folder: str | Path) -> None:
    """Remove temporary files that killed writers left in a folder.

    Call it only where nothing else writes: the file of a running writer looks the same.
    """
    for path in Path(folder).glob(".*.part*"):
        if _PART.fullmatch(path.name):
            with contextlib.suppress(OSError):  # another user's, or already gone
                path.unlink()


_PART = re.compile(r"\..+\.(?:[0-9a-f]{16}\.)?part(?:\.[\w-]+)?")


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
