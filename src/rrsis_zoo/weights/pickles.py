"""What the pickle inside a torch file would do, found out before anything is made of it.

``torch.load(weights_only=True)`` calls nothing but what it knows, and that is what keeps strangers' code from running.
What it knows is enough to take the memory or the machine's time all the same: ``bytearray(10**11)``, a tensor class
called with a size, a tuple that is nested until hashing it overflows the stack, one whose hash takes years. Files of
weights hold none of these. Here a pickle is followed step by step, with stand-ins for all that it would make, and only
what torch itself writes for tensors in plain containers is let through.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import torch


class Refused(Exception):
    """A pickle that is not followed further; the text says what it holds, or is empty for a damaged one."""


@dataclass(frozen=True)
class _Named:
    """A function or type that the pickle names."""

    name: str


@dataclass(frozen=True, eq=False)
class _Made:
    """Something that would be made: ``dict``, ``storage``, or what a named function returns."""

    what: str


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
    """Follow one pickle to its end, where the file then stands.

    Args:
        file: at the pickle's first byte; it must answer a request for more bytes than there are with those there are.
        largest: numbers that a tensor's storage may have.

    Raises:
        Refused: it names what is no part of tensors in plain containers, asks for more memory than the file can fill,
            or is damaged.
    """
    follower = _Follower(largest)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            follower.follow(opcode.name, argument)
    except Refused:
        raise
    except Exception as error:  # a damaged pickle fails in any way
        raise Refused("") from error


class _Follower:
    """The unpickler's stack and memo, with stand-ins."""

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def follow(self, name: str, argument: Any) -> None:
        """Do what one operation does."""
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
            given, called = stack.pop(), stack.pop()
            self._check_call(called, given)
            stack.append(_Made(called.name))
        elif name == "BUILD":
            stack.pop()
            if not (isinstance(stack[-1], _Made) and stack[-1].what == "collections.OrderedDict"):
                raise Refused(f"{_what(stack[-1])} with a state of its own")
        elif name == "BINPERSID":
            self._check_storage(stack.pop())
            stack.append(_Made("storage"))
        elif name == "NEWOBJ":
            raise Refused(_what(stack[-2]))
        elif name == "STACK_GLOBAL":  # of later protocols, which torch neither writes nor reads: to name what it is
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

    def _check_call(self, called: Any, given: Any) -> None:
        if not isinstance(called, _Named) or called.name not in _CALLED:
            raise Refused(_what(called))
        if not _CALLED[called.name](given):
            raise Refused(f"{_short(called.name)} of something else than torch gives it")

    def _check_storage(self, said: Any) -> None:
        if not (isinstance(said, tuple) and len(said) >= 5 and said[0] in ("storage", b"storage")):
            raise Refused("")
        if type(said[4]) is not int or not 0 <= said[4] <= self.largest:
            raise Refused(f"a storage of {said[4]!r} numbers, which the file has not room for")


def _named(argument: str) -> _Named:
    module, _, leaf = argument.partition(" ")
    name = f"{module}.{leaf}"
    known = torch.__dict__.get(leaf) if module == "torch" else None
    storage = module in ("torch", "torch.storage", "torch.cuda") and leaf.endswith("Storage")
    if not (name in _CALLED or storage or isinstance(known, torch.dtype)):
        raise Refused(_short(name))
    return _Named(name)


def _short(name: str) -> str:
    return name.removeprefix("builtins.").removeprefix("__builtin__.")


def _what(value: Any) -> str:
    return value.name if isinstance(value, _Named) else value.what if isinstance(value, _Made) else type(value).__name__


def _plain_list(given: Any) -> bool:
    """Whether arguments are one list of plain values, or none: what a set or a counter may be made of."""
    return given == () or (len(given) == 1 and isinstance(given[0], list) and all(type(v) in _PLAIN for v in given[0]))


def _encoded(given: Any) -> bool:
    return len(given) == 2 and given[1] in _ENCODINGS


def _anything(given: Any) -> bool:
    return isinstance(given, tuple)


def _numbers(given: Any) -> bool:
    return isinstance(given, tuple) and all(type(v) in (int, float, str, tuple) for v in given)


_CALLED: dict[str, Callable[[Any], bool]] = {
    "collections.OrderedDict": lambda given: given == (),
    "collections.Counter": lambda given: _plain_list(given) or (len(given) == 1 and _what(given[0]) == "dict"),
    "builtins.set": _plain_list,
    "__builtin__.set": _plain_list,
    "builtins.complex": _numbers,
    "__builtin__.complex": _numbers,
    "_codecs.encode": _encoded,
    "torch.Size": _numbers,
    "torch.device": _numbers,
    **{f"torch._utils.{name}": _anything for name in _REBUILT},
}
"""What a file of weights may call, and with what; torch's own list is longer."""

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
