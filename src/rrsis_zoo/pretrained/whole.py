"""Loading weights of a complete model, ours or the authors'."""

from __future__ import annotations

import os
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
from rrsis_zoo.pretrained.trained import fill_saved, model_of
from rrsis_zoo.weights.checkpoints import Saved, checkpoint_at
from rrsis_zoo.weights.folders import CONFIG, WEIGHTS, is_folder, open_folder
from rrsis_zoo.weights.sources import HubSource, LocalSource, MiniSource, parse_source, resolve, trained_miniatures


def ours_at(path: Path) -> Saved | None:
    """Return the model of ours at a path; None for anything else.

    Raises:
        MissingWeightsError: there is no file.
        WeightsMismatchError: the file is damaged, ours or not.
    """
    if os.path.isdir(path):
        return open_folder(path) if is_folder(path) else None
    if path.name == WEIGHTS and is_folder(path.parent):
        return open_folder(path.parent)
    return checkpoint_at(path)


def is_whole(weights: Mapping[str, str] | str | None) -> bool:
    """Return whether weights are of a complete model, and not only of its foundation models, or none."""
    return isinstance(weights, str) and weights != "none"


def find_whole(source: str, card: MethodCard | None = None) -> Path:
    """Find the file or folder of a complete model on this machine.

    Args:
        source: ``local:PATH``, ``hub:ORG/REPO[@REVISION][:FILE]`` or ``mini:METHOD``.
        card: of a method, to also look for its authors' files; None for our own folders only.

    Raises:
        ConfigError: ``none``, a miniature of a foundation model, or a malformed source.
        MissingWeightsError: it is not on this machine.
    """
    parsed, what = parse_source(source), f"weights of {card.name if card else 'a complete model'}"
    official_files = card.official.files if card and card.official else ()
    if isinstance(parsed, LocalSource):
        path = expanded(parsed.path)
        return path if is_folder(path) else resolve(parsed, official_files or (CONFIG,), what)
    if isinstance(parsed, MiniSource) and not parsed.whole:
        known = ", ".join(f"mini:{name}" for name in trained_miniatures())
        raise ConfigError(f"{what}: {source} is a foundation model; trained miniatures: {known}")
    if isinstance(parsed, MiniSource):
        return parsed.folder
    if not isinstance(parsed, HubSource):
        raise ConfigError(f"{what} must be local:PATH, hub:ORG/REPO or mini:METHOD, got {source!r}")
    if parsed.file is not None:
        return resolve(parsed, (parsed.file,), what)
    for name in (CONFIG, *official_files):
        try:
            path = resolve(parsed, (name,), what)
        except MissingWeightsError:
            continue
        if name != CONFIG:
            return path
        if is_folder(path.parent):
            return path.parent
    lack, command = f"{what}: {parsed.place} is not in the local cache", parsed.command([])
    raise MissingWeightsError(f"{lack}; fetch it with: {command}", what=lack, mend=command)


def whole_model(kind: type[ReferringSegmenter], source: str, preset: str | None) -> ReferringSegmenter:
    """Return a method's model with weights from a complete model, in evaluation mode.

    Args:
        kind: the method's torch class.
        source: as in `find_whole`.
        preset: sizes of an authors' file; None for the default preset. Our own weights contain it.

    Raises:
        ConfigError: the weights are for another method, or another preset than the given one.
        MissingWeightsError: a file is not on this machine.
        WeightsMismatchError: a file is damaged, or does not fit the method.
    """
    path = find_whole(source, kind.card)
    saved = ours_at(path)
    if saved is not None:
        _check_method(saved, source, kind.name)
        if preset is not None and _other(kind, to_plain(kind.presets[preset]), _settings(kind, saved)):
            raise ConfigError(f"{source} has another configuration than preset {preset!r}: leave the preset out")
        return model_of(kind, saved)
    model = skeleton(kind, preset)
    _fill_official(model, path, source)
    return model.eval()


def fill_model(model: ReferringSegmenter, weights: str | Mapping[str, str]) -> None:
    """Fill a model from a source of a complete model, or from one for each of its foundation models.

    Settings that only affect evaluation may differ from those of the saved or published model; this gives a warning.

    Raises:
        ConfigError: the weights are for another method or configuration.
        MissingWeightsError: a file is not on this machine.
        WeightsMismatchError: a file is damaged, or does not fit the model.
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
    saved_config = _settings(type(model), saved)
    if differing := _other(type(model), to_plain(model.config), saved_config):
        raise ConfigError(f"{weights} has other settings than this {model.name}: {', '.join(differing)}")
    _warn_of_settings(
        model, {name: saved_config[name] for name in sorted(model.evaluation_settings & saved_config.keys())}, weights
    )
    fill_saved(model, saved)


def find_weights(card: MethodCard, weights: str | Mapping[str, str]) -> None:
    """Check that every file that ``fill_model`` would read exists, before anything large is built.

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
        raise WeightsMismatchError(f"{source} is not a model of rrsis-zoo, and {model.name} has no other format")
    fill_official(model, path)
    if not model.tokenizer_ready:
        fill_tokenizer(model, default_tokenizer(model.card))


def _warn_of_settings(model: ReferringSegmenter, published: Mapping[str, Any], source: str) -> None:
    """Warn about settings of the model that differ from those behind the results of the weights."""
    for name, value in published.items():
        if (current := getattr(model.config, name)) != value:
            warnings.warn(
                f"{source} has {name}={value}, this {model.name} has {current}: set model.init_args.settings.{name} "
                "to reproduce its results",
                stacklevel=3,
            )


def default_tokenizer(card: MethodCard) -> str:
    """Return the source of a method's published tokenizer.

    Raises:
        ConfigError: the method has none.
    """
    if card.official is None:
        raise ConfigError(f"{card.name} has no published tokenizer: it learns its vocabulary")
    return card.presets[card.default_preset].weights[card.official.tokenizer]


def _check_method(saved: Saved, source: str, method: str) -> None:
    if saved.meta["model"] != method:
        raise ConfigError(f"{source} holds {saved.meta['model']}, not {method}")


def _settings(kind: type[ReferringSegmenter], saved: Saved) -> dict[str, Any]:
    """Return a saved configuration; settings that were introduced later have their defaults."""
    try:
        return to_plain(from_plain(kind.configuration_kind(), saved.meta["config"]))
    except ConfigError as error:
        raise WeightsMismatchError(f"{saved.what}: {error}") from error


def _other(kind: type[ReferringSegmenter], current: Mapping[str, Any], saved: Mapping[str, Any]) -> list[str]:
    """Return how two configurations differ, apart from settings that only affect evaluation."""
    free = kind.evaluation_settings
    current, saved = ({n: v for n, v in config.items() if n not in free} for config in (current, saved))
    return _differences(current, saved)


def _differences(current: Any, saved: Any, where: str = "") -> list[str]:
    """Return the differing settings by their dotted names; lists and tuples are equal (JSON only has lists)."""
    if isinstance(current, Mapping) and isinstance(saved, Mapping):
        names = [*current, *(name for name in saved if name not in current)]
        return [d for n in names for d in _differences(current.get(n), saved.get(n), f"{where}.{n}" if where else n)]
    same = list(current) == list(saved) if isinstance(current, tuple | list) and saved is not None else current == saved
    return [] if same else [f"{where} is {saved!r}, here {current!r}"]
