"""What weights are made from, as far as their source and their record say: `rrsis_zoo.leakage.lineage`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

from rrsis_zoo.leakage.ledger import shipped, without_revision
from rrsis_zoo.leakage.lineage import Lineage, Start
from rrsis_zoo.models.card import MethodCard
from rrsis_zoo.pretrained.whole import find_whole, ours_at
from rrsis_zoo.weights.checkpoints import Saved
from rrsis_zoo.weights.sources import HubSource, LocalSource, MiniSource, parse_source
from rrsis_zoo.weights.training import checked_training, lineage_of_record


def lineage_of(weights: Mapping[str, str] | str | None, card: MethodCard) -> Lineage:
    """Return what weights are made from.

    Args:
        weights: a source for each of a method's foundation models, or of a complete model; empty or ``none`` for
            random ones.
        card: of the method.

    Raises:
        ConfigError: a malformed source.
        MissingWeightsError: a complete model that is not on this machine.
        WeightsMismatchError: its file, or the record in it, is damaged.
    """
    if not weights or weights == "none":
        return Lineage()
    if not isinstance(weights, str):
        return Lineage(starts=_starts(weights, card))
    source = parse_source(weights)
    if isinstance(source, MiniSource):
        return Lineage(starts=[Start(source=weights)])
    path = find_whole(weights, card)
    saved = ours_at(path)
    if saved is not None:
        return lineage_of_saved(saved, card, weights)
    released = _released(card, weights, path.name)
    return Lineage(releases=[released]) if released else Lineage(unrecorded=[public_name(weights)])


def lineage_of_saved(saved: Saved, card: MethodCard, source: str) -> Lineage:
    """Return what a model of ours in a file or folder is made from.

    Args:
        saved: the model.
        card: of its method.
        source: of the model, to name it if nothing is recorded.

    Raises:
        WeightsMismatchError: the record of its training is damaged.
    """
    if checked_training(saved.training, saved.what) is not None:
        return lineage_of_record(saved.training)
    provenance = saved.meta.get("provenance")
    if provenance is not None:
        release = provenance.get("release")
        known = f"{card.name}/{release}" if release else shipped().named(str(provenance["source"]))
        return Lineage(releases=[known]) if known else Lineage(unrecorded=[str(provenance["source"])[:200] or source])
    if (foundations := saved.meta.get("foundations")) is not None:
        starts, unrecorded = _starts(foundations["sources"], card), [f"the training of {public_name(source)}"]
        return Lineage(starts=starts, unrecorded=unrecorded)
    return Lineage(unrecorded=[f"the training of {public_name(source)}"])


def public_name(source: str) -> str:
    """Return a source without folders of this machine, for a record that others may read."""
    parsed = parse_source(source)
    name = f"local:{PurePath(parsed.path).name}" if isinstance(parsed, LocalSource) else source
    return name[:150]


def _starts(sources: Mapping[str, str], card: MethodCard) -> list[Start]:
    """Return the start of every role; what a miniature is, its source says."""
    starts = []
    for role, source in sources.items():
        known = None if source.startswith("mini:") else card.foundations.get(role)
        if source != "none":
            starts.append(Start(source=public_name(source), base="" if known is None else known.base))
    return starts


def _released(card: MethodCard, source: str, file: str) -> str | None:
    """Return the id of the authors' release that a file is, by its source, or by a name that only one release has."""
    parsed = parse_source(source)
    for release in card.releases:
        here = {f"{release.source}:{name}" for name in release.files}
        whole = f"{source}:{file}" if isinstance(parsed, HubSource) and parsed.file is None else source
        if without_revision(whole) in here:
            return f"{card.name}/{release.name}"
    alike = [release.name for release in card.releases if file in {PurePath(name).name for name in release.files}]
    return f"{card.name}/{alike[0]}" if len(alike) == 1 else None
