"""Pickles of plain values from the internet: read without running any of their code, and within their own size.

A pickle is a program. Two of its powers are dangerous: to call what it names, which is refused here, and to have
memory taken for lengths and numbers that it merely states (nine bytes can ask for gigabytes), which is why every
instruction is looked at before the first is followed.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.files import read_bytes

LIMIT = 256 * 2**20
"""Bytes that such a file may have; RRSIS-D's references have about 10 MB."""
MOST = 20_000_000
"""Instructions that such a file may have; RRSIS-D's references have about two million."""

_ARGUMENT = {ord(op.code): op.arg.n if op.arg else 0 for op in pickletools.opcodes}
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_TWO_LINES = {ord("c"), ord("i")}  # GLOBAL, INST
_KEPT_BY_NUMBER = {ord("q"): 1, ord("r"): 4}  # BINPUT, LONG_BINPUT
_KEPT_BY_TEXT = ord("p")  # PUT
_FRAME, _STOP = 0x95, ord(".")
_OLD_TEXT = {ord("S"), ord("T"), ord("U")}  # strings of Python 2, which are bytes

# All the ways in which a damaged pickle was seen to fail.
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
    """Return what a pickle of lists, dictionaries, tuples, texts and numbers holds.

    Byte strings of Python 2 become texts: each is taken for UTF-8, and where it is none for Latin-1.

    Raises:
        MissingDataError: there is no such file.
        DataFormatError: no regular file, damaged, too large, or anything but plain values.
    """
    content = read_bytes(path, LIMIT)
    try:
        old = _look_through(content)
        if not old:
            return _PlainUnpickler(io.BytesIO(content)).load()
        loaded = _PlainUnpickler(io.BytesIO(content), encoding="utf-8", errors="surrogateescape").load()
    except _DAMAGED as error:
        why = str(error) or type(error).__name__
        raise DataFormatError(f"{path}: cannot be read as a pickle of plain values ({why})") from error
    return _latin(loaded) if isinstance(loaded, list | dict) else loaded


class _PlainUnpickler(pickle.Unpickler):
    """Unpickler of plain values only: whatever would have to be imported is refused, so no code can run."""

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}; only plain Python values are read")


def _look_through(content: bytes) -> bool:
    """Check what the instructions ask for; return whether there is a Python 2 string that is not ASCII.

    Raises:
        ValueError: an unknown instruction, too many, a length beyond the file, or a place in the memory beyond all that
            the file can have filled.
    """
    at, end, old = 0, len(content), False
    for _ in range(MOST):
        if at >= end:
            raise ValueError("it is cut short")
        code = content[at]
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
            place = content[start : at - 1]
            if code == _KEPT_BY_TEXT and not (place.isdigit() and len(place) < 12 and int(place) <= start):
                raise ValueError("it keeps a value at a place that the file cannot have reached")
        elif size < 0:
            width = _LENGTHS[size]
            at += width + int.from_bytes(content[at : at + width], "little")
        else:
            # the places are numbered as they are filled, and filling one takes two bytes at least
            if code in _KEPT_BY_NUMBER and int.from_bytes(content[at : at + size], "little") > start:
                raise ValueError("it keeps a value at a place that the file cannot have reached")
            if code == _FRAME and at + size + int.from_bytes(content[at : at + size], "little") > end:
                raise ValueError("it is cut short")
            at += size
        if at > end:
            raise ValueError("it is cut short")
        if code in _OLD_TEXT:
            old = old or not content[start:at].isascii() or b"\\x" in content[start:at]
        if code == _STOP:
            return old
    raise ValueError(f"it has more than {MOST:,} instructions")


def _latin(top: Any) -> Any:
    """Replace the texts that were no UTF-8, in place, wherever they stand as values of lists and dictionaries."""
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
    except UnicodeEncodeError:  # a half character of another kind: the reader says so
        return text
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")
