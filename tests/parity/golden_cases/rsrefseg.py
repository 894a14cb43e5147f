"""Golden cases of RSRefSeg."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from golden_cases.adapter import Adapter, Computed
from golden_cases.case import Case
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.methods.rsrefseg.model import SAM_LORA, TEXT_LORA, VISION_LORA, RSRefSeg, RSRefSegConfig
from rrsis_zoo.models.backbones import sam, siglip
from rrsis_zoo.models.backbones.sam import SAMConfig
from rrsis_zoo.models.backbones.siglip import SigLIPConfig, TextFeatures
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.layers.geometry import restore_each
from rrsis_zoo.models.layers.lora import LoRA
from rrsis_zoo.models.losses import binary_cross_entropy
from rrsis_zoo.models.types import ImageState, Tokens

# what the reference calls the adapted layers; ours are the regular expressions in models/rsrefseg.py
_TARGETS: dict[str, tuple[LoRA, object]] = {
    "backbone": (SAM_LORA, ["qkv", "proj", "lin1", "lin2", "neck.conv1", "neck.conv2"]),
    "clip_vision_encoder": (VISION_LORA, ["k_proj", "v_proj", "q_proj", "out_proj"]),
    "clip_text_encoder": (
        TEXT_LORA,
        r"(^model\.encoder\.layers\..*\.self_attn\.(k_proj|v_proj|q_proj|out_proj))|(^model\.head)",
    ),
}


def configuration(case: Case) -> RSRefSegConfig:
    """Translate a case's configuration.

    Raises:
        DataFormatError: it asks for something that RSRefSeg has no switch for.
    """
    settings = case.configuration
    if "clip_hidden_size" in settings:
        return _prompter_configuration(settings)
    fixed = {
        "siglip_image_mean": list(siglip.PIXEL_MEAN),
        "siglip_image_std": list(siglip.PIXEL_STD),
        "sam_image_mean": list(sam.PIXEL_MEAN),
        "sam_image_std": list(sam.PIXEL_STD),
    }
    for name, ours in fixed.items():
        if settings.get(name, ours) != ours:
            raise DataFormatError(f"{case.folder}: {name} is {settings[name]}, RSRefSeg's is {ours}")
    config = RSRefSegConfig(sam=_sam(settings["sam"]), siglip=_siglip(settings, case))
    adapters = {
        name: _lora(name, settings["lora"][name], case) for name in _TARGETS if name in settings.get("lora", {})
    }
    return replace(
        config,
        down_spatial_times=settings.get("down_spatial_times", config.down_spatial_times),
        dense_prompt=settings.get("with_dense_feat", config.dense_prompt),
        adapt="lora" if adapters else "full",
        sam_lora=adapters.get("backbone", SAM_LORA),
        vision_lora=adapters.get("clip_vision_encoder", VISION_LORA),
        text_lora=adapters.get("clip_text_encoder", TEXT_LORA),
    )


def _sam(settings: dict[str, Any]) -> SAMConfig:
    vision, decoder = settings["vision_config"], settings.get("mask_decoder_config", {})
    default = SAMConfig()
    return SAMConfig(
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        width=vision["hidden_size"],
        depth=vision["num_hidden_layers"],
        heads=vision["num_attention_heads"],
        mlp_width=vision["mlp_dim"],
        window=vision["window_size"],
        global_blocks=tuple(vision["global_attn_indexes"]),
        prompt_width=vision["output_channels"],
        mask_channels=settings.get("prompt_encoder_config", {}).get("mask_input_channels", default.mask_channels),
        decoder_mlp_width=decoder.get("mlp_dim", default.decoder_mlp_width),
        decoder_heads=decoder.get("num_attention_heads", default.decoder_heads),
        decoder_downsample=decoder.get("attention_downsample_rate", default.decoder_downsample),
        iou_width=decoder.get("iou_head_hidden_dim", default.iou_width),
    )


def _siglip(settings: dict[str, Any], case: Case) -> SigLIPConfig:
    if "siglip_vision" not in settings:
        named = str(settings.get("siglip", ""))
        if not named.startswith("so400m-patch14-384"):
            raise DataFormatError(f"{case.folder}: SigLIP {named!r} is not known; expected sizes or so400m-patch14-384")
        return SigLIPConfig()
    vision, text = settings["siglip_vision"], settings["siglip_text"]
    if vision["hidden_size"] != text["hidden_size"]:
        raise DataFormatError(f"{case.folder}: SigLIP's towers have different widths")
    return SigLIPConfig(
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        width=vision["hidden_size"],
        vision_depth=vision["num_hidden_layers"],
        vision_heads=vision["num_attention_heads"],
        vision_mlp_width=vision["intermediate_size"],
        text_depth=text["num_hidden_layers"],
        text_heads=text["num_attention_heads"],
        text_mlp_width=text["intermediate_size"],
        vocabulary=text["vocab_size"],
        max_length=text["max_position_embeddings"],
    )


def _lora(name: str, settings: dict[str, Any], case: Case) -> LoRA:
    ours, targets = _TARGETS[name]
    same = sorted(settings["target_modules"]) == sorted(targets)  # type: ignore[call-overload]
    if not same:
        raise DataFormatError(f"{case.folder}: {name} adapts {settings['target_modules']}, RSRefSeg adapts {targets}")
    return replace(ours, rank=settings["r"], alpha=settings["lora_alpha"], dropout=settings.get("lora_dropout", 0.0))


def _prompter_configuration(settings: dict[str, Any]) -> RSRefSegConfig:
    """The whole model with towers of no layers: the prompter's cases start from their features."""
    patch = 1
    width, grid = settings["clip_hidden_size"], settings["clip_grid"]
    return RSRefSegConfig(
        sam=SAMConfig(
            image_size=settings["sam_image_embedding_size"] * patch,
            patch_size=patch,
            width=8,
            depth=0,
            heads=1,
            mlp_width=8,
            global_blocks=(),
            prompt_width=settings["sam_hidden_size"],
            mask_channels=settings["mask_input_channels"],
        ),
        siglip=SigLIPConfig(
            image_size=grid, patch_size=1, width=width, vision_depth=0, vision_heads=1, text_depth=0, text_heads=1
        ),
        down_spatial_times=settings["down_spatial_times"],
        dense_prompt=settings["with_dense_feat"],
        adapt="full",
    )


def _build(case: Case) -> RSRefSeg:
    return RSRefSeg(configuration(case))


def _run_prompter(model: ReferringSegmenter, case: Case) -> Computed:
    assert isinstance(model, RSRefSeg)
    T, V = case.input("in.clip_text_tokens"), case.input("in.clip_visual_tokens")
    side = model.config.siglip.grid
    text = TextFeatures(T, case.input("in.clip_text_pooled"), torch.full((len(T),), T.shape[1]))
    tensors, _, _ = _prompter(model, V.transpose(1, 2).unflatten(2, (side, side)), text)
    return Computed(tensors)


def _prompter(model: RSRefSeg, V: Tensor, text: TextFeatures) -> tuple[dict[str, Tensor], Tensor, Tensor | None]:
    """Return the recorded tensors of the prompter, the sparse prompts and the dense mask prompt."""
    filtered = model.prompter.filter(V, text, model.siglip.logit_scale, model.siglip.logit_bias)
    prompts = model.prompter(filtered, model.sam.code(V.shape[-1]))
    dense = model.dense_prompt(filtered.A_g.unsqueeze(1))
    tensors = {
        "out.local_activation_logit": filtered.A_l,
        "out.global_activation_logit": filtered.A_g,
        "out.local_activated_feat": 2 * filtered.V_l - V,  # recorded before it is averaged with V
        "out.global_activated_feat": filtered.V_g,
        "out.prompter_pe": prompts.code,
        "out.down_channel": prompts.reduced,
        "out.down_spatial": prompts.shrunk,
        "out.sparse_embeddings": prompts.sparse.unsqueeze(1),
        "out.dense_embeddings": model.sam.no_mask(1) if dense is None else model.sam.encode_mask(dense),
        "out.sam_image_pe": model.sam.code(model.config.sam.grid),
    }
    if dense is not None:
        tensors["out.dense_mask_input"] = dense
    return tensors, prompts.sparse, dense


def _run_model(model: ReferringSegmenter, case: Case) -> Computed:
    assert isinstance(model, RSRefSeg)
    image, ids = case.input("in.image"), case.input("in.input_ids")
    n = len(image)
    sizes = torch.tensor([case.configuration["original_size"]] * n)
    index = torch.arange(n)
    tokens = Tokens(ids, torch.full((n,), ids.shape[1]))

    state: ImageState = model.encode({"image": image}, sizes)
    text = model.siglip.text_features(tokens)
    V = state.features["siglip"]
    tensors, _, _ = _prompter(model, V, text)
    prediction = model.refer(state, tokens, index)
    _, iou = model.decode(state, prediction.prompts, index)
    restored = restore_each(prediction.mask_logits, index, sizes, model.config.sam.image_size)
    probability = torch.stack(list(restored)).unsqueeze(1).sigmoid()
    tensors |= {
        "out.clip_input": model.siglip_input(image),
        "out.clip_visual_tokens": V.flatten(2).transpose(1, 2),
        "out.clip_text_tokens": text.tokens,
        "out.clip_text_pooled": text.pooled,
        "out.sam_image_embedding": state.features["sam"],
        "out.sparse_embeddings": prediction.prompts.sparse.unsqueeze(1),
        "out.low_res_logits": prediction.mask_logits,
        "out.iou_prediction": iou[:, None, :1],
        "out.prob_original_size": probability,
        "out.mask_original_size": (probability > case.configuration.get("threshold", 0.5)).to(torch.uint8),
    }
    computed = _losses(model, prediction.mask_logits, case)
    computed.tensors |= tensors
    return computed


def _run_losses(model: ReferringSegmenter, case: Case) -> Computed:
    assert isinstance(model, RSRefSeg)
    return _losses(model, case.input("in.seg_logits"), case)


def _losses(model: RSRefSeg, logits: Tensor, case: Case) -> Computed:
    """``in.target<suffix>`` gives ``loss_ce<suffix>``; gradients are recorded of the one without a suffix."""
    computed = Computed()
    for suffix, target in case.inputs("in.target").items():
        loss = model.config.bce_weight * binary_cross_entropy(logits, target)
        computed.losses[f"loss_ce{suffix}"] = loss.item()
        computed.tensors[f"out.loss_ce{suffix}"] = loss.reshape(1)
        if not suffix:
            computed.objective = loss
    return computed


ADAPTER = Adapter(
    build=_build,
    parts={"model": _run_model, "prompter": _run_prompter, "losses": _run_losses},
    buffers={
        "backbone.base_model.model.shared_image_embedding.positional_embedding": False,  # in a module that peft freezes
        "sam_prompt_encoder.model.shared_embedding.positional_embedding": True,
    },
)
