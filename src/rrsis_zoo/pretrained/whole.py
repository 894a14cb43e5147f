"""Weights of a whole model into a built one: ours, or the authors'."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rrsis_zoo.errors import ConfigError, MissingWeightsError, WeightsMismatchError
from rrsis_zoo.files import expanded
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.card import MethodCard
from rrsis_zoo.models.configuration import from_plain, to_plain
from rrsis_zoo.pretrained.foundations import fill_foundations, fill_tokenizer, find_foundations
from rrsis_zoo.pretrained.official import fill_official, skeleton
from rrsis_zoo.weights.checkpoints import Saved, checkpoint_at
from rrsis_zoo.weights.folders import CONFIG, WEIGHTS, is_folder, open_folder
from rrsis_zoo.weights.load import fill_module
from rrsis_zoo.weights.sources import HubSource, LocalSource, parse_source, resolve


def ours_at(path: Path) -> Saved | None:
    """Return the model of ours at a path; None for anything else.

    Raises:
        MissingWeightsError: nothing is there.
        WeightsMismatchError: a damaged file, whosever it is.
    """
    if path.is_dir():
        return open_folder(path) if is_folder(path) else None
    if path.name == WEIGHTS and is_folder(path.parent):
        return open_folder(path.parent)
    return checkpoint_at(path)


def is_whole(weights: Mapping[str, str] | str | None) -> bool:
    """Whether weights are those of a whole model, and not of its foundation models alone, or none."""
    return isinstance(weights, str) and weights != "none"


def find_whole(source: str, card: MethodCard | None = None) -> Path:
    """Find the file or folder of a whole model on this machine.

    Args:
        source: ``local:PATH`` or ``hub:ORG/REPO[@REVISION][:FILE]``.
        card: of the method whose authors' files are looked for too; None for our own folders only.

    Raises:
        ConfigError: ``none``, or a malformed source.
        MissingWeightsError: it is not here.
    """
    parsed, what = parse_source(source), f"weights of {card.name if card else 'a whole model'}"
    theirs = card.official.files if card and card.official else ()
    if isinstance(parsed, LocalSource):
        path = expanded(parsed.path)
        return path if is_folder(path) else resolve(parsed, theirs or (CONFIG,), what)
    if not isinstance(parsed, HubSource):
        raise ConfigError(f"{what} must be local:PATH or hub:ORG/REPO, got {source!r}")
    if parsed.file is not None:
        return resolve(parsed, (parsed.file,), what)
    for name in (CONFIG, *theirs):
        try:
            path = resolve(parsed, (name,), what)
        except MissingWeightsError:
            continue
        if name != CONFIG:
            return path
        if is_folder(path.parent):
            return path.parent
    raise MissingWeightsError(f"{what}: {parsed.place} is not in the local cache; fetch it with: {parsed.command([])}")


def whole_model(kind: type[ReferringSegmenter], source: str, preset: str | None) -> ReferringSegmenter:
    """Return a method's model with the weights of a whole model, in evaluation mode.

    Args:
        kind: the method's torch class.
        source: as `find_whole`.
        preset: sizes of an authors' file; None for the default preset, and for weights of ours, which say it.

    Raises:
        ConfigError: weights of another method, or of another preset than the one that is named.
        MissingWeightsError, WeightsMismatchError: as the source.
    """
    path = find_whole(source, kind.card)
    saved = ours_at(path)
    if saved is not None:
        _check_method(saved, source, kind.name)
        if preset is not None and _other(kind, to_plain(kind.presets[preset]), _settings(kind, saved)):
            raise ConfigError(f"{source} is not of preset {preset!r}: leave the preset out")
        return kind.from_saved(saved)
    model = skeleton(kind, preset)
    _fill_official(model, path, source)
    return model.eval()


def fill_model(model: ReferringSegmenter, weights: str | Mapping[str, str]) -> None:
    """Fill a built model: from a source of a whole model, or from one for each of its foundation models.

    Settings of the evaluation alone may differ from those that a whole model was saved or published with; a warning
    says so.

    Raises:
        ConfigError: weights of another method or configuration.
        MissingWeightsError, WeightsMismatchError: as the sources.
    """
    if not isinstance(weights, str):
        fill_foundations(model, weights)
        return
    path = find_whole(weights, model.card)
    saved = ours_at(path)
    if saved is None:
        official = model.card.official
        _warn_of_settings(model, dict(official.settings) if official else {}, weights)
        _fill_official(model, path, weights)
        return
    _check_method(saved, weights, model.name)
    theirs = _settings(type(model), saved)
    if differing := _other(type(model), to_plain(model.config), theirs):
        raise ConfigError(f"{weights} has other settings than this {model.name}: {', '.join(differing)}")
    _warn_of_settings(
        model, {name: theirs[name] for name in sorted(model.evaluation_settings & theirs.keys())}, weights
    )
    fill_module(model, saved.open, what=saved.what)
    if saved.meta["tokenizer"] is not None:
        model.load_tokenizer_state(saved.meta["tokenizer"])


def find_weights(card: MethodCard, weights: str | Mapping[str, str]) -> None:
    """Look for every file that ``fill_model`` would read, before anything large is built.

    Raises:
        ConfigError: an unknown or missing role, or a malformed source.
        MissingWeightsError: files are not on this machine.
    """
    if isinstance(weights, str):
        find_whole(weights, card)
    else:
        find_foundations(card, weights)


def _fill_official(model: ReferringSegmenter, path: Path, source: str) -> None:
    if model.card.official is None:
        raise WeightsMismatchError(f"{source} is no model of rrsis-zoo, and {model.name} has no other authors")
    fill_official(model, path)
    if not model.tokenizer_ready:
        fill_tokenizer(model, default_tokenizer(model.card))


def _warn_of_settings(model: ReferringSegmenter, theirs: Mapping[str, Any], source: str) -> None:
    """Say which settings the weights' own numbers were made with, where the model has others."""
    for name, value in theirs.items():
        if (ours := getattr(model.config, name)) != value:
            warnings.warn(
                f"{source} comes with {name}={value}, this {model.name} has {ours}: set model.init_args.settings."
                f"{name} to get the numbers that it was published with",
                stacklevel=3,
            )


def default_tokenizer(card: MethodCard) -> str:
    """Return the source of the tokenizer that a method was published with.

    Raises:
        ConfigError: it has none.
    """
    if card.official is None:
        raise ConfigError(f"{card.name} has no published tokenizer: it learns its vocabulary")
    return card.presets[card.default_preset].weights[card.official.tokenizer]


def _check_method(saved: Saved, source: str, method: str) -> None:
    if saved.meta["model"] != method:
        raise ConfigError(f"{source} holds {saved.meta['model']}, not {method}")


def _settings(kind: type[ReferringSegmenter], saved: Saved) -> dict[str, Any]:
    """Return a saved configuration; settings that were added since it was written have their defaults."""
    try:
        return to_plain(from_plain(kind.configuration_kind(), saved.meta["config"]))
    except ConfigError as error:
        raise WeightsMismatchError(f"{saved.what}: {error}") from error


def _other(kind: type[ReferringSegmenter], ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return how two configurations differ, apart from settings of the evaluation alone."""
    free = kind.evaluation_settings
    ours, theirs = ({n: v for n, v in config.items() if n not in free} for config in (ours, theirs))
    return _differences(ours, theirs)


def _differences(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Return the settings that differ, by their dotted names; lists and tuples are alike (JSON has lists only)."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        names = [*ours, *(name for name in theirs if name not in ours)]
        return [d for n in names for d in _differences(ours.get(n), theirs.get(n), f"{where}.{n}" if where else n)]
    same = list(ours) == list(theirs) if isinstance(ours, tuple | list) and theirs is not None else ours == theirs
    return [] if same else [f"{where} is {theirs!r}, here {ours!r}"]
