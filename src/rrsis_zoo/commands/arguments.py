"""The parser of the commands without Lightning: its errors are one line, with the nearest name."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import NoReturn

from rrsis_zoo.errors import ConfigError


class Arguments(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` that raises an error instead of printing its usage and ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raise the error.

        Raises:
            ConfigError: always.
        """
        unknown = re.search(r"unrecognized arguments: (\S+)|invalid choice: '([^']*)' \(choose from (.*)\)", message)
        near = ""
        if unknown:
            given = unknown[1] or unknown[2]
            known = re.findall(r"[\w.-]+", unknown[3]) if unknown[3] else list(_options(self))
            close = get_close_matches(given.partition("=")[0], known, n=1)
            near = f" (did you mean {close[0]}?)" if close else ""
        message = message.removeprefix("argument : ")  # commands below this one have no name of their own
        raise ConfigError(f"{message}{near}; {self.prog} --help lists the options")


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the options of a parser and of the commands below it."""
    for action in parser._actions:
        yield from (option for option in action.option_strings if option.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _options(inner)


def divided(arguments: Sequence[str], wanted: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    """Divide arguments into some options with their values, and all others.

    Args:
        arguments: of a command; every wanted option has one value, as a word of its own or after ``=``.
        wanted: says of a word without what follows ``=`` whether it is one of these options.

    Returns:
        The wanted ones, and the others, each in their order.
    """
    mine: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for word in rest:
        name, equals, _ = word.partition("=")
        if not wanted(name):
            others.append(word)
        else:
            mine += [word] if equals else [word, *(value for value in [next(rest, None)] if value is not None)]
    return mine, others
