"""The foundation models' released weights, into a method that is built on them.

A method has *roles* (``sam``, ``siglip``; see its card); a source string is given for each, or ``none``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.errors import ConfigError, MissingWeightsError, unknown_name
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.layers.lora import is_lora
from rrsis_zoo.registry import card
from rrsis_zoo.weights.files import load_state_dict
from rrsis_zoo.weights.load import load_into
from rrsis_zoo.weights.names import (
    evisam3,
    rename,
    sam2_to_transformers,
    sam3_in_meta,
    sam3_in_transformers,
    sam_to_transformers,
)
from rrsis_zoo.weights.sources import HubSource, NoSource, parse_source, resolve

SAM2_VIDEO_PARTS: dict[str, str] = dict.fromkeys(
    (
        # Meta's names
        "memory_attention.*",
        "memory_encoder.*",
        "mask_downsample.*",
        "maskmem_tpos_enc",
        "no_mem_pos_enc",
        "no_obj_ptr",
        "no_obj_embed_spatial",
        "obj_ptr_proj.*",
        "obj_ptr_tpos_proj.*",
        # transformers'
        "memory_temporal_positional_encoding",
        "no_memory_positional_encoding",
        "no_object_pointer",
        "object_pointer_proj.*",
        "occlusion_spatial_embedding_parameter",
        "temporal_positional_encoding_projection_layer.*",
    ),
    "only video reads it",
)

_POINTS = "prompt_encoder.point_embed.weight"
_OWN_CODE = "position_code.positional_encoding_gaussian_matrix"
_PROMPT_CODE = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"


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
    roles = card(method).roles
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
                f"{what}: {files} of {source.place} are not here; fetch them with: {source.command([*faults])}"
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
        card(model.name).roles[name].load(model, paths)


def load_tokenizer(model: ReferringSegmenter, source: str) -> None:
    """Give a method the published tokenizer that its card names.

    Args:
        model: the method.
        source: ``local:PATH`` or ``hub:ORG/REPO`` of the tokenizer's file, or of a folder that holds it.

    Raises:
        MissingWeightsError: it is not on this machine.
        ConfigError: a file of another kind, or a method that has no published tokenizer.
    """
    official = card(model.name).official
    if official is None:
        raise ConfigError(f"{model.name} has no published tokenizer: it learns its vocabulary")
    role = card(model.name).roles[official.tokenizer]
    set_tokenizer(model, resolve(parse_source(source), role.tokenizer, f"tokenizer of {role.what} ({model.name})"))


def set_tokenizer(model: ReferringSegmenter, path: Path) -> None:
    """Give a method the tokenizer in a file."""
    model.tokenizer = model.tokenizer_kind.from_file(path, model.text_limits[1])


# -- loaders that the cards name: fill a method from the files of one role -------------------------------------------


def load_sam(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill ``model.sam``."""
    fill_sam(model.get_submodule("sam"), paths[0])


def load_siglip(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill ``model.siglip`` and set the tokenizer."""
    fill_siglip(model.get_submodule("siglip"), paths[0])
    set_tokenizer(model, paths[1])


def load_rs2sam2_sam(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill ``model.sam``, apart from what the method adds to every block of the trunk."""
    fill_sam2(model.get_submodule("sam"), paths[0], new=("*.fusion.*", "*.adapter.*"))


def load_rsrefseg2_sam(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill ``model.sam``, a SAM 2.1 or a SAM, whichever is configured."""
    fill = fill_sam2 if model.config.backbone == "sam2" else fill_sam
    fill(model.get_submodule("sam"), paths[0])


def load_evisam3_sam(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill ``model.sam`` and the no-mask embedding from SAM 3, in Meta's or in transformers' form.

    As published, the two mask tokens keep their initial values, and so do the heads that nothing reads; with the
    setting ``sam_mask_tokens`` the tokens are the first two of SAM 3's four (docs/methods/evisam3.md Q10).
    """
    from rrsis_zoo.models.evisam3 import EviSAM3

    assert isinstance(model, EviSAM3)
    path, neck = paths[0], model.config.neck
    fresh = ["sam.mask_decoder.iou_prediction_head.", "sam.mask_decoder.pred_obj_score_head."]
    fresh += [] if model.config.sam_mask_tokens else ["sam.mask_decoder.mask_tokens."]
    needed = {
        name
        for name in model.state_dict()
        if name.startswith(("sam.", "no_mask_embed.")) and not name.startswith(tuple(fresh))
    }

    def read() -> dict[str, Tensor]:
        state = load_state_dict(path)
        if any(name.startswith("detector_model.") for name in state):
            ours = _sam3_from_transformers({rename(n, sam3_in_transformers(neck)): t for n, t in state.items()})
        else:
            places = {evisam3(name): name for name in needed}
            ours = {places.get(rename(n, sam3_in_meta(neck)), n): t for n, t in state.items()}
        tokens = "sam.mask_decoder.mask_tokens.weight"
        if tokens in ours:
            ours[tokens] = ours[tokens][:2]
        return {name: tensor for name, tensor in ours.items() if name in needed}

    load_into(model, read, what=f"SAM 3 from {path}", may_be_missing=lambda name: name not in needed)


def _sam3_from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fuse queries, keys and values, and put the class token's row, which nothing reads, before the positions."""
    fused: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if ".attention.q_proj." in name and name.startswith("sam.trunk."):
            parts = [state[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            fused[name.replace(".q_proj.", ".qkv.")] = torch.cat(parts)
        elif name == "sam.trunk.embeddings.position_embeddings":
            fused[name] = F.pad(tensor, (0, 0, 1, 0))
        else:
            fused[name] = tensor
    return fused


def load_beit3(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill ``model.union`` and set the tokenizer."""
    fill_beit3(model.get_submodule("union"), paths[0])
    set_tokenizer(model, paths[1])


def load_control_backbone(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill the levels that are used; timm's feature networks write ``stages_0.`` for the file's ``stages.0.``."""
    backbone = model.get_submodule("backbone")
    places = backbone.state_dict()

    def rename(name: str) -> str | None:  # the classifier and coarser stages have no place
        return next((n for n in (name, name.replace(".", "_", 1)) if n in places), None)

    load_into(backbone, lambda: load_state_dict(paths[0]), what=f"the backbone from {paths[0]}", rename=rename)


# -- foundation models -----------------------------------------------------------------------------------------------


def fill_sam(module: nn.Module, path: Path) -> None:
    """Fill a `rrsis_zoo.models.backbones.sam.SAM` from SAM's own release or from transformers' form of it.

    Both position codes get the one matrix that the file has.
    """
    places = [name.replace(".base_layer.", ".") for name in module.state_dict() if not is_lora(name)]
    ours = {theirs: name for name, theirs in sam_to_transformers(places).items()}

    def read() -> dict[str, Tensor]:
        state = load_state_dict(path)
        if any(name.startswith("vision_encoder.") for name in state):
            state = {ours.get(name, name): tensor for name, tensor in state.items()}
        for name, other in ((_OWN_CODE, _PROMPT_CODE), (_PROMPT_CODE, _OWN_CODE)):
            if name not in state and other in state:
                state[name] = state[other]
        return state

    load_into(module, read, what=f"SAM from {path}")


def fill_siglip(module: nn.Module, path: Path) -> None:
    """Fill a `rrsis_zoo.models.backbones.siglip.SigLIP` from transformers' ``SiglipModel``."""
    load_into(
        module,
        lambda: load_state_dict(path),
        what=f"SigLIP from {path}",
        ignore={"*.position_ids": "computed, not learned"},
    )


def fill_sam2(module: nn.Module, path: Path, new: Sequence[str] = ()) -> None:
    """Fill a `rrsis_zoo.models.backbones.sam2.SAM2` (SAM 2 or 2.1) from Meta's release or transformers' form of it.

    Parts for video are left out.

    Args:
        module: the SAM 2.
        path: for instance ``sam2_hiera_large.pt``.
        new: ``fnmatch`` patterns of names that the method adds and the file cannot have.
    """
    places = [name.replace(".base_layer.", ".") for name in module.state_dict() if not is_lora(name)]
    ours = {theirs: name for name, theirs in sam2_to_transformers(places).items()}

    def read() -> dict[str, Tensor]:
        state = load_state_dict(path)
        if not any(name.startswith("vision_encoder.") for name in state):
            return state
        if (points := state.pop(_POINTS, None)) is not None:
            state |= {f"prompt_encoder.point_embed.{i}.weight": row[None] for i, row in enumerate(points)}
        return {ours.get(name, name): tensor for name, tensor in state.items()}

    twice = {"shared_image_embedding.positional_embedding": "the prompt encoder has it too"}
    load_into(module, read, what=f"SAM 2 from {path}", may_be_missing=new, ignore={**SAM2_VIDEO_PARTS, **twice})


def fill_beit3(module: nn.Module, path: Path) -> None:
    """Fill a `rrsis_zoo.models.backbones.beit3.BEiT3` from Microsoft's release; its pretraining heads are left out."""
    prefix = "beit3."

    def rename(name: str) -> str | None:
        return name.removeprefix(prefix) if name.startswith(prefix) else None

    names: list[str] = [f"{prefix}vision_embed.mask_token", "match_head.*", "ground_head.*"]
    unused = dict.fromkeys(names, "only pretraining reads it")
    load_into(module, lambda: load_state_dict(path), what=f"BEiT-3 from {path}", rename=rename, ignore=unused)
