"""Our own checkpoints: which method, which configuration, which tokenizer, so that a file alone is a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import rrsis_zoo
from rrsis_zoo.errors import MissingDataError, MissingWeightsError, RRSISError, WeightsMismatchError
from rrsis_zoo.files import regular_file
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.configuration import from_plain, to_plain
from rrsis_zoo.registry import MODELS, card
from rrsis_zoo.weights.descriptions import FORMAT, CheckpointDescription, described
from rrsis_zoo.weights.files import is_torch_file, read_any, state_dict_in
from rrsis_zoo.weights.load import load_into
from rrsis_zoo.weights.skeleton import without_weights
from rrsis_zoo.weights.wrappers import unwrapped

META = "rrsis_meta"
_PREFIX = "model."  # of the LightningModule's attribute
_CLASSES = ("_class_path", "_instantiator")  # what Lightning imports to build a model from its hyper-parameters
_LIGHTNING = "lightning.pytorch.cli.instantiate_module"
_SLACK = 2**26  # numbers that a small model may take while it is built


def meta(model: ReferringSegmenter) -> dict[str, Any]:
    """Return what a checkpoint must say of a model besides its tensors."""
    return {
        "format": FORMAT,
        "version": rrsis_zoo.__version__,
        "model": model.name,
        "config": to_plain(model.config),
        "tokenizer": model.tokenizer_state() if model.tokenizer_ready else None,
    }


@dataclass(frozen=True)
class Saved:
    """A whole model of ours in a file or folder.

    Attributes:
        what: what and where it is, as an error says it.
        meta: see `meta`; ``provenance`` too where it is known.
        open: opens the torch model's state dict.
        steady: whether the file is never written in place, so that a model may stay mapped to it.
        bytes: size of the file that the tensors are in.
    """

    what: str
    meta: dict[str, Any]
    open: Callable[[], dict[str, Tensor]]
    steady: bool
    bytes: int


def read_checkpoint(path: Path) -> Saved:
    """Read a file that `rrsis fit` wrote. Nothing in it is run or imported.

    Raises:
        MissingWeightsError: there is no such file.
        WeightsMismatchError: it is damaged, cut short, or not a checkpoint of ours; or it names a class that is neither
            ours nor that of a registered method.
    """
    try:
        regular_file(path, WeightsMismatchError)
    except MissingDataError as error:
        raise MissingWeightsError(str(error).replace("there is no file", "there is no checkpoint", 1)) from error
    content = None if path.suffix == ".safetensors" else read_any(path)
    if not isinstance(content, dict) or META not in content:
        raise WeightsMismatchError(f"{path} is not a checkpoint of rrsis-zoo: it has no {META!r}")
    said = content[META]
    what = f"{path}, {META}"
    model = described(CheckpointDescription, said, what).model
    check_classes(content.get("hyper_parameters"), path)
    _state(content, path)

    def state() -> dict[str, Tensor]:
        return _state(read_any(path), path)

    return Saved(f"{model} from {path}", dict(said), state, steady=False, bytes=path.stat().st_size)


def _state(content: Any, path: Path) -> dict[str, Tensor]:
    entries = content.get("state_dict")
    if not isinstance(entries, dict):
        raise WeightsMismatchError(f"{path} has no state_dict: save it again with rrsis fit")
    state = unwrapped(state_dict_in(entries, path), str(path))
    inner = {name.removeprefix(_PREFIX): tensor for name, tensor in state.items() if name.startswith(_PREFIX)}
    return unwrapped(inner, str(path))


def check_classes(hyper_parameters: Any, path: Path) -> None:
    """Refuse a checkpoint whose hyper-parameters name a class that Lightning would import and that is no method's.

    Args:
        hyper_parameters: as the checkpoint has them.
        path: of the checkpoint.

    Raises:
        WeightsMismatchError: see there; it names the class.
    """
    if not isinstance(hyper_parameters, Mapping):
        return
    known = {method.lightning_class.replace(":", ".") for method in MODELS.values()} | {_LIGHTNING}
    for name in _CLASSES:
        given = hyper_parameters.get(name)
        if given is not None and given not in known:
            raise WeightsMismatchError(
                f"{path}, hyper_parameters.{name}: {given!r} is no class of a registered method; it is not imported. "
                "Register the method (rrsis_zoo.registry.MODELS), or use a checkpoint whose origin you know"
            )


def is_checkpoint(path: Path) -> bool:
    """Whether a torch file is a checkpoint of ours; False for other kinds of files.

    Raises:
        WeightsMismatchError: a torch file that cannot be read.
    """
    if not is_torch_file(path):
        return False
    content = read_any(path)
    return isinstance(content, dict) and META in content


def build(said: Mapping[str, Any], what: str = "the description", numbers: int | None = None) -> ReferringSegmenter:
    """Build the model that a checkpoint's `meta` describes, tokenizer included, without memory for its parameters.

    Args:
        said: see `meta`.
        what: where it is from, as an error says it.
        numbers: how many numbers the model may take while it is built; see `without_weights`.

    Raises:
        ConfigError: settings that this version does not know, or values that no model has.
        WeightsMismatchError: a configuration of which no model can be built, or a tokenizer that is none.
    """
    kind = card(said["model"]).model()
    config_kind = type(next(iter(kind.presets.values())))
    try:
        config = from_plain(config_kind, said["config"])
        with without_weights(numbers):
            model = kind(config)
        if said["tokenizer"] is not None:
            model.load_tokenizer_state(said["tokenizer"])
    except RRSISError as error:
        raise type(error)(f"{what}: {error}") from error
    except Exception as error:  # sizes that do not go together fail anywhere inside
        raise WeightsMismatchError(
            f"{what}: no {said['model']} can be built of its configuration ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]})"
        ) from error
    return model


def load_saved(saved: Saved) -> ReferringSegmenter:
    """Return the saved model in evaluation mode; its memory is taken once, or is the file's where that is steady.

    Raises:
        ConfigError, WeightsMismatchError: as `build`, and weights that do not fit, or are not finite.
    """
    model = build(saved.meta, saved.what, _SLACK + 8 * saved.bytes)
    load_into(model, saved.open, what=saved.what, share=saved.steady)
    if saved.meta.get("provenance"):
        model.provenance = {**saved.meta["provenance"], "saved_again": True}  # whatever happens to it from here on
    return model.eval()


def weights_hash(model: ReferringSegmenter) -> str:
    """Return the SHA-256 of all names and values of a model, for the records that its numbers go into."""
    return state_hash(model.state_dict())


def state_hash(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names and values of a state dict, in its order; names are those without wrappers."""
    digest = hashlib.sha256()
    for name, tensor in unwrapped(state, "the model").items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
