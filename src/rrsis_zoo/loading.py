"""`rrsis_zoo.load_model`: a model from one source string."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

from rrsis_zoo.errors import ConfigError, WeightsMismatchError, unknown_name
from rrsis_zoo.files import expanded
from rrsis_zoo.methods.plugins import load_plugin
from rrsis_zoo.methods.registry import card, method_named, methods
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.card import MethodCard
from rrsis_zoo.models.compiling import Compile, check_compile
from rrsis_zoo.models.presence import calibration_at
from rrsis_zoo.pretrained.foundations import fill_foundations, find_foundations
from rrsis_zoo.pretrained.trained import model_of
from rrsis_zoo.pretrained.whole import find_whole, ours_at, whole_model
from rrsis_zoo.weights.checkpoints import Saved, read_checkpoint, weights_hash
from rrsis_zoo.weights.folders import open_folder
from rrsis_zoo.weights.places import no_url
from rrsis_zoo.weights.sources import is_source


def load_model(
    name_or_path: str | Path,
    weights: str | Mapping[str, str] | None = None,
    preset: str | None = None,
    plugin: str | Path | None = None,
    compile: Compile = "off",
) -> ReferringSegmenter:
    """Return a torch model in evaluation mode. Nothing is downloaded.

    A calibration beside a complete model (`rrsis calibrate`) is read too, and its answers then have a presence.

    Args:
        name_or_path: a complete model: a checkpoint of ``rrsis fit``, a folder of ``save_pretrained`` or
            ``rrsis convert``, either as a path or as ``local:PATH``, or ``hub:ORG/REPO`` of such a folder;
            ``mini:METHOD``, a miniature that the package ships; or a method's name.
        weights: with a name: a source of a complete model (as above, or the authors' own file), or one for each of the
            method's foundation models (``{"sam": "hub:facebook/sam-vit-base", …}``); ``"none"`` for random weights.
        preset: with a name: its sizes; None for the default preset, the paper's.
        plugin: Python file, package folder or module with a method of your own, see
            `rrsis_zoo.methods.plugins.load_plugin`. Its code is run.
        compile: how the parts that repeat are compiled, at their first calls: `rrsis_zoo.models.compiling.Compile`.

    Raises:
        ConfigError: unknown name or preset, settings that exclude each other, no weights for a preset that starts
            from published ones, or a plug-in that cannot be loaded.
        MissingWeightsError: a file of the weights is not on this machine.
        WeightsMismatchError: a file is damaged, or its weights do not fit the model.

    Warns:
        UserWarning: no weights for a preset without published ones: its masks are noise until it is trained. A
            calibration that is for other weights, or cannot be read, is ignored.
    """
    check_compile(compile)
    if plugin is not None:
        load_plugin(plugin)
    model = _loaded(name_or_path, weights, preset)
    if compile != "off":
        model.use_compile(compile)
    return model


def _loaded(
    name_or_path: str | Path, weights: str | Mapping[str, str] | None, preset: str | None
) -> ReferringSegmenter:
    name = str(name_or_path)
    if name not in methods():
        if weights is not None or preset is not None:
            raise ConfigError(
                f"{name_or_path} is a complete model with its own preset and weights: leave out both arguments"
            )
        path = _place(name_or_path)
        return _calibrated(saved_model(_open_ours(path, name)), path)
    facts, kind = card(name), method_named(name).model()
    if preset is not None and preset not in kind.presets:
        raise unknown_name(f"preset of {name}", preset, kind.presets)
    sizes = preset or facts.default_preset
    if isinstance(weights, str) and weights != "none":
        return _calibrated(whole_model(kind, weights, preset), find_whole(weights, facts))
    if weights is None:
        _check_random(facts, sizes)
    elif not isinstance(weights, str):
        find_foundations(facts, weights)  # before anything large is built
    model = kind.from_preset(sizes)
    if weights is not None and not isinstance(weights, str):
        fill_foundations(model, weights)
    return model.eval()


def saved_model(saved: Saved) -> ReferringSegmenter:
    """Return a saved model of any method in evaluation mode.

    Raises:
        WeightsMismatchError: an unknown method, or weights that do not fit the configuration.
        ConfigError: its configuration is invalid.
    """
    return model_of(kind_of(saved), saved)


def kind_of(saved: Saved) -> type[ReferringSegmenter]:
    """Return the torch class of a saved model.

    Raises:
        WeightsMismatchError: an unknown method.
    """
    known = methods()
    if (name := saved.meta["model"]) not in known:
        raise WeightsMismatchError(f"{saved.what}: {unknown_name('model', name, known)}")
    return known[name].model()


def _check_random(facts: MethodCard, preset: str) -> None:
    """Refuse random weights that were not requested, or warn about them if there are no others."""
    meant = 'weights="none" asks for random weights'
    if starts := facts.presets[preset].weights:
        roles = ", ".join(f"{role!r}: {source!r}" for role, source in starts.items())
        raise ConfigError(
            f"{facts.name}, preset {preset!r}, without weights would be random numbers: give weights={{{roles}}} to "
            f"start training from, or the source of a trained model; {meant}"
        )
    warnings.warn(f"{facts.name}, preset {preset!r}, has random weights, so its masks are noise: {meant}", stacklevel=4)


def _calibrated(model: ReferringSegmenter, path: Path) -> ReferringSegmenter:
    """Give a model the calibration beside its file or folder, if it is for these weights."""
    model.calibration = calibration_at(path, lambda: weights_hash(model))
    return model


def _place(name_or_path: str | Path) -> Path:
    """Return the file or folder of a complete model of ours."""
    text = str(name_or_path)
    if is_source(text):
        return find_whole(text)
    no_url(text)
    path = expanded(name_or_path)
    if not path.suffix and not os.path.exists(path):
        card(text)  # a misspelt name gets the error for names
    return path


def _open_ours(path: Path, text: str) -> Saved:
    if is_source(text):
        saved = ours_at(path)
        if saved is None:
            raise ConfigError(f"{text} is not a model of rrsis-zoo ({path}): name the method, load_model(NAME, …)")
        return saved
    return open_folder(path) if os.path.isdir(path) else read_checkpoint(path)
