"""Checks what the pickle inside a torch file would do, before anything in it is built.

``torch.load(weights_only=True)`` calls only what it knows, which keeps foreign code from running. That is still enough
to exhaust memory or time: ``bytearray(10**11)``, a tensor class called with a size, a tuple nested so deeply that
hashing it overflows the stack, or one whose hash takes years. Weight files contain none of these. Here a pickle is
followed step by step, with placeholders for the objects that it would build, and only what torch itself writes for
tensors in plain containers is accepted.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import torch


class Refused(Exception):
    """A refused pickle; the text names the offending content, or is empty if the pickle is damaged."""


@dataclass(frozen=True)
class _Named:
    """A function or type that the pickle names."""

    name: str


@dataclass(frozen=True, eq=False)
class _Made:
    """An object that would be built: ``dict``, ``storage``, or the result of a named function."""

    what: str


SETTINGS = "argparse.Namespace"
"""The only class with a state of its own that is read: training programs keep their options in it, beside the weights.
It is a bag of the values around it and runs nothing."""

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_ENCODINGS = ("latin1", "latin-1", "ascii", "utf-8", "utf8")
_REBUILT = (
    "_rebuild_tensor",
    "_rebuild_tensor_v2",
    "_rebuild_tensor_v3",
    "_rebuild_parameter",
    "_rebuild_parameter_with_state",
)


def examine(file: IO[bytes], largest: int) -> None:
    """Follow one pickle to its end; the file's position is then after it.

    Args:
        file: at the pickle's first byte; a read past its end must return the bytes up to the end.
        largest: most numbers that a tensor's storage may have.

    Raises:
        Refused: it contains more than tensors in plain containers, requests more memory than the file can fill, or is
            damaged.
    """
    follower = _Follower(largest)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            follower.follow(opcode.name, argument)
    except Refused:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise Refused("") from error


class _Follower:
    """The unpickler's stack and memo, with placeholders."""

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def follow(self, name: str, argument: Any) -> None:
        """Carry out one operation."""
        stack = self.stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name](argument))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marked.append(stack)
            self.stack = []
        elif name == "TUPLE":
            items = self._since_mark()
            self.stack.append(tuple(items))
        elif name in _TUPLES:
            size = _TUPLES[name]
            stack[-size:] = [tuple(stack[-size:])]
        elif name == "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        elif name == "APPENDS":
            items = self._since_mark()
            self.stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._since_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            self._check_keys(items[::2])
        elif name == "GLOBAL":
            stack.append(_named(argument))
        elif name == "REDUCE":
            arguments, called = stack.pop(), stack.pop()
            self._check_call(called, arguments)
            stack.append(_Made(called.name))
        elif name == "BUILD":
            state = stack.pop()
            kind = stack[-1].what if isinstance(stack[-1], _Made) else ""
            if kind not in ("collections.OrderedDict", SETTINGS) or (kind == SETTINGS and _what(state) != "dict"):
                raise Refused(f"{_what(stack[-1])} with a state of its own")
        elif name == "BINPERSID":
            self._check_storage(stack.pop())
            stack.append(_Made("storage"))
        elif name == "NEWOBJ":
            arguments, called = stack.pop(), stack.pop()
            if not (isinstance(called, _Named) and called.name == SETTINGS and arguments == ()):
                raise Refused(_what(called))
            stack.append(_Made(SETTINGS))
        elif name == "STACK_GLOBAL":
            # from later protocols, which torch neither writes nor reads; for the name in the error
            raise Refused(_named(f"{stack[-2]} {stack[-1]}").name)
        elif name not in ("PROTO", "STOP", "FRAME", "MEMOIZE"):
            raise Refused("")

    def _since_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.marked.pop()
        return items

    def _check_keys(self, keys: list[Any]) -> None:
        if any(type(key) not in _PLAIN for key in keys):
            raise Refused(f"a dict with {_what(next(k for k in keys if type(k) not in _PLAIN))} as a key")

    def _check_call(self, called: Any, arguments: Any) -> None:
        if not isinstance(called, _Named) or called.name not in _CALLED:
            raise Refused(_what(called))
        if not _CALLED[called.name](arguments):
            raise Refused(f"{_short(called.name)} with arguments that torch does not write")

    def _check_storage(self, identifier: Any) -> None:
        if not (isinstance(identifier, tuple) and len(identifier) >= 5 and identifier[0] in ("storage", b"storage")):
            raise Refused("")
        if type(identifier[4]) is not int or not 0 <= identifier[4] <= self.largest:
            raise Refused(f"a storage of {identifier[4]!r} numbers, more than fit into the file")


def _named(argument: str) -> _Named:
    module, _, leaf = argument.partition(" ")
    name = f"{module}.{leaf}"
    known = torch.__dict__.get(leaf) if module == "torch" else None
    storage = module in ("torch", "torch.storage", "torch.cuda") and leaf.endswith("Storage")
    if not (name in _CALLED or name == SETTINGS or storage or isinstance(known, torch.dtype)):
        raise Refused(_short(name))
    return _Named(name)


def _short(name: str) -> str:
    return name.removeprefix("builtins.").removeprefix("__builtin__.")


def _what(value: Any) -> str:
    return value.name if isinstance(value, _Named) else value.what if isinstance(value, _Made) else type(value).__name__


def _plain_list(arguments: Any) -> bool:
    """Return whether the arguments are one list of plain values, or none, as for a set or a counter."""
    return arguments == () or (
        len(arguments) == 1 and isinstance(arguments[0], list) and all(type(v) in _PLAIN for v in arguments[0])
    )


def _encoded(arguments: Any) -> bool:
    return len(arguments) == 2 and arguments[1] in _ENCODINGS


def _anything(arguments: Any) -> bool:
    return isinstance(arguments, tuple)


def _numbers(arguments: Any) -> bool:
    return isinstance(arguments, tuple) and all(type(v) in (int, float, str, tuple) for v in arguments)


_CALLED: dict[str, Callable[[Any], bool]] = {
    "collections.OrderedDict": lambda arguments: arguments == (),
    "collections.Counter": lambda arguments: (
        _plain_list(arguments) or (len(arguments) == 1 and _what(arguments[0]) == "dict")
    ),
    "builtins.set": _plain_list,
    "__builtin__.set": _plain_list,
    "builtins.complex": _numbers,
    "__builtin__.complex": _numbers,
    "_codecs.encode": _encoded,
    "torch.Size": _numbers,
    "torch.device": _numbers,
    **{f"torch._utils.{name}": _anything for name in _REBUILT},
}
"""What a weight file may call, and with which arguments; torch's own list is longer."""

_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_CONSTANTS: dict[str, Callable[[Any], Any]] = {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: _Made("dict"),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINSTRING", "LONG1"),
        lambda value: value,
    ),
}
