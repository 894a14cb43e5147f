"""The work of ``rrsis convert``: from sources to folders or the authors' files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rrsis_zoo.errors import ConfigError, unknown_name
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.pretrained.adapters import merged
from rrsis_zoo.pretrained.foundations import fill_tokenizer
from rrsis_zoo.pretrained.official import (
    convert,
    fill_official,
    official_layout,
    skeleton,
    skipped_beside,
    write_official,
)
from rrsis_zoo.pretrained.trained import model_of
from rrsis_zoo.pretrained.whole import default_tokenizer, find_whole, ours_at
from rrsis_zoo.weights.checkpoints import weights_hash
from rrsis_zoo.weights.training import Tested, checked_training
from rrsis_zoo.weights.wrappers import own_names


def to_folder(
    kind: type[ReferringSegmenter],
    source: str,
    out: Path,
    *,
    preset: str | None = None,
    release: str | None = None,
    tokenizer: str | None = None,
    merge: bool = False,
    tests: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Write a source as a folder of ours and return the report.

    Args:
        kind: the method's torch class.
        source: the authors' file, or a checkpoint or folder of ours.
        out: folder to write to.
        preset: sizes of the authors' file; None for the release's, or for the default preset.
        release: name of the authors' release; detected if the card names the source.
        tokenizer: source of the tokenizer's file; ``none`` for a folder that cannot read sentences; the published one
            by default.
        merge: whether adapters are merged into the adapted weights.
        tests: contents of ``test.json``; those of the same weights are listed in the card.

    Raises:
        ConfigError: unknown names, or settings that exclude each other.
        MissingWeightsError: a file is not on this machine.
        WeightsMismatchError: a file is damaged, or does not fit the method.
    """
    method, releases = kind.name, kind.card.releases
    path = find_whole(source, kind.card)
    saved = ours_at(path)
    if saved is not None:
        if preset or release or tokenizer:
            raise ConfigError(f"{source} contains its own preset, release and tokenizer: leave these arguments out")
        if saved.meta["model"] != method:
            raise ConfigError(f"{source} holds {saved.meta['model']}, not {method}")
        model = model_of(kind, saved)
        if checked_training(saved.training, saved.what) is not None:
            found = [*(saved.training.get("tests") or ()), *_of_these_weights(model, tests)]
            model.training_record = {**saved.training, "tests": [t for i, t in enumerate(found) if t not in found[:i]]}
        (merged(model) if merge else model).save_pretrained(out)
        return f"{method}: {len(model.state_dict())} entries{', adapters merged' if merge else ''}"

    release = release or next((r.name for r in releases for f in r.files if source == f"{r.source}:{f}"), None)
    if release is not None:
        known = {r.name: r.preset for r in releases}
        if release not in known:
            raise unknown_name(f"release of {method}", release, known)
        preset = preset or known[release]
    model = skeleton(kind, preset)
    official_layout(model)  # refuses our own methods before a tokenizer is looked for
    if tokenizer != "none":
        fill_tokenizer(model, tokenizer or default_tokenizer(kind.card))
    if not merge:
        known_as = source if source.startswith("hub:") else path.name  # a card has no paths of this machine
        return convert(model, path, out, source=known_as, release=release).text()
    report = fill_official(model, path)
    merged(model).save_pretrained(out)
    return f"{report.text()}\nadapters merged"


def _of_these_weights(model: ReferringSegmenter, tests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the tests of exactly these weights on a whole split, as a training record has them."""
    digest = weights_hash(model) if tests else ""
    mine = [t for t in tests if t.get("weights_sha256") == digest and not t.get("partial")]
    return [{name: test[name] for name in Tested.model_fields} for test in mine]


def to_official(kind: type[ReferringSegmenter], source: str, out: Path) -> int:
    """Write a checkpoint or folder of ours as the authors' file and return the number of its entries.

    Raises:
        ConfigError: not a model of ours, or of another method; or a model with merged adapters.
        MissingWeightsError: a file is not on this machine.
        WeightsMismatchError: a file is damaged, or does not fit the method.
    """
    path = find_whole(source, kind.card)
    saved = ours_at(path)
    if saved is None:
        raise ConfigError(f"{source} is not a model of rrsis-zoo; --to-official converts ours into the authors' layout")
    if saved.meta["model"] != kind.name:
        raise ConfigError(f"{source} holds {saved.meta['model']}, not {kind.name}")
    if saved.meta.get("foundations") is None:
        model, state = kind.skeleton_of(saved), saved.open()
    else:
        model = model_of(kind, saved)
        state = own_names(model.state_dict())
    return write_official(model, state, out, skipped_beside(path) if os.path.isdir(path) else None)
