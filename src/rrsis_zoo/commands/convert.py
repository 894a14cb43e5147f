"""``rrsis convert``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rrsis_zoo.commands.arguments import Arguments
from rrsis_zoo.commands.plugin_options import add_plugin
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.registry import method_named


def run_convert(arguments: Sequence[str]) -> int:
    """Convert the authors' files into folders of ours, ours into theirs, and checkpoints into folders."""
    parser = Arguments(
        "rrsis convert",
        description="Convert the authors' trained weights, or a checkpoint of `rrsis fit`, into a folder that "
        "rrsis_zoo.load_model reads and push_to_hub shares; with --to-official, the reverse.",
    )
    parser.add_argument("source", metavar="SOURCE", help="local:PATH or hub:ORG/REPO[@REVISION][:FILE]")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write; with --to-official a file")
    parser.add_argument("--model", required=True, help="name of the method")
    parser.add_argument("--preset", help="preset of an authors' file; default: the paper's, or the release's")
    parser.add_argument("--release", help="which of the authors' releases it is, for the card")
    parser.add_argument("--tokenizer", help="source of the tokenizer's file, or none; default: the published method's")
    parser.add_argument("--merge", action="store_true", help="merge low-rank adapters into the weights they adapt")
    parser.add_argument("--to-official", action="store_true", help="write the authors' format")
    add_plugin(parser)
    options = parser.parse_args(arguments)

    from rrsis_zoo.pretrained import conversion

    kind = method_named(options.model).model()

    if options.to_official:
        if options.merge or options.preset or options.release or options.tokenizer:
            raise ConfigError(
                "--to-official takes no --preset, --release, --tokenizer or --merge: the source determines them"
            )
        entries = conversion.to_official(kind, options.source, options.out)
        print(f"{entries} entries written to {options.out}")
        return 0
    print(
        conversion.to_folder(
            kind,
            options.source,
            options.out,
            preset=options.preset,
            release=options.release,
            tokenizer=options.tokenizer,
            merge=options.merge,
        )
    )
    print(f"written to {options.out}; load it with rrsis_zoo.load_model({f'local:{options.out}'!r})")
    return 0
