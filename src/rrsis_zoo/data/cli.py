"""``rrsis data make | verify | list | stats``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from rrsis_zoo.data.cards import SPLITS
from rrsis_zoo.data.sources import SOURCES, ReadOptions, locate, source
from rrsis_zoo.errors import unknown_name

_SPLITS = (*SPLITS, "all")


def run_data(arguments: Sequence[str]) -> int:
    """Run one of the commands; return its exit status.

    Raises:
        RRSISError: something the user can mend.
    """
    parser = argparse.ArgumentParser("rrsis data", description="Look at datasets and make the synthetic one.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (text, add, _) in _COMMANDS.items():
        add(commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + "."))
    if arguments and not arguments[0].startswith("-") and arguments[0] not in _COMMANDS:
        raise unknown_name("command of rrsis data", arguments[0], _COMMANDS)
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    return _COMMANDS[options.command][2](options)


# -- options that several commands have --------------------------------------------------------------------------------


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, help=", ".join(SOURCES))
    parser.add_argument("--root", help="folder of the dataset (default: datasets/<dataset>)")


def _splits(options: argparse.Namespace) -> tuple[Any, ...]:
    if options.split not in _SPLITS:
        raise unknown_name("split", options.split, _SPLITS)
    return SPLITS if options.split == "all" else (options.split,)


# -- list --------------------------------------------------------------------------------------------------------------


def _add_list(parser: argparse.ArgumentParser) -> None:
    _add_dataset(parser)
    parser.add_argument("--split", default="all", help=", ".join(_SPLITS))
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def _list(options: argparse.Namespace) -> int:
    from rrsis_zoo.data.describe import describe_record

    known, root = source(options.dataset), locate(options.dataset, options.root)
    for split in _splits(options):
        for record in known.read(root, split, ReadOptions()):
            said = describe_record(record)
            if options.json:
                print(json.dumps(said, ensure_ascii=False))
            else:
                mask = said["mask"]
                size = f"{mask['height']}x{mask['width']}"
                print(f"{record.sample_id}\t{size}\t{mask['pixel_count']}\t{record.category}\t{record.expression}")
    return 0


_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]] = {
    "list": ("print every sample of a split: ids, expression, category, mask in numbers", _add_list, _list),
}
