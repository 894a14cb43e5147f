"""How released weights map to EviSAM3: its foundation models', and the authors' own checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.weights.files import read_state_dict
from rrsis_zoo.weights.foundations import fill_beit3
from rrsis_zoo.weights.load import fill_module
from rrsis_zoo.weights.names import Rules, rename

# ours -> the authors' checkpoints (docs/methods/evisam3.md §14-15); trunk, neck and decoder as transformers names them
_TRUNK = "image_encoder.vision_backbone.trunk."
_NECK = "image_encoder.vision_backbone.convs."
_OFFICIAL: Rules = (
    (r"^sam\.trunk\.embeddings\.patch_embeddings\.projection\.", f"{_TRUNK}patch_embed.proj."),
    (r"^sam\.trunk\.embeddings\.position_embeddings$", f"{_TRUNK}pos_embed"),
    (r"^sam\.trunk\.layer_norm\.", f"{_TRUNK}ln_pre."),
    (r"^sam\.trunk\.layers\.(\d+)\.layer_norm(\d)\.", rf"{_TRUNK}blocks.\1.norm\2."),
    (r"^sam\.trunk\.layers\.(\d+)\.attention\.qkv\.", rf"{_TRUNK}blocks.\1.attn.qkv."),
    (r"^sam\.trunk\.layers\.(\d+)\.attention\.o_proj\.", rf"{_TRUNK}blocks.\1.attn.proj."),
    (r"^sam\.trunk\.layers\.", f"{_TRUNK}blocks."),
    (r"^sam\.neck\.fpn_layers\.0\.scale_layers\.0\.", f"{_NECK}0.dconv_2x2_0."),
    (r"^sam\.neck\.fpn_layers\.0\.scale_layers\.2\.", f"{_NECK}0.dconv_2x2_1."),
    (r"^sam\.neck\.fpn_layers\.1\.scale_layers\.0\.", f"{_NECK}1.dconv_2x2."),
    (r"^sam\.neck\.fpn_layers\.(\d)\.proj1\.", rf"{_NECK}\1.conv_1x1."),
    (r"^sam\.neck\.fpn_layers\.(\d)\.proj2\.", rf"{_NECK}\1.conv_3x3."),
    (r"^sam\.position_code\.", "pe_layer."),
    (r"^sam\.(mask_decoder\.transformer\..*)\.o_proj\.", r"\1.out_proj."),
    (r"^sam\.(mask_decoder\.transformer\.layers\.\d+)\.layer_norm(\d)\.", r"\1.norm\2."),
    (r"^sam\.(mask_decoder\.transformer\.layers\.\d+\.mlp)\.proj_in\.", r"\1.lin1."),
    (r"^sam\.(mask_decoder\.transformer\.layers\.\d+\.mlp)\.proj_out\.", r"\1.lin2."),
    (r"^sam\.mask_decoder\.transformer\.layer_norm_final_attn\.", "mask_decoder.transformer.norm_final_attn."),
    (r"^sam\.mask_decoder\.upscale_conv1\.", "mask_decoder.output_upscaling.0."),
    (r"^sam\.mask_decoder\.upscale_layer_norm\.", "mask_decoder.output_upscaling.1."),
    (r"^sam\.mask_decoder\.upscale_conv2\.", "mask_decoder.output_upscaling.3."),
    (r"^sam\.(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.proj_in\.", r"\1.layers.0."),
    (r"^sam\.(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.0\.", r"\1.layers.1."),
    (r"^sam\.(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.proj_out\.", r"\1.layers.2."),
    (r"^sam\.mask_decoder\.", "mask_decoder."),
    *(
        (rf"^prompt_generator\.stages\.{n}\.{own}\.", f"{_TRUNK}prompt_generator.{official}.")
        for n in range(4)
        for own, official in (
            (r"picture\.0", f"handcrafted_generator{n + 1}.proj"),
            (r"picture\.1", f"handcrafted_generator{n + 1}.norm"),
            ("embedding", f"embedding_generator{n + 1}"),
            (r"lightweight\.(\d+)", rf"lightweight_mlp{n + 1}_\1.0"),
            ("shared", f"shared_mlp{n + 1}"),
        )
    ),
    *(
        (rf"^evidence_adapters\.(\d+)\.{own}", rf"space_adapters.\1.{official}")
        for own, official in (
            (r"down\.", "D_fc1."),
            (r"up\.", "D_fc2."),
            (r"vision_from_text\.", "vlfusion.multihead_attn."),
            (r"text_from_vision\.", "lvfusion.multihead_attn."),
            (r"gather\.", "evidence_attn."),
            (r"text_to_evidence\.", "txt_to_evi."),
            (r"vision_to_evidence\.", "vis_to_evi."),
            (r"evidence_to_hidden\.", "evi_to_hid."),
            *(
                (rf"rectify_{way}\.{own}", official.format(short))
                for way, short in (("vision", "ev"), ("text", "el"))
                for own, official in (
                    (r"attention\.", "{}_attn."),
                    (r"norm\.", "{}_norm."),
                    (r"gate\.", "gate_{}."),
                    ("scale$", "ls_{}"),
                )
            ),
            ("", ""),
        )
    ),
    (r"^mlp_adapters\.(\d+)\.down\.", r"mlp_adapters.\1.D_fc1."),
    (r"^mlp_adapters\.(\d+)\.up\.", r"mlp_adapters.\1.D_fc2."),
    (r"^union\.", "mm_extractor.beit3."),
    (r"^prior\.attention\.", "vmtoken.multihead_attn."),
    (r"^prior\.text_hidden\.", "text_hidden_fcs.0."),
    (r"^prior\.", ""),
    (r"^experts\.clutter_norm\.", "spec_prompt_delta.exp_clut_norm."),
    (r"^experts\.(.*\.arc\d)\.router\.norm\.", r"spec_prompt_delta.\1.rounting_func.norm.norm."),
    (r"^experts\.(.*\.arc\d)\.router\.", r"spec_prompt_delta.\1.rounting_func."),
    (r"^experts\.", "spec_prompt_delta."),
    (r"^dense_projection\.", "mask_prompt_proj."),
)
# Meta's SAM 3 -> EviSAM3's checkpoints, by what a name holds (docs/methods/evisam3.md §14)
_SAM3_META: Rules = (
    (r"^.*\bvision_backbone\.(trunk\..*)$", r"image_encoder.vision_backbone.\1"),
    (r"^.*mask_decoder\.", "mask_decoder."),
    (r"^.*\bpe_layer\.", "pe_layer."),
    (r"^.*\bno_mask_embed\.", "no_mask_embed."),
)
# transformers' SAM 3 -> ours, whose trunk, neck and decoder have the names of its classes
_SAM3_TRANSFORMERS: Rules = (
    (r"^detector_model\.vision_encoder\.backbone\.", "sam.trunk."),
    (r"^tracker_model\.mask_decoder\.", "sam.mask_decoder."),
    (r"^tracker_model\.prompt_encoder\.no_mask_embed\.", "no_mask_embed."),
    (
        r"^tracker_model\.shared_image_embedding\.positional_embedding$",
        "sam.position_code.positional_encoding_gaussian_matrix",
    ),
)


def sam3_in_meta(neck: str) -> Rules:
    """Return the rules from Meta's SAM 3 to EviSAM3's checkpoints, with one of its two pyramids."""
    convs = {"detector": "convs", "tracker": "sam2_convs"}[neck]
    return ((rf"^.*\bvision_backbone\.{convs}\.", "image_encoder.vision_backbone.convs."), *_SAM3_META)


def sam3_in_transformers(neck: str) -> Rules:
    """Return the rules from transformers' SAM 3 to our names, with one of its two pyramids."""
    place = {"detector": r"detector_model\.vision_encoder\.neck", "tracker": "tracker_neck"}[neck]
    return ((rf"^{place}\.fpn_layers\.", "sam.neck.fpn_layers."), *_SAM3_TRANSFORMERS)


def official_name(name: str) -> str:
    """Return the name of one of EviSAM3's tensors in the checkpoints of the authors' program."""
    return rename(name, _OFFICIAL)


def _sam(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill ``model.sam`` and the no-mask embedding from SAM 3, in Meta's or in transformers' form.

    As published, the two mask tokens keep their initial values, and so do the heads that nothing reads; with the
    setting ``sam_mask_tokens`` the tokens are the first two of SAM 3's four (docs/methods/evisam3.md Q10).
    """
    path, neck = paths[0], model.config.neck
    fresh = ["sam.mask_decoder.iou_prediction_head.", "sam.mask_decoder.pred_obj_score_head."]
    fresh += [] if model.config.sam_mask_tokens else ["sam.mask_decoder.mask_tokens."]
    needed = {
        name
        for name in model.state_dict()
        if name.startswith(("sam.", "no_mask_embed.")) and not name.startswith(tuple(fresh))
    }

    def read() -> dict[str, Tensor]:
        state = read_state_dict(path)
        if any(name.startswith("detector_model.") for name in state):
            own = _sam3_from_transformers({rename(n, sam3_in_transformers(neck)): t for n, t in state.items()})
        else:
            places = {official_name(name): name for name in needed}
            own = {places.get(rename(n, sam3_in_meta(neck)), n): t for n, t in state.items()}
        tokens = "sam.mask_decoder.mask_tokens.weight"
        if tokens in own:
            own[tokens] = own[tokens][:2]
        return {name: tensor for name, tensor in own.items() if name in needed}

    fill_module(model, read, what=f"SAM 3 from {path}", may_be_missing=lambda name: name not in needed)


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


def _beit3(model: ReferringSegmenter, paths: list[Path]) -> None:
    """Fill ``model.union`` and set the tokenizer."""
    fill_beit3(model.get_submodule("union"), paths[0])
    model.read_tokenizer(paths[1])


FOUNDATION_FILLERS = {"sam": _sam, "beit3": _beit3}
