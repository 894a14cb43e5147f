"""The foundation models' released weights, into a method that is built on them.

A method has *roles* (``sam``, ``siglip``); a source string is given for each, or ``none`` for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from rrsis_zoo.errors import ConfigError, MissingWeightsError, unknown_name
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.layers.lora import is_lora
from rrsis_zoo.weights.files import load_state_dict
from rrsis_zoo.weights.load import load_into
from rrsis_zoo.weights.names import sam_to_transformers
from rrsis_zoo.weights.sources import HubSource, NoSource, parse_source, resolve


@dataclass(frozen=True)
class Role:
    """A foundation model inside a method.

    Attributes:
        what: its name, as an error says it.
        files: for each file that is needed, the names it may have, the preferred one first.
        load: fills the method from these files, in the order of ``files``.
    """

    what: str
    files: tuple[tuple[str, ...], ...]
    load: Callable[[ReferringSegmenter, list[Path]], None]


_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_SAM_FILES = (*_WEIGHTS, "sam_vit_b_01ec64.pth", "sam_vit_l_0b3195.pth", "sam_vit_h_4b8939.pth")
_OWN_CODE = "position_code.positional_encoding_gaussian_matrix"
_PROMPT_CODE = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"

SAM2_VIDEO_PARTS: dict[str, str] = dict.fromkeys(
    (
        "memory_attention.*",
        "memory_encoder.*",
        "mask_downsample.*",
        "maskmem_tpos_enc",
        "no_mem_pos_enc",
        "no_obj_ptr",
        "no_obj_embed_spatial",
        "obj_ptr_proj.*",
        "obj_ptr_tpos_proj.*",
    ),
    "only video reads it",
)


def find_pretrained(method: str, weights: Mapping[str, str]) -> dict[str, list[Path]]:
    """Find every file that the sources name on this machine, before anything large is built.

    Args:
        method: public name of the method.
        weights: role -> source string.

    Returns:
        role -> its files, for the roles whose source is not ``none``.

    Raises:
        ConfigError: an unknown or missing role, or a malformed source.
        MissingWeightsError: files are not on this machine; all of them are named.
    """
    roles = ROLES[method]
    for name in weights:
        if name not in roles:
            raise unknown_name(f"role in the weights of {method}", name, roles)
    if missing := sorted(set(roles) - set(weights)):
        raise ConfigError(
            f"weights of {method}: no source for {', '.join(missing)}; give local:PATH, hub:ORG/REPO or none for each"
        )
    sources = {name: parse_source(text) for name, text in weights.items()}
    found: dict[str, list[Path]] = {}
    absent: list[str] = []
    for name, source in sources.items():
        if isinstance(source, NoSource):
            continue
        what = f"{roles[name].what} ({method}, weights.{name})"
        faults: dict[str, MissingWeightsError] = {}
        for names in roles[name].files:
            try:
                found.setdefault(name, []).append(resolve(source, names, what))
            except MissingWeightsError as error:
                faults[names[0]] = error
        if len(faults) > 1 and isinstance(source, HubSource) and source.file is None:
            # one command for all files of a repository
            files = " and ".join(faults)
            absent.append(
                f"{what}: {files} of {source.page} are not here; fetch them with: {source.command([*faults])}"
            )
        else:
            absent += map(str, faults.values())
    if absent:
        raise MissingWeightsError("; ".join(absent))
    return found


def load_pretrained(model: ReferringSegmenter, weights: Mapping[str, str]) -> None:
    """Fill a method's foundation models from their sources; parameters of its own keep their initial values.

    Raises:
        ConfigError, MissingWeightsError: as ``find_pretrained``.
        WeightsMismatchError: a file that is not of the configured model.
    """
    for name, paths in find_pretrained(model.name, weights).items():
        ROLES[model.name][name].load(model, paths)


def load_sam(module: nn.Module, path: Path) -> None:
    """Fill a `rrsis_zoo.models.backbones.sam.SAM` from SAM's own release or from transformers' form of it.

    Both position codes get the one matrix that the file has.
    """
    state = load_state_dict(path)
    places = [name.replace(".base_layer.", ".") for name in module.state_dict() if not is_lora(name)]
    if any(name.startswith("vision_encoder.") for name in state):
        ours = {theirs: name for name, theirs in sam_to_transformers(places).items()}
        state = {ours.get(name, name): tensor for name, tensor in state.items()}
    for name, other in ((_OWN_CODE, _PROMPT_CODE), (_PROMPT_CODE, _OWN_CODE)):
        if name not in state and other in state:
            state[name] = state[other]
    load_into(module, state, what=f"SAM from {path}")


def load_siglip(module: nn.Module, path: Path) -> None:
    """Fill a `rrsis_zoo.models.backbones.siglip.SigLIP` from transformers' ``SiglipModel``."""
    state: dict[str, Tensor] = load_state_dict(path)
    load_into(module, state, what=f"SigLIP from {path}", ignore={"*.position_ids": "computed, not learned"})


def load_sam2(module: nn.Module, path: Path, new: Sequence[str] = ()) -> None:
    """Fill a `rrsis_zoo.models.backbones.sam2.SAM2` from Meta's release (SAM 2 or 2.1); its video parts are left out.

    Args:
        module: the SAM 2.
        path: for instance ``sam2_hiera_large.pt``.
        new: ``fnmatch`` patterns of names that the method adds and the file cannot have.
    """
    load_into(module, load_state_dict(path), what=f"SAM 2 from {path}", may_be_missing=new, ignore=SAM2_VIDEO_PARTS)


def _rsrefseg_sam(model: ReferringSegmenter, paths: list[Path]) -> None:
    load_sam(model.get_submodule("sam"), paths[0])


def _rsrefseg_siglip(model: ReferringSegmenter, paths: list[Path]) -> None:
    from rrsis_zoo.models.rsrefseg import RSRefSeg
    from rrsis_zoo.models.tokenizers import SigLIPTokenizer

    assert isinstance(model, RSRefSeg)
    load_siglip(model.siglip, paths[0])
    model.tokenizer = SigLIPTokenizer.from_file(paths[1], model.config.siglip.max_length)


def _control_backbone(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill the levels that are used; timm's feature networks write ``stages_0.`` for the file's ``stages.0.``."""
    backbone = model.get_submodule("backbone")
    places = backbone.state_dict()

    def rename(name: str) -> str | None:  # the classifier and coarser stages have no place
        return next((n for n in (name, name.replace(".", "_", 1)) if n in places), None)

    load_into(backbone, load_state_dict(paths[0]), what=f"the backbone from {paths[0]}", rename=rename)


ROLES: dict[str, dict[str, Role]] = {
    "rsrefseg": {
        "sam": Role("SAM", (_SAM_FILES,), _rsrefseg_sam),
        "siglip": Role("SigLIP", (_WEIGHTS, ("spiece.model",)), _rsrefseg_siglip),
    },
    "control": {"backbone": Role("the timm backbone", (_WEIGHTS,), _control_backbone)},
}
