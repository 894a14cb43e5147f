"""The authors' checkpoints into ours, and back, to the last bit.

What the authors' programs wrote is wrapped in many ways: under ``state_dict`` or ``module``, with ``module.`` or other
prefixes before every name, in bf16, with adapters under peft's names of several versions. The card of a method says
which (`rrsis_zoo.models.card.Official`); nothing here knows a method.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from rrsis_zoo.errors import ConfigError, WeightsMismatchError, unknown_name
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.card import Official
from rrsis_zoo.models.modelcard import model_card
from rrsis_zoo.version import __version__
from rrsis_zoo.weights.files import read_state_dict, save_tensors
from rrsis_zoo.weights.folders import SKIPPED, write_folder
from rrsis_zoo.weights.load import Match, fill_module, match
from rrsis_zoo.weights.places import outside
from rrsis_zoo.weights.saving import save
from rrsis_zoo.weights.skeleton import without_weights
from rrsis_zoo.weights.sources import INDEX_SUFFIX, read_index


def official_layout(model: ReferringSegmenter) -> Official:
    """Return how the authors of a method write it.

    Raises:
        ConfigError: it has no authors but us.
    """
    layout = model.card.official
    if layout is None:
        raise ConfigError(f"{model.name} is this project's own: nobody else has written weights of it")
    return layout


def official_names(model: ReferringSegmenter) -> dict[str, str]:
    """Map every parameter and buffer of a method to its name in the authors' checkpoints.

    Raises:
        ConfigError: the method has no authors but us.
    """
    official_layout(model)
    rename = type(model).official_name
    assert rename is not None
    return {name: rename(name) for name in model.state_dict()}


@dataclass(frozen=True)
class Conversion:
    """What became of every entry of an authors' file.

    Attributes:
        mapped: our name -> their name.
        skipped: their name -> why it has no place in ours.
    """

    mapped: dict[str, str]
    skipped: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return the report: how many entries were mapped, which were skipped and why; none is left over."""
        lines = [f"mapped: {len(self.mapped)} entries"]
        reasons: dict[str, list[str]] = {}
        for name, reason in self.skipped.items():
            reasons.setdefault(reason, []).append(name)
        for reason, names in reasons.items():
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            lines.append(f"skipped: {len(names)} ({reason}): {', '.join(names[:3])}{more}")
        return "\n".join([*lines, "left over: 0"])


def read_official(model: ReferringSegmenter, path: Path) -> dict[str, Tensor]:
    """Read an authors' file: their names without wrapping prefixes, tensors as they are (mapped, in their dtype).

    Raises:
        MissingWeightsError, WeightsMismatchError: as `read_state_dict`.
    """
    state = read_state_dict(path)
    for prefix in official_layout(model).prefixes:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def match_official(model: ReferringSegmenter, state: Mapping[str, Tensor], what: str) -> Match:
    """Find the place of every entry of an authors' state dict.

    Raises:
        WeightsMismatchError: entries that are missing, left over, repeated or wrongly shaped, by the authors' names.
    """
    names = official_names(model)
    return match(
        model,
        state,
        what=what,
        rename=_places(names),
        ignore=official_layout(model).skipped,
        bare=False,
        called=names.__getitem__,
    )


def fill_official(model: ReferringSegmenter, path: Path) -> Conversion:
    """Fill a model from an authors' file, in the model's own dtype.

    Raises:
        MissingWeightsError, WeightsMismatchError: as `read_official` and `match_official`.
    """
    what = f"the authors' {path}"
    found = match_official(model, read_official(model, path), what)
    fill_module(
        model,
        lambda: read_official(model, path),
        what=what,
        rename=_places(official_names(model)),
        ignore=official_layout(model).skipped,
    )
    return Conversion(found.entries, found.skipped)


def convert(
    model: ReferringSegmenter,
    path: Path,
    out: Path,
    source: str | None = None,
    release: str | None = None,
) -> Conversion:
    """Write an authors' file as a folder of ours, with a card; every entry keeps its dtype and bits.

    Args:
        model: of the file's configuration, with its tokenizer where the folder is to have one; its own weights do
            not matter, they may be on the meta device (`skeleton`).
        path: the authors' file.
        out: folder to write to.
        source: where the file comes from, for the card; its path's name by default.
        release: name of the authors' release that it is, for the card.

    Raises:
        MissingWeightsError, WeightsMismatchError: as `read_official` and `match_official`; nothing is written then.
        ConfigError: the authors have no release of that name.
    """
    known = [known.name for known in model.card.releases]
    if release is not None and release not in known:
        raise unknown_name(f"release of {model.name}", release, known)
    state = read_official(model, path)
    found = match_official(model, state, f"the authors' {path}")
    report = Conversion(found.entries, found.skipped)
    dtypes = sorted({str(state[name].dtype).removeprefix("torch.") for name in found.entries.values()})
    provenance = {
        "source": source or path.name,
        "sha256": file_hashes(path),
        "release": release,
        "dtypes": dtypes,
        "report": report.text(),
        "converted_by": f"rrsis-zoo {__version__}",
    }
    ours = model.description()
    write_folder(
        out,
        {**ours, "provenance": provenance},
        {name: state[theirs] for name, theirs in found.entries.items()},
        {name: state[name] for name in found.skipped},
        card=model_card(model.card, ours["config"], provenance),
    )
    return report


def write_official(
    model: ReferringSegmenter, state: Mapping[str, Tensor], out: Path, skipped: Mapping[str, Tensor] | None = None
) -> int:
    """Write a state dict of ours in the authors' layout.

    Args:
        model: of its configuration; its own weights do not matter.
        state: our names to tensors.
        out: ``.safetensors`` gets the bare tensors, any other suffix a torch file wrapped as the authors' are.
        skipped: entries under their names that have no place in ours.

    Returns:
        The number of entries.

    Raises:
        WeightsMismatchError: the state is not complete.
        OutputError: the file cannot be written; what was there before is as it was.
    """
    found = match(model, state, what=f"{model.name} for {out.name}", bare=False)
    names = official_names(model)
    theirs = {names[ours]: state[given] for ours, given in found.entries.items()} | dict(skipped or {})
    if out.suffix == ".safetensors":
        save_tensors(theirs, out)  # replaces it as a whole: `out` may be what the tensors are mapped from
        return len(theirs)
    wrapper = official_layout(model).wrapper
    # clones: torch writes the whole storage that a view belongs to
    whole = {name: tensor.clone() for name, tensor in theirs.items()}
    save({wrapper: whole} if wrapper else whole, out)
    return len(theirs)


def skipped_beside(folder: Path) -> dict[str, Tensor]:
    """Return the entries that a conversion kept for the way back."""
    path = folder / SKIPPED
    if outside(folder, path):
        raise WeightsMismatchError(f"{path} is a link that leads out of the folder: put the file itself there")
    return read_state_dict(path) if path.exists() else {}


def skeleton(kind: type[ReferringSegmenter], preset: str | None = None) -> ReferringSegmenter:
    """Return the model for an authors' file, without memory for its parameters, set as their numbers were made.

    Args:
        kind: the method's torch class.
        preset: its sizes; None for the default preset.

    Raises:
        ConfigError: unknown preset.
    """
    settings = kind.card.official.settings if kind.card.official else {}
    with without_weights():
        return kind.from_preset(preset or kind.card.default_preset, **settings)


def file_hashes(path: Path) -> dict[str, str]:
    """Return the SHA-256 of a weight file, or of an index and all its shards, by file name."""
    paths = [path]
    if path.name.endswith(INDEX_SUFFIX):
        paths += [path.parent / shard for shard in sorted(set(read_index(path).values()))]
    hashes = {}
    for each in paths:
        with each.open("rb") as file:
            hashes[each.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _places(names: Mapping[str, str]) -> Callable[[str], str]:
    """Return the look-up from the authors' names to ours; an unknown name is a KeyError.

    Names of adapters as other versions of peft wrote them are known too: ``x.lora_A.weight`` for
    ``x.lora_A.default.weight`` and ``x.weight`` for ``x.base_layer.weight``.
    """
    places = {theirs: ours for ours, theirs in names.items()}
    for theirs, ours in list(places.items()):
        places.setdefault(re.sub(r"\.lora_([AB])\.default\.", r".lora_\1.", theirs), ours)
        places.setdefault(theirs.replace(".base_layer.", "."), ours)
    return places.__getitem__
