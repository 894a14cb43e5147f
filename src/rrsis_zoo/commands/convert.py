"""``rrsis convert``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrsis_zoo.commands.arguments import Arguments
from rrsis_zoo.commands.plugin_options import add_plugin
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.files import expanded
from rrsis_zoo.methods.registry import method_named, methods

if TYPE_CHECKING:
    from rrsis_zoo.models.base import ReferringSegmenter


def run_convert(arguments: Sequence[str]) -> int:
    """Convert the authors' files into folders of ours, ours into theirs, and checkpoints into folders."""
    parser = Arguments(
        "rrsis convert",
        description="Convert the authors' trained weights, or a checkpoint of `rrsis fit`, into a folder that "
        "rrsis_zoo.load_model reads and push_to_hub shares; with --to-official, the reverse.",
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="a checkpoint, a run's or a model's folder; local:PATH, hub:ORG/REPO[:FILE]"
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write; with --to-official a file")
    parser.add_argument("--model", help="name of the method; needed for the authors' files only")
    parser.add_argument("--preset", help="preset of an authors' file; default: the paper's, or the release's")
    parser.add_argument("--release", help="which of the authors' releases it is, for the card")
    parser.add_argument("--tokenizer", help="source of the tokenizer's file, or none; default: the published method's")
    parser.add_argument("--merge", action="store_true", help="merge low-rank adapters into the weights they adapt")
    parser.add_argument("--to-official", action="store_true", help="write the authors' format")
    add_plugin(parser)
    options = parser.parse_args(arguments)

    from rrsis_zoo.pretrained import conversion

    source = _source(options.source)
    kind = _kind(source, options.source, options.model)

    if options.to_official:
        if options.merge or options.preset or options.release or options.tokenizer:
            raise ConfigError(
                "--to-official takes no --preset, --release, --tokenizer or --merge: the source determines them"
            )
        entries = conversion.to_official(kind, source, options.out)
        print(f"{entries} entries written to {options.out}")
        return 0
    print(
        conversion.to_folder(
            kind,
            source,
            options.out,
            preset=options.preset,
            release=options.release,
            tokenizer=options.tokenizer,
            merge=options.merge,
            tests=_tests(source),
        )
    )
    print(f"written to {options.out}; load it with rrsis_zoo.load_model({f'local:{options.out}'!r})")
    return 0


def _source(given: str) -> str:
    """Return a source for a path, too; of a training's folder its best checkpoint.

    Raises:
        ConfigError: a folder that is neither a training's nor a model's.
    """
    from rrsis_zoo.pretrained.whole import CONFIG
    from rrsis_zoo.training.run_folder import best_in

    if given.startswith(("hub:", "mini:", "none")) and not os.path.exists(given):
        return given
    path = expanded(given.removeprefix("local:"))
    is_run = os.path.isdir(path / "checkpoints") and not os.path.exists(path / CONFIG)
    return f"local:{best_in(path) if is_run else path}"


def _kind(source: str, given: str, name: str | None) -> type[ReferringSegmenter]:
    """Return the torch class of the method that is named, or else that a source of ours holds."""
    from rrsis_zoo.loading import kind_of
    from rrsis_zoo.pretrained.whole import find_whole, ours_at

    if name is not None:
        return method_named(name).model()
    saved = ours_at(find_whole(source))
    if saved is None:
        raise ConfigError(
            f"{given} is not a model of rrsis-zoo: if it is a file of a method's authors, name the method, --model "
            f"{' | '.join(n for n, known in methods().items() if known.card.official)}"
        )
    return kind_of(saved)


def _tests(source: str) -> list[dict[str, Any]]:
    """Return the tests that stand beside a checkpoint's run."""
    from rrsis_zoo.tables.runs import tests_beside

    path = Path(source.removeprefix("local:"))
    is_checkpoint = source.startswith("local:") and path.parent.name == "checkpoints"
    return tests_beside(path.absolute().parents[1]) if is_checkpoint else []
