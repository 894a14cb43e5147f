"""Loading released weights of foundation models into our modules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from rrsis_zoo.weights.files import read_state_dict
from rrsis_zoo.weights.load import fill_module
from rrsis_zoo.weights.names import sam2_to_transformers, sam_to_transformers
from rrsis_zoo.weights.wrappers import is_lora

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


def fill_sam(module: nn.Module, path: Path) -> None:
    """Fill a `rrsis_zoo.models.backbones.sam.SAM` from SAM's own release or from transformers' version of it.

    Both position codes get the same matrix from the file.
    """
    places = [name.replace(".base_layer.", ".") for name in module.state_dict() if not is_lora(name)]
    own_name_of = {official: name for name, official in sam_to_transformers(places).items()}

    def read() -> dict[str, Tensor]:
        state = read_state_dict(path)
        if any(name.startswith("vision_encoder.") for name in state):
            state = {own_name_of.get(name, name): tensor for name, tensor in state.items()}
        for name, other in ((_OWN_CODE, _PROMPT_CODE), (_PROMPT_CODE, _OWN_CODE)):
            if name not in state and other in state:
                state[name] = state[other]
        return state

    fill_module(module, read, what=f"SAM from {path}")


def fill_siglip(module: nn.Module, path: Path) -> None:
    """Fill a `rrsis_zoo.models.backbones.siglip.SigLIP` from transformers' ``SiglipModel``."""
    fill_module(
        module,
        lambda: read_state_dict(path),
        what=f"SigLIP from {path}",
        ignore={"*.position_ids": "computed, not learned"},
    )


def fill_sam2(module: nn.Module, path: Path, new: Sequence[str] = ()) -> None:
    """Fill a `rrsis_zoo.models.backbones.sam2.SAM2` (SAM 2 or 2.1) from Meta's release or transformers' version of it.

    Parts for video are left out.

    Args:
        module: the SAM 2.
        path: for instance ``sam2_hiera_large.pt``.
        new: ``fnmatch`` patterns of names that the method adds, which the file cannot have.
    """
    places = [name.replace(".base_layer.", ".") for name in module.state_dict() if not is_lora(name)]
    own_name_of = {official: name for name, official in sam2_to_transformers(places).items()}

    def read() -> dict[str, Tensor]:
        state = read_state_dict(path)
        if not any(name.startswith("vision_encoder.") for name in state):
            return state
        if (points := state.pop(_POINTS, None)) is not None:
            state |= {f"prompt_encoder.point_embed.{i}.weight": row[None] for i, row in enumerate(points)}
        return {own_name_of.get(name, name): tensor for name, tensor in state.items()}

    twice = {"shared_image_embedding.positional_embedding": "the prompt encoder has it too"}
    fill_module(module, read, what=f"SAM 2 from {path}", may_be_missing=new, ignore={**SAM2_VIDEO_PARTS, **twice})


def fill_beit3(module: nn.Module, path: Path) -> None:
    """Fill a `rrsis_zoo.models.backbones.beit3.BEiT3` from Microsoft's release; its pretraining heads are left out."""
    prefix = "beit3."

    def rename(name: str) -> str | None:
        return name.removeprefix(prefix) if name.startswith(prefix) else None

    names: list[str] = [f"{prefix}vision_embed.mask_token", "match_head.*", "ground_head.*"]
    unused = dict.fromkeys(names, "only pretraining reads it")
    fill_module(module, lambda: read_state_dict(path), what=f"BEiT-3 from {path}", rename=rename, ignore=unused)
