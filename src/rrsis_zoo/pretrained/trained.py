"""A trained model stored without the weights of its foundation models, which the package or the user has anyway.

Its folder is one of `rrsis_zoo.weights.folders` whose ``config.json`` also has ``foundations``: the source of each role
and the SHA-256 of everything that the folder leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from rrsis_zoo.errors import ConfigError, WeightsMismatchError
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.configuration import to_plain
from rrsis_zoo.pretrained.foundations import fill_foundations
from rrsis_zoo.weights.checkpoints import Saved, state_hash
from rrsis_zoo.weights.folders import write_folder
from rrsis_zoo.weights.load import fill_module
from rrsis_zoo.weights.wrappers import own_name, own_names


def save_trained(
    model: ReferringSegmenter, folder: str | Path, foundations: Mapping[str, str], dtype: torch.dtype = torch.float16
) -> None:
    """Write only what training has changed or initialised; the rest is read from the foundation models again.

    Args:
        model: the trained model.
        folder: to write to; it is created.
        foundations: role -> source of the foundation model that the training started from.
        dtype: of the floating-point numbers in the file; the loaded model is float32 again.

    Raises:
        ConfigError: an unknown or missing role, or a malformed source.
        MissingWeightsError: a foundation model is not on this machine.
        OutputError: a file cannot be written; existing files are unchanged.
    """
    starts = [_started(model, foundations, seed) for seed in (0, 1)]
    first, second = (own_names(start.state_dict()) for start in starts)
    trained, rest = {}, {}
    for name, tensor in own_names(model.state_dict()).items():
        # what differs between two seeds is no foundation model's
        same = torch.equal(first[name], second[name]) and torch.equal(first[name], tensor.detach().cpu())
        (rest if same else trained)[name] = tensor
    state = {n: t.detach().cpu().to(dtype if t.is_floating_point() else t.dtype) for n, t in trained.items()}
    description = model.description()
    if _same_tokenizer(starts[0], model):
        description["tokenizer"] = None
    description["foundations"] = {"sources": dict(foundations), "sha256": state_hash(rest)}
    write_folder(Path(folder), description, state)


def fill_saved(model: ReferringSegmenter, saved: Saved) -> None:
    """Fill a model of the saved configuration, tokenizer included; first with the foundation models that it names.

    Raises:
        MissingWeightsError: a foundation model is not on this machine.
        WeightsMismatchError: the weights do not fit the model, or were trained on other foundation weights.
    """
    foundations = saved.meta.get("foundations")
    if foundations is None:
        fill_module(model, saved.open, what=saved.what)
    else:
        fill_foundations(model, foundations["sources"])
        state = saved.open()
        rest = {name: t for name, t in own_names(model.state_dict()).items() if name not in state}
        if (own_hash := state_hash(rest)) != foundations["sha256"]:
            sources = ", ".join(foundations["sources"].values())
            raise WeightsMismatchError(
                f"{saved.what} was trained on other foundation weights (sha256 {foundations['sha256'][:12]}…) than "
                f"{sources} are here ({own_hash[:12]}…)"
            )
        fill_module(model, state, what=saved.what, may_be_missing=lambda name: own_name(name) in rest)
    if saved.meta["tokenizer"] is not None:
        model.load_tokenizer_state(saved.meta["tokenizer"])


def model_of(kind: type[ReferringSegmenter], saved: Saved) -> ReferringSegmenter:
    """Return a saved model in evaluation mode.

    Raises:
        ConfigError: another method than this class, or an invalid configuration.
        MissingWeightsError: a foundation model is not on this machine.
        WeightsMismatchError: as `fill_saved`.
    """
    if saved.meta.get("foundations") is None:
        return kind.from_saved(saved)
    try:
        model = kind.from_description(saved.meta["config"])
    except ConfigError as error:
        raise ConfigError(f"{saved.what} cannot be built: {error}") from error
    fill_saved(model, saved)
    return model.eval()


def _started(model: ReferringSegmenter, foundations: Mapping[str, str], seed: int) -> ReferringSegmenter:
    """Return the model as before training, with own parameters from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        start = type(model).from_description(to_plain(model.config))
    fill_foundations(start, foundations)
    return start


def _same_tokenizer(one: ReferringSegmenter, other: ReferringSegmenter) -> bool:
    if not one.tokenizer_ready:
        return False
    a, b = one.tokenizer_state(), other.tokenizer_state()
    return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)


def _equal(a: object, b: object) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b
