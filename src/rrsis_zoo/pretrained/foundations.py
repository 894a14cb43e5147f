"""Loading released weights of foundation models into a method that is built on them.

A method has *roles* (``sam``, ``siglip``; see its card); a source string is given for each, or ``none``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rrsis_zoo.errors import ConfigError, MissingWeightsError, together, unknown_name
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.card import MethodCard
from rrsis_zoo.weights.sources import HubSource, NoSource, parse_source, resolve


def find_foundations(card: MethodCard, weights: Mapping[str, str]) -> dict[str, list[Path]]:
    """Find every file that the sources name on this machine, before anything large is built.

    Args:
        card: of the method.
        weights: role -> source string.

    Returns:
        role -> its files, for the roles with another source than ``none``.

    Raises:
        ConfigError: an unknown or missing role, or a malformed source.
        MissingWeightsError: files are not on this machine; the message names all of them.
    """
    method, roles = card.name, card.foundations
    for name in weights:
        if name not in roles:
            raise unknown_name(f"role in the weights of {method}", name, roles)
    if missing := sorted(set(roles) - set(weights)):
        raise ConfigError(
            f"weights of {method}: no source for {', '.join(missing)}; give local:PATH, hub:ORG/REPO or none for each"
        )
    sources = {name: parse_source(text) for name, text in weights.items()}
    files_of: dict[str, list[Path]] = {}
    absent: list[MissingWeightsError] = []
    for name, source in sources.items():
        if isinstance(source, NoSource):
            continue
        what = f"{roles[name].title} ({method}, weights.{name})"
        faults: dict[str, MissingWeightsError] = {}
        for names in roles[name].files:
            try:
                files_of.setdefault(name, []).append(resolve(source, names, what))
            except MissingWeightsError as error:
                faults[names[0]] = error
        whole = roles[name].whole
        if faults and (len(faults) > 1 or whole) and isinstance(source, HubSource) and source.file is None:
            # one command for all files in a repository
            verb = "are" if len(faults) > 1 else "is"
            lack = f"{what}: {' and '.join(faults)} of {source.place} {verb} not here"
            command = source.command([] if whole else [*faults])
            short = f"{what}: {source.place} is not in the local cache"
            absent.append(MissingWeightsError(f"{lack}; fetch them with: {command}", what=short, mend=command))
        else:
            absent += faults.values()
    if absent:
        raise together(absent)
    return files_of


def fill_foundations(model: ReferringSegmenter, weights: Mapping[str, str]) -> None:
    """Fill a method's foundation models from their sources; its own parameters keep their initial values.

    Raises:
        ConfigError: an unknown or missing role, or a malformed source.
        MissingWeightsError: files are not on this machine.
        WeightsMismatchError: a file is damaged, or does not fit the configured model.
    """
    for role, paths in find_foundations(model.card, weights).items():
        model.foundation_fillers[role](model, paths)


def fill_tokenizer(model: ReferringSegmenter, source: str) -> None:
    """Give a method the published tokenizer that its card names.

    Args:
        model: the method.
        source: ``local:PATH`` or ``hub:ORG/REPO`` of the tokenizer's file, or of its folder.

    Raises:
        MissingWeightsError: it is not on this machine.
        ConfigError: a file of another kind, or a method without a published tokenizer.
    """
    card = model.card
    if card.official is None:
        raise ConfigError(f"{card.name} has no published tokenizer: it learns its vocabulary")
    foundation = card.foundations[card.official.tokenizer]
    what = f"tokenizer of {foundation.title} ({card.name})"
    model.read_tokenizer(resolve(parse_source(source), foundation.tokenizer, what))
