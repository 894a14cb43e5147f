"""Untrusted pickles of plain values: read without running their code, in memory proportional to their size.

A pickle is a program. Two of its powers are dangerous: calling what it names, which is refused here, and allocating
memory for lengths and numbers that it merely states (nine bytes can ask for gigabytes), which is why every instruction
is checked before the first is executed.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.files import read_bytes, reason

LIMIT = 256 * 2**20
"""Most bytes of such a file; RRSIS-D's references have about 10 MB."""
MOST = 20_000_000
"""Most instructions of such a file; RRSIS-D's references have about two million."""

_ARGUMENT = {ord(op.code): op.arg.n if op.arg else 0 for op in pickletools.opcodes}
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_TWO_LINES = {ord("c"), ord("i")}  # GLOBAL, INST
_KEPT_BY_NUMBER = {ord("q"), ord("r")}  # BINPUT, LONG_BINPUT
_KEPT_BY_TEXT = ord("p")  # PUT
_FRAME, _STOP = 0x95, ord(".")
_OLD_TEXT = {ord("S"), ord("T"), ord("U")}  # Python 2 strings, which are bytes
_CHECKED = {*_TWO_LINES, *_KEPT_BY_NUMBER, _KEPT_BY_TEXT, _FRAME, _STOP, *_OLD_TEXT}
# lengths of the instructions that need no check; 0 for all others
_STEPS = [1 + size if (size := _ARGUMENT.get(code, -1)) >= 0 and code not in _CHECKED else 0 for code in range(256)]

# Every way in which a damaged pickle has been seen to fail.
_DAMAGED = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RecursionError,
    SystemError,
)


def read_plain_pickle(path: Path) -> Any:
    """Return the content of a pickle of lists, dictionaries, tuples, texts and numbers.

    Python 2 byte strings become texts: each is decoded as UTF-8 or, if that fails, as Latin-1.

    Raises:
        MissingDataError: there is no such file.
        DataFormatError: not a regular file, damaged, too large, or not plain values only.
    """
    content = read_bytes(path, LIMIT)
    try:
        old = _look_through(content)
        if not old:
            return _PlainUnpickler(io.BytesIO(content)).load()
        loaded = _PlainUnpickler(io.BytesIO(content), encoding="utf-8", errors="surrogateescape").load()
    except _DAMAGED as error:
        raise DataFormatError(f"{path}: cannot be read as a pickle of plain values ({reason(error)})") from error
    return _latin(loaded) if isinstance(loaded, list | dict) else loaded


class _PlainUnpickler(pickle.Unpickler):
    """Unpickler of plain values only: anything that needs an import is refused, so no code can run."""

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it refers to {module_name}.{global_name}; only plain Python values are read")


def _look_through(content: bytes) -> bool:
    """Check the instructions; return whether there is a Python 2 string that is not ASCII.

    Raises:
        ValueError: an unknown instruction, too many, a length beyond the file, or a memo slot that the file cannot have
            reached.
    """
    at, end, old = 0, len(content), False
    for _ in range(MOST):
        if at >= end:
            raise ValueError("it is cut short")
        code = content[at]
        if step := _STEPS[code]:  # most instructions: nothing to check
            at += step
            continue
        size = _ARGUMENT.get(code)
        start = at = at + 1
        if size is None:
            raise ValueError(f"it holds the byte {code:#04x} where an instruction should be")
        if size == pickletools.UP_TO_NEWLINE:
            at = content.find(b"\n", at) + 1
            if code in _TWO_LINES and at:
                at = content.find(b"\n", at) + 1
            if not at:
                raise ValueError("it is cut short")
            if code == _KEPT_BY_TEXT and not _is_place(content[start : at - 1], start):
                raise ValueError(_TOO_FAR)
        elif size < 0:
            width = _LENGTHS[size]
            at += width + int.from_bytes(content[at : at + width], "little")
        else:
            value = int.from_bytes(content[at : at + size], "little")
            at += size
            if code in _KEPT_BY_NUMBER and value > start:
                raise ValueError(_TOO_FAR)
            if code == _FRAME and at + value > end:
                raise ValueError("it is cut short")
        if at > end:
            raise ValueError("it is cut short")
        if code in _OLD_TEXT:
            old = old or not content[start:at].isascii() or b"\\x" in content[start:at]
        if code == _STOP:
            return old
    raise ValueError(f"it has more than {MOST:,} instructions")


_TOO_FAR = "it stores a value in a slot that the file cannot have reached"


def _is_place(text: bytes, start: int) -> bool:
    """Return whether a memo slot can have been reached: they are numbered as filled, by at least two bytes each."""
    return text.isdigit() and len(text) < 12 and int(text) <= start


def _latin(top: Any) -> Any:
    """Replace, in place, the texts that were not UTF-8 among the values of lists and dictionaries."""
    waiting, seen = [top], set()
    while waiting:
        holder = waiting.pop()
        if id(holder) in seen:
            continue
        seen.add(id(holder))
        for key, value in enumerate(holder) if isinstance(holder, list) else list(holder.items()):
            if isinstance(value, str) and not value.isascii():
                holder[key] = _utf8_or_latin1(value)
            elif isinstance(value, list | dict):
                waiting.append(value)
    return top


def _utf8_or_latin1(text: str) -> str:
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # another kind of lone surrogate: the reader reports it
        return text
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")
