"""``rrsis data make | verify | list | stats``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rrsis_zoo.commands.arguments import Arguments
from rrsis_zoo.data.cards import SPLITS
from rrsis_zoo.data.limits import LITERATURE, TokenCounter
from rrsis_zoo.data.sentences import visible
from rrsis_zoo.data.sources import SOURCES, ReadOptions, locate, source
from rrsis_zoo.errors import ConfigError, unknown_name
from rrsis_zoo.files import expanded
from rrsis_zoo.methods.registry import methods

_SPLITS = (*SPLITS, "all")


def run_data(arguments: Sequence[str]) -> int:
    """Run one of the commands; return its exit status.

    Raises:
        RRSISError: an error that the user can fix.
    """
    parser = Arguments("rrsis data", description="Inspect datasets and generate the synthetic one.")
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


# -- options shared by several commands --------------------------------------------------------------------------------


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, help=", ".join(SOURCES))
    parser.add_argument("--root", help="folder of the dataset (default: datasets/<dataset>)")
    parser.add_argument(
        "--threshold", type=int, help="foreground is above this grey level (default: the dataset's own rule)"
    )


def _reading(options: argparse.Namespace) -> ReadOptions:
    return ReadOptions(threshold=options.threshold)


def _splits(options: argparse.Namespace) -> tuple[Any, ...]:
    if options.split not in _SPLITS:
        raise unknown_name("split", options.split, _SPLITS)
    return SPLITS if options.split == "all" else (options.split,)


# -- list --------------------------------------------------------------------------------------------------------------


def _add_list(parser: argparse.ArgumentParser) -> None:
    _add_dataset(parser)
    parser.add_argument("--split", default="all", help=", ".join(_SPLITS))
    parser.add_argument("--json", action="store_true", help="one JSON object per line")


def _list(options: argparse.Namespace) -> int:
    from rrsis_zoo.data.describe import describe_record

    known, root = source(options.dataset), locate(options.dataset, options.root)
    try:
        for split in _splits(options):
            for record in known.read(root, split, _reading(options)):
                described = describe_record(record)
                print(json.dumps(described) if options.json else _row(described), flush=True)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _row(described: dict[str, Any]) -> str:
    mask = described["mask"]
    size = f"{mask['height']}x{mask['width']}"
    row = (described["sample_id"], size, mask["pixel_count"], described["category"], described["expression"])
    return "\t".join(visible(str(value)) for value in row)


# -- verify ------------------------------------------------------------------------------------------------------------


def _add_verify(parser: argparse.ArgumentParser) -> None:
    _add_dataset(parser)
    parser.add_argument(
        "--manifest", type=expanded, help="file of hashes: written if missing, else compared with the files"
    )
    parser.add_argument("--part", action="store_true", help="a part of the dataset: do not expect the published counts")
    parser.add_argument("--all", action="store_true", help="list every occurrence, not just the first five")
    parser.add_argument(
        "--tokenizer",
        action="append",
        default=[],
        metavar="METHOD=FILE",
        help="count tokens with the method's own tokenizer",
    )


def _verify(options: argparse.Namespace) -> int:
    from rrsis_zoo.data.verify import verify

    root = locate(options.dataset, options.root)
    report = verify(
        options.dataset,
        root,
        complete=not options.part,
        reading=_reading(options),
        manifest=options.manifest,
        limits=LITERATURE | {name: known.card.text for name, known in methods().items() if known.card.text},
        counters=dict(map(_token_counter, options.tokenizer)),
    )
    print(report.text(sys.maxsize if options.all else 5))
    return 0 if report.passed else 1


def _token_counter(option: str) -> tuple[str, TokenCounter]:
    """Return a method and the counter of the tokenizer that ``METHOD=FILE`` names.

    Raises:
        ConfigError: a method without a published tokenizer, or a file that cannot be read as one.
    """
    name, _, file = option.partition("=")
    published = {name: known for name, known in methods().items() if known.card.official}
    if name not in published:
        raise unknown_name("method in --tokenizer METHOD=FILE", name, published)
    path, limit = expanded(file), published[name].card.text
    if not os.path.exists(path):
        raise ConfigError(f"--tokenizer {option}: no file {file!r}; give the tokenizer's file as METHOD=FILE")
    tokenizer = published[name].model().tokenizer_kind.from_file(path, limit.tokens if limit else sys.maxsize)
    return name, lambda expression: tokenizer.lengths([expression])[0]


# -- stats -------------------------------------------------------------------------------------------------------------


def _add_stats(parser: argparse.ArgumentParser) -> None:
    _add_dataset(parser)
    parser.add_argument("--split", default="all", help=", ".join(_SPLITS))
    parser.add_argument("--figure", type=expanded, help="also write a figure (.png, .pdf or .svg)")
    parser.add_argument(
        "--ceilings", action="store_true", help="also the scores of the true masks on each method's output grid"
    )


def _stats(options: argparse.Namespace) -> int:
    from rrsis_zoo.data.scenes import share_scenes
    from rrsis_zoo.data.stats import FIGURES, ceilings_text, figure, statistics, text

    if options.figure is not None and options.figure.suffix.lower() not in FIGURES:
        raise ConfigError(f"--figure {options.figure}: name it with one of {', '.join(FIGURES)}")
    known, root = source(options.dataset), locate(options.dataset, options.root)
    counts, records = {}, {}
    for split in _splits(options):
        records[split] = known.read(root, split, _reading(options))
        if known.copies:
            records[split] = share_scenes(root, records[split])
        counts[split] = statistics(records[split], f"{split}: masks decoded")
    print(text(counts), flush=True)  # before the lines about what comes next
    if options.figure is not None:
        figure(counts, f"{options.dataset} in {root}", options.figure)
        print(f"figure: {options.figure}")
    if options.ceilings:
        from rrsis_zoo.data.ceilings import ceilings

        grids = {name: known.card.grid for name, known in methods().items() if known.card.grid}
        for split, some in records.items():
            what = f"{split}: masks put through the output grids"
            scores = ceilings(some, grids, with_median=options.dataset == "rrsis-d", what=what)
            print(f"\n{split}: what a perfect prediction scores, %\n{ceilings_text(scores)}", flush=True)
    return 0


# -- make --------------------------------------------------------------------------------------------------------------


def _add_make(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root", help="folder to create (default: datasets/synthetic; datasets/scenes for the layout scene)"
    )
    parser.add_argument(
        "--layout",
        default="rrsis-d",
        help="rrsis-d, refsegrs or risbench, or scene: georeferenced rasters of 512 to 4096 px with the truth as a "
        "vector layer (default: %(default)s)",
    )
    parser.add_argument("--scenes", type=int, help="scenes in all splits together (default: 1500; scene: 4)")
    parser.add_argument("--size", type=int, help="side of the images in pixels (default: 128; scene: 1024)")
    parser.add_argument(
        "--expressions", type=int, help="expressions per scene (default: 3; scene: 4 of each of its five kinds)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing synthetic dataset")


def _make(options: argparse.Namespace) -> int:
    from rrsis_zoo.data.layouts import LAYOUTS

    if options.layout not in (*LAYOUTS, "scene"):
        raise unknown_name("layout", options.layout, (*LAYOUTS, "scene"))
    given: dict[str, Any] = {name: getattr(options, name) for name in ("scenes", "size", "expressions")}
    given = {name: value for name, value in given.items() if value is not None}
    return (_make_scenes if options.layout == "scene" else _make_dataset)(options, given)


def _make_scenes(options: argparse.Namespace, given: dict[str, Any]) -> int:
    from rrsis_zoo.data.synthetic.geofiles import make_scenes

    if "expressions" in given:
        given["per_kind"] = given.pop("expressions")
    root = options.root or "datasets/scenes"
    summary = make_scenes(root, seed=options.seed, overwrite=options.overwrite, **given)
    print(summary)
    print(f"find something: rrsis segment {summary.scenes[0]} --text 'SENTENCE' --model mini:rsrefseg --out found.gpkg")
    return 0


def _make_dataset(options: argparse.Namespace, given: dict[str, Any]) -> int:
    from rrsis_zoo.data.synthetic.write import make_synthetic

    options.root = options.root or "datasets/synthetic"
    print(make_synthetic(options.root, layout=options.layout, seed=options.seed, overwrite=options.overwrite, **given))
    name = "synthetic" if options.layout == "rrsis-d" else options.layout
    print(f"train on it with: --data.dataset {name} --data.root {options.root}")
    return 0


_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]] = {
    "make": ("generate the synthetic dataset in the layout of any of the three, or large scenes", _add_make, _make),
    "verify": (
        "check a copy of a dataset; status 1 if something is wrong",
        _add_verify,
        _verify,
    ),
    "list": ("print every sample of a split: id, expression, category, description of the mask", _add_list, _list),
    "stats": ("print statistics of lengths, categories and sizes, and upper bounds", _add_stats, _stats),
}
