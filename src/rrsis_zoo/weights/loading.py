"""`rrsis_zoo.load_model`: a model from one source string."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rrsis_zoo.errors import ConfigError, MissingWeightsError, WeightsMismatchError, unknown_name
from rrsis_zoo.files import expanded
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.configuration import from_plain, to_plain
from rrsis_zoo.registry import MODELS, card
from rrsis_zoo.weights.checkpoints import Saved, checkpoint_at, load_saved, read_checkpoint
from rrsis_zoo.weights.folders import CONFIG, WEIGHTS, is_folder, open_folder
from rrsis_zoo.weights.load import load_into
from rrsis_zoo.weights.official import load_official, skeleton
from rrsis_zoo.weights.pretrained import find_pretrained, load_pretrained, load_tokenizer
from rrsis_zoo.weights.sources import HubSource, LocalSource, no_url, parse_source, resolve


def load_model(
    name_or_path: str | Path, weights: str | Mapping[str, str] | None = None, preset: str | None = None
) -> ReferringSegmenter:
    """Return a torch model in evaluation mode. Nothing is downloaded.

    Args:
        name_or_path: a model that needs nothing else: a checkpoint of ``rrsis fit``, a folder of ``save_pretrained``
            or ``rrsis convert``, either as a path or as ``local:PATH``, or ``hub:ORG/REPO`` of such a folder; or a
            method's name.
        weights: with a name: a source of a whole model (as above, or the authors' own file), or one for each of the
            method's foundation models (``{"sam": "hub:facebook/sam-vit-base", …}``); ``"none"`` for random weights.
        preset: with a name: which sizes; the paper's first preset by default.

    Raises:
        ConfigError: unknown name or preset, settings that exclude each other, or no weights for a preset that starts
            from published ones.
        MissingWeightsError, WeightsMismatchError: as the sources.

    Warns:
        UserWarning: no weights for a preset that there are none for: its masks are noise until it is trained.
    """
    if str(name_or_path) not in MODELS:
        if weights is not None or preset is not None:
            raise ConfigError(f"{name_or_path} is a whole model: it says its own preset and weights")
        return load_saved(_open_ours(name_or_path))
    method = str(name_or_path)
    kind = card(method).model()
    if preset is not None and preset not in kind.presets:
        raise unknown_name(f"preset of {method}", preset, kind.presets)
    if isinstance(weights, str) and weights != "none":
        return _load_whole(method, weights, preset)
    preset = preset or next(iter(kind.presets))
    if weights is None:
        _say_random(method, preset)
    elif not isinstance(weights, str):
        find_pretrained(method, weights)  # before anything large is built
    model = kind.from_preset(preset)
    if weights is not None and not isinstance(weights, str):
        load_pretrained(model, weights)
    return model.eval()


def _say_random(method: str, preset: str) -> None:
    """Refuse random weights that nobody asked for, or warn of them where there are no others."""
    meant = 'weights="none" says that random ones are meant'
    if starts := card(method).presets[preset].weights:
        roles = ", ".join(f"{role!r}: {source!r}" for role, source in starts.items())
        raise ConfigError(
            f"{method}, preset {preset!r}, without weights would be random numbers: give weights={{{roles}}} to start "
            f"training from, or the source of a trained model; {meant}"
        )
    warnings.warn(f"{method}, preset {preset!r}, has random weights, its masks are noise: {meant}", stacklevel=3)


def _open_ours(name_or_path: str | Path) -> Saved:
    text = str(name_or_path)
    if text.startswith(("local:", "hub:")):
        path = find_whole(text)
        saved = ours_at(path)
        if saved is None:
            raise ConfigError(f"{text} is no model of rrsis-zoo ({path}): say which method it is, load_model(NAME, …)")
        return saved
    no_url(text)
    path = expanded(name_or_path)
    if not path.suffix and not path.exists():
        card(text)  # a misspelt name gets the answer for names
    return open_folder(path) if path.is_dir() else read_checkpoint(path)


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


def find_whole(source: str, method: str | None = None) -> Path:
    """Find the file or folder of a whole model on this machine.

    Args:
        source: ``local:PATH`` or ``hub:ORG/REPO[@REVISION][:FILE]``.
        method: whose files the authors' are looked for too; None for our own folders only.

    Raises:
        ConfigError: ``none``, or a malformed source.
        MissingWeightsError: it is not here.
    """
    parsed, what = parse_source(source), f"weights of {method or 'a whole model'}"
    official = card(method).official if method else None
    theirs = official.files if official else ()
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


def _load_whole(method: str, source: str, preset: str | None) -> ReferringSegmenter:
    path = find_whole(source, method)
    saved = ours_at(path)
    kind = card(method).model()
    if saved is not None:
        _check_method(saved, source, method)
        if preset is not None and _other(kind, to_plain(kind.presets[preset]), _settings(kind, saved)):
            raise ConfigError(f"{source} is not of preset {preset!r}: leave the preset out")
        return load_saved(saved)
    model = skeleton(method, preset)
    _fill_official(model, path, source)
    return model.eval()


def load_weights(model: ReferringSegmenter, weights: str | Mapping[str, str]) -> None:
    """Fill a built model: from a source of a whole model, or from one for each of its foundation models.

    Settings of the evaluation alone may differ from those that a whole model was saved or published with; a warning
    says so.

    Raises:
        ConfigError: weights of another method or configuration.
        MissingWeightsError, WeightsMismatchError: as the sources.
    """
    if not isinstance(weights, str):
        load_pretrained(model, weights)
        return
    path = find_whole(weights, model.name)
    saved = ours_at(path)
    if saved is None:
        official = card(model.name).official
        _warn_of_settings(model, dict(official.settings) if official else {}, weights)
        _fill_official(model, path, weights)
        return
    _check_method(saved, weights, model.name)
    said = _settings(model, saved)
    if differing := _other(type(model), to_plain(model.config), said):
        raise ConfigError(f"{weights} has other settings than this {model.name}: {', '.join(differing)}")
    _warn_of_settings(model, {name: said[name] for name in sorted(model.evaluation_settings & said.keys())}, weights)
    load_into(model, saved.open, what=saved.what)
    if saved.meta["tokenizer"] is not None:
        model.load_tokenizer_state(saved.meta["tokenizer"])


def find_weights(method: str, weights: str | Mapping[str, str]) -> None:
    """Look for every file that ``load_weights`` would read, before anything large is built.

    Raises:
        ConfigError, MissingWeightsError: as there.
    """
    if isinstance(weights, str):
        find_whole(weights, method)
    else:
        find_pretrained(method, weights)


def _fill_official(model: ReferringSegmenter, path: Path, source: str) -> None:
    if card(model.name).official is None:
        raise WeightsMismatchError(f"{source} is no model of rrsis-zoo, and {model.name} has no other authors")
    load_official(model, path)
    if not model.tokenizer_ready:
        load_tokenizer(model, default_tokenizer(model.name))


def _warn_of_settings(model: ReferringSegmenter, theirs: Mapping[str, Any], source: str) -> None:
    """Say which settings the weights' own numbers were made with, where the model has others."""
    for name, value in theirs.items():
        if (ours := getattr(model.config, name)) != value:
            warnings.warn(
                f"{source} comes with {name}={value}, this {model.name} has {ours}: set model.init_args.settings."
                f"{name} to get the numbers that it was published with",
                stacklevel=3,
            )


def default_tokenizer(method: str) -> str:
    """Return the source of the tokenizer that a method was published with.

    Raises:
        ConfigError: it has none.
    """
    said = card(method)
    if said.official is None:
        raise ConfigError(f"{method} has no published tokenizer: it learns its vocabulary")
    role = said.official.tokenizer
    return next(p.weights[role] for p in said.presets.values() if p.weights)


def _check_method(saved: Saved, source: str, method: str) -> None:
    if saved.meta["model"] != method:
        raise ConfigError(f"{source} holds {saved.meta['model']}, not {method}")


def _settings(model: ReferringSegmenter | type[ReferringSegmenter], saved: Saved) -> dict[str, Any]:
    """Return a saved configuration; settings that were added since it was written have their defaults."""
    kind = type(next(iter(model.presets.values())))
    try:
        return to_plain(from_plain(kind, saved.meta["config"]))
    except ConfigError as error:
        raise WeightsMismatchError(f"{saved.what}: {error}") from error


def _other(kind: type[ReferringSegmenter], ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return how two configurations differ, apart from settings of the evaluation alone."""
    free = kind.evaluation_settings
    kept, said = ({n: v for n, v in config.items() if n not in free} for config in (ours, theirs))
    return _differences(kept, said)


def _differences(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Return the settings that differ, by their dotted names; lists and tuples are alike (JSON has lists only)."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        names = [*ours, *(name for name in theirs if name not in ours)]
        return [d for n in names for d in _differences(ours.get(n), theirs.get(n), f"{where}.{n}" if where else n)]
    same = list(ours) == list(theirs) if isinstance(ours, tuple | list) and theirs is not None else ours == theirs
    return [] if same else [f"{where} is {theirs!r}, here {ours!r}"]
