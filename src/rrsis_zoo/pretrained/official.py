"""Converting the authors' checkpoints into ours and back, exact to the last bit.

The authors' programs write files in many forms: under ``state_dict`` or ``module``, with ``module.`` or other prefixes
before every name, in bf16, with adapters under the names of several versions of peft. The card of a method describes
its form (`rrsis_zoo.models.card.Official`); nothing here is specific to a method.
"""

from __future__ import annotations

import hashlib
import os
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
    """Return the layout of the authors' files for a method.

    Raises:
        ConfigError: the method is our own.
    """
    layout = model.card.official
    if layout is None:
        raise ConfigError(f"{model.name} is this project's own method: there is no other format of its weights")
    return layout


def official_names(model: ReferringSegmenter) -> dict[str, str]:
    """Map every parameter and buffer of a method to its name in the authors' checkpoints.

    Raises:
        ConfigError: the method is our own.
    """
    official_layout(model)
    rename = type(model).official_name
    assert rename is not None
    return {name: rename(name) for name in model.state_dict()}


@dataclass(frozen=True)
class Conversion:
    """The result for every entry of an authors' file.

    Attributes:
        mapped: our name -> their name.
        skipped: their name -> why ours has no such entry.
    """

    mapped: dict[str, str]
    skipped: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return the report: how many entries were mapped, and which were skipped and why; none is left over."""
        lines = [f"mapped: {len(self.mapped)} entries"]
        reasons: dict[str, list[str]] = {}
        for name, reason in self.skipped.items():
            reasons.setdefault(reason, []).append(name)
        for reason, names in reasons.items():
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            lines.append(f"skipped: {len(names)} ({reason}): {', '.join(names[:3])}{more}")
        return "\n".join([*lines, "left over: 0"])


def read_official(model: ReferringSegmenter, path: Path) -> dict[str, Tensor]:
    """Read an authors' file: their names without prefixes, tensors unchanged (memory-mapped, in their dtype).

    Raises:
        MissingWeightsError: the file does not exist.
        WeightsMismatchError: it is damaged, or does not contain exactly one state dict.
    """
    layout = official_layout(model)
    state = read_state_dict(path, layout.joined)
    for prefix in layout.prefixes:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def match_official(model: ReferringSegmenter, state: Mapping[str, Tensor], what: str) -> Match:
    """Assign every entry of an authors' state dict to a name in the model.

    Raises:
        WeightsMismatchError: entries are missing, left over, repeated or wrongly shaped; listed by the authors' names.
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
        MissingWeightsError: the file does not exist.
        WeightsMismatchError: it is damaged, or its entries do not fit the model.
    """
    what = f"the authors' {path}"
    matched = match_official(model, read_official(model, path), what)
    fill_module(
        model,
        lambda: read_official(model, path),
        what=what,
        rename=_places(official_names(model)),
        ignore=official_layout(model).skipped,
    )
    return Conversion(matched.entries, matched.skipped)


def convert(
    model: ReferringSegmenter,
    path: Path,
    out: Path,
    source: str | None = None,
    release: str | None = None,
) -> Conversion:
    """Write an authors' file as a folder of ours, with a card; every entry keeps its dtype and bits.

    Args:
        model: of the file's configuration, with its tokenizer if the folder should have one; its own weights do not
            matter and may be on the meta device (`skeleton`).
        path: the authors' file.
        out: folder to write to.
        source: origin of the file, for the card; the file's name by default.
        release: name of the authors' release, for the card.

    Raises:
        MissingWeightsError: the file does not exist.
        WeightsMismatchError: it is damaged, or its entries do not fit the model; nothing is written.
        ConfigError: the authors have no release of that name.
    """
    known = [known.name for known in model.card.releases]
    if release is not None and release not in known:
        raise unknown_name(f"release of {model.name}", release, known)
    state = read_official(model, path)
    matched = match_official(model, state, f"the authors' {path}")
    report = Conversion(matched.entries, matched.skipped)
    dtypes = sorted({str(state[name].dtype).removeprefix("torch.") for name in matched.entries.values()})
    provenance = {
        "source": source or path.name,
        "sha256": file_hashes(path),
        "release": release,
        "dtypes": dtypes,
        "report": report.text(),
        "converted_by": f"rrsis-zoo {__version__}",
    }
    description = model.description()
    write_folder(
        out,
        {**description, "provenance": provenance},
        {name: state[official] for name, official in matched.entries.items()},
        {name: state[name] for name in matched.skipped},
        card=model_card(model.card, description["config"], provenance),
    )
    return report


def write_official(
    model: ReferringSegmenter, state: Mapping[str, Tensor], out: Path, skipped: Mapping[str, Tensor] | None = None
) -> int:
    """Write a state dict of ours in the authors' layout.

    Args:
        model: of the same configuration; its own weights do not matter.
        state: our names to tensors.
        out: with the suffix ``.safetensors`` only the tensors, with any other a torch file wrapped like the authors'.
        skipped: entries that ours lacks, under the authors' names.

    Returns:
        The number of entries.

    Raises:
        WeightsMismatchError: the state is incomplete.
        OutputError: the file cannot be written; an existing file is unchanged.
    """
    matched = match(model, state, what=f"{model.name} for {out.name}", bare=False)
    names = official_names(model)
    entries = {names[name]: state[key] for name, key in matched.entries.items()} | dict(skipped or {})
    if out.suffix == ".safetensors":
        save_tensors(entries, out)  # replaces the file: the tensors may be mapped from `out`
        return len(entries)
    wrapper = official_layout(model).wrapper
    # clones, because torch writes the whole storage of a view
    whole = {name: tensor.clone() for name, tensor in entries.items()}
    save({wrapper: whole} if wrapper else whole, out)
    return len(entries)


def skipped_beside(folder: Path) -> dict[str, Tensor]:
    """Return the entries that a conversion kept for converting back."""
    path = folder / SKIPPED
    if outside(folder, path):
        raise WeightsMismatchError(f"{path} is a link to a place outside the folder: put the file itself there")
    return read_state_dict(path) if os.path.exists(path) else {}


def skeleton(kind: type[ReferringSegmenter], preset: str | None = None) -> ReferringSegmenter:
    """Return the model for an authors' file, without memory for its parameters, with the authors' settings.

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
    """Return the look-up from the authors' names to ours; an unknown name raises KeyError.

    It includes the names of adapters in other versions of peft: ``x.lora_A.weight`` for ``x.lora_A.default.weight``
    and ``x.weight`` for ``x.base_layer.weight``.
    """
    places = {official: own for own, official in names.items()}
    for official, own in list(places.items()):
        places.setdefault(re.sub(r"\.lora_([AB])\.default\.", r".lora_\1.", official), own)
        places.setdefault(official.replace(".base_layer.", "."), own)
    return places.__getitem__
