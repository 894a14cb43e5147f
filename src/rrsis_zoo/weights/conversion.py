"""What ``rrsis convert`` does: sources in, folders or the authors' files out."""

from __future__ import annotations

from pathlib import Path

from rrsis_zoo.errors import ConfigError, OutputError, unknown_name
from rrsis_zoo.files import expanded
from rrsis_zoo.registry import card
from rrsis_zoo.weights.adapters import merged
from rrsis_zoo.weights.checkpoints import build, load_saved
from rrsis_zoo.weights.loading import default_tokenizer, find_whole, ours_at
from rrsis_zoo.weights.official import convert, load_official, official_layout, skeleton, skipped_beside, write_official
from rrsis_zoo.weights.pretrained import load_tokenizer


def to_folder(
    method: str,
    source: str,
    out: Path,
    *,
    preset: str | None = None,
    release: str | None = None,
    tokenizer: str | None = None,
    merge: bool = False,
) -> str:
    """Write a source as a folder of ours and return the report.

    Args:
        method: public name.
        source: the authors' file, or a checkpoint or folder of ours.
        out: folder to write to.
        preset: sizes of an authors' file; the release's, or the paper's first preset by default.
        release: name of the authors' release that it is; known by itself for a source that the card names.
        tokenizer: source of the tokenizer's file; ``none`` for a folder that cannot read sentences; the published one
            by default.
        merge: whether adapters are added to the weights that they adapt.

    Raises:
        ConfigError: unknown names, or settings that exclude each other.
        MissingWeightsError, WeightsMismatchError: as the sources.
        OutputError: the folder cannot be written.
    """
    out = expanded(out)
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} cannot be written (it is a file): give the name of a folder")
    said = card(method)
    path = find_whole(source, method)
    saved = ours_at(path)
    if saved is not None:
        if preset or release or tokenizer:
            raise ConfigError(f"{source} says its own preset, release and tokenizer: leave them out")
        if saved.meta["model"] != method:
            raise ConfigError(f"{source} holds {saved.meta['model']}, not {method}")
        model = load_saved(saved)
        (merged(model) if merge else model).save_pretrained(out)
        return f"{method}: {len(model.state_dict())} entries{', adapters merged' if merge else ''}"

    release = release or next((r.name for r in said.releases for f in r.files if source == f"{r.source}:{f}"), None)
    if release is not None:
        known = {r.name: r.preset for r in said.releases}
        if release not in known:
            raise unknown_name(f"release of {method}", release, known)
        preset = preset or known[release]
    model = skeleton(method, preset)
    official_layout(model)  # refuses a method that has no authors but us, before a tokenizer is looked for
    if tokenizer != "none":
        load_tokenizer(model, tokenizer or default_tokenizer(method))
    if not merge:
        known_as = source if source.startswith("hub:") else path.name  # nobody's folders go into a card
        return convert(model, path, out, source=known_as, release=release).text()
    report = load_official(model, path)
    merged(model).save_pretrained(out)
    return f"{report.text()}\nadapters merged"


def to_official(method: str, source: str, out: Path) -> int:
    """Write a checkpoint or folder of ours as the authors' file and return the number of its entries.

    Raises:
        ConfigError: not a model of ours, or of another method; or a model whose adapters were merged.
        MissingWeightsError, WeightsMismatchError: as the source.
        OutputError: the file cannot be written.
    """
    out = expanded(out)
    if out.is_dir():
        raise OutputError(f"{out} cannot be written (it is a folder): give the name of a file")
    path = find_whole(source, method)
    saved = ours_at(path)
    if saved is None:
        raise ConfigError(f"{source} is no model of rrsis-zoo; --to-official converts ours into the authors' layout")
    if saved.meta["model"] != method:
        raise ConfigError(f"{source} holds {saved.meta['model']}, not {method}")
    model = build(saved.meta, saved.what)
    return write_official(model, saved.open(), out, skipped_beside(path) if path.is_dir() else None)
