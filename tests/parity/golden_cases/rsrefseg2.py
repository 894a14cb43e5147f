"""Golden cases of RSRefSeg 2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from golden_cases.adapter import Adapter, Computed
from golden_cases.case import Case
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.methods.rsrefseg2.model import Decoded, LossConfig, RSRefSeg2, RSRefSeg2Config
from rrsis_zoo.methods.rsrefseg2.prompter import Cascade, PrompterConfig
from rrsis_zoo.methods.rsrefseg2.weights import published_operations
from rrsis_zoo.models.backbones import sam2, siglip
from rrsis_zoo.models.backbones.sam import SAMConfig
from rrsis_zoo.models.backbones.sam2 import SAM2, SAM2_B_PLUS, SAM2_L, SAM2_S, SAM2_T, SAM2Config
from rrsis_zoo.models.backbones.siglip import SIGLIP2_SO400M_512, SigLIPConfig, TextFeatures
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.layers.geometry import restore_each
from rrsis_zoo.models.types import Prompts, Tokens

_SAM2_SIZES = {
    "sam2.1_hiera_l": SAM2_L,
    "sam2.1_hiera_b+": SAM2_B_PLUS,
    "sam2.1_hiera_s": SAM2_S,
    "sam2.1_hiera_t": SAM2_T,
}
# what the reference adapts; ours are the regular expressions in models/rsrefseg2.py
_TARGETS = {
    "backbone.model.image_encoder": r"^(trunk\.blocks\.\d+\.attn\.(qkv|proj)|neck\.convs\.\d+\.conv)$",
    "backbone.model.vision_encoder": r"^(layers\.\d+\.attn\.(qkv|proj)|neck\.conv[12])$",
    "clip_vision_encoder": (
        r"^(model\.head\.(attention\.out_proj|mlp\.fc[12])"
        r"|model\.encoder\.layers\.\d+\.self_attn\.(k_proj|v_proj|q_proj|out_proj))$"
    ),
    "clip_text_encoder": (r"^(model\.head|model\.encoder\.layers\.\d+\.self_attn\.(k_proj|v_proj|q_proj|out_proj))$"),
}
_QUERY_START = {"textpool": "text_pool", "learnable": "learned", "zero": "zero"}
_IMAGE_CODE = {"learnable": "learned", "sine": "fourier", "none": "none"}
_DENSE_FROM = {
    "text_pool": "sentence",
    "prompt": "prompt",
    "text_queries2_pool": "queries",
    "refined_text_queries2_pool": "refined_queries",
}
_LOSS_NAMES = {
    "loss_ce": "loss_ce",
    "loss_dice": "loss_dice",
    "loss_dense_ce": "loss_ce_dense_prompts",
    "loss_dense_dice": "loss_dice_dense_prompts",
    "loss_orthogonal": "loss_text_queries1_queries2",
    "loss_contrastive": "loss_perbatch_refined_img_feat_map_perbatch",
    "loss_mil": "loss_mil_refined_img_feat_map_perimg",
}


def configuration(case: Case) -> RSRefSeg2Config:
    """Translate a case's configuration.

    Raises:
        DataFormatError: it asks for something that RSRefSeg 2 has no switch for.
    """
    settings = case.configuration
    config = RSRefSeg2Config()
    if case.part == "losses":
        return _small(
            replace(config, prompter=PrompterConfig(queries=1, prompts=1, attention_width=8)), width=8, grid=1
        )
    config = replace(config, prompter=_prompter(settings["prompter"], case))
    if case.part == "prompter":
        width, side = settings["prompter"]["img_feat_dim"], settings["mask_size"]
        return _small(config, width, settings["clip_grid"], side // 4, settings["prompter"]["prompt_feat_dim"])
    _check_inputs(settings, case)
    config = replace(
        config, siglip=_siglip(settings), loss=_loss(settings["decode_head"], settings["decode_head"]["extra_loss"])
    )
    if "sam1" in settings:
        config = replace(config, backbone="sam1", sam1=_sam1(settings["sam1"]))
    elif isinstance(settings["sam2"], str):
        config = replace(config, sam2=_SAM2_SIZES[settings["sam2"]])
    else:
        heads = settings["sam2"]["heads"]
        fallback = heads["dynamic_multimask_via_stability"]
        config = replace(
            config, sam2=_sam2(settings["sam2"], settings["image_size"], case), stability_fallback=fallback
        )
    return replace(config, **_lora(settings["lora"], case))


def _check_inputs(settings: dict[str, Any], case: Case) -> None:
    fixed = {
        "siglip_image_mean": list(siglip.PIXEL_MEAN),
        "siglip_image_std": list(siglip.PIXEL_STD),
        "sam_image_mean": list(sam2.PIXEL_MEAN),
        "sam_image_std": list(sam2.PIXEL_STD),
    }
    for name, ours in fixed.items():
        if settings.get(name, ours) != ours:
            raise DataFormatError(f"{case.folder}: {name} is {settings[name]}, RSRefSeg 2's is {ours}")


def _prompter(settings: dict[str, Any], case: Case) -> PrompterConfig:
    for name, operations in published_operations().items():
        recorded = settings[name.replace("_layers", "_operation_order")]
        if recorded != operations:
            raise DataFormatError(f"{case.folder}: {name} has the operations {recorded}, RSRefSeg 2's are {operations}")
    if settings["text_feat_dim"] != settings["img_feat_dim"]:
        raise DataFormatError(f"{case.folder}: SigLIP's towers have different widths")
    query, prompt, code = settings["text_query_config"], settings["prompt_config"], settings["imgpe_config"]
    dense = settings["dense_prompt_config"]
    config = PrompterConfig(
        queries=settings["num_text_queries"],
        prompts=settings["num_prompts"],
        heads=settings["num_heads"],
        attention_width=settings["internal_dim"],
        mlp_width=settings["mlp_dim"],
        decomposition_depth=settings["two_queries_text_attn_depth"],
        first_order_depth=settings["queries1_to_img_attn_depth"],
        second_order_depth=settings["prompt_queries2_img_attn_depth"],
        query_start=_QUERY_START[query["init_type"]],  # type: ignore[arg-type]
        query_code=query["has_pe"],
        prompt_start=_QUERY_START[prompt["init_type"]],  # type: ignore[arg-type]
        prompt_code=prompt["has_pe"],
        image_code=_IMAGE_CODE[code["type"]],  # type: ignore[arg-type]
        image_code_cells=code.get("size", 1),
        dense_from="none",
    )
    if dense is None:
        return config
    return replace(
        config,
        dense_from=_DENSE_FROM[dense["proj_from"]],
        dense_projection=dense["has_internal_proj"],
        dense_map={"refined_clipfeat": "refined", "clipfeat": "original"}[dense["featmap_from"]],
        dense_conv=dense["has_internal_conv"],
        dense_enlarge={"preup": "before", "postup": "after"}[dense["up_strategy"]],
    )


def _loss(head: dict[str, Any], extra: dict[str, Any]) -> LossConfig:
    """A weight is the ``refined_*`` one if that is there and not 0, else the ``clip_*`` one; one map serves both."""
    keys = ("feat_map_perimg", "feat_map_perbatch")
    per_image, per_batch = (extra.get(f"refined_img_{k}") or extra.get(f"clip_visual_{k}") or 0.0 for k in keys)
    return LossConfig(
        bce=head.get("ce_weight", 5.0),
        dice=head.get("dice_weight", 5.0),
        orthogonal=extra.get("text_queries1_queries2", 0.0),
        contrastive=per_batch,
        dense=extra.get("dense_prompts", 0.0),
        mil=per_image if extra.get("refined_img_feat_map_perimg_mil") else 0.0,
        mil_text="sentence" if extra.get("use_clip_pool_text") else "queries",
        map="refined" if any(f"refined_img_{k}" in extra for k in keys) else "original",
        side=head.get("dst_size", 0),
    )


def _siglip(settings: dict[str, Any]) -> SigLIPConfig:
    if "siglip_vision" not in settings:
        return SIGLIP2_SO400M_512
    vision, text = settings["siglip_vision"], settings["siglip_text"]
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


def _sam2(settings: dict[str, Any], image_size: int, case: Case) -> SAM2Config:
    trunk, neck, heads = settings["trunk"], settings["neck"], settings["heads"]
    fixed = {
        "q_pool": (trunk, 3), "q_stride": (trunk, [2, 2]), "dim_mul": (trunk, 2.0), "head_mul": (trunk, 2.0),
        "fpn_top_down_levels": (neck, [2, 3]), "fpn_interp_model": (neck, "nearest"), "scalp": (neck, 1),
        "decoder_depth": (heads, 2), "num_multimask_outputs": (heads, 3), "use_high_res_features": (heads, True),
        "iou_prediction_use_sigmoid": (heads, True), "pred_obj_scores": (heads, True),
        "pred_obj_scores_mlp": (heads, True), "directly_add_no_mem_embed": (heads, True),
        "dynamic_multimask_stability_delta": (heads, 0.05), "dynamic_multimask_stability_thresh": (heads, 0.98),
    }  # fmt: skip
    for name, (where, ours) in fixed.items():
        if where.get(name, ours) != ours:
            raise DataFormatError(f"{case.folder}: SAM 2's {name} is {where[name]}, ours is {ours}")
    return SAM2Config(
        image_size=image_size,
        width=trunk["embed_dim"],
        heads=trunk["num_heads"],
        stages=tuple(trunk["stages"]),
        windows=tuple(trunk["window_spec"]),
        global_blocks=tuple(trunk["global_att_blocks"]),
        position_grid=trunk["window_pos_embed_bkg_spatial_size"][0],
        prompt_width=neck["d_model"],
        mask_channels=heads["mask_in_chans"],
        decoder_mlp_width=heads["decoder_mlp_dim"],
        decoder_heads=heads["decoder_heads"],
        iou_width=heads["iou_head_hidden_dim"],
    )


def _sam1(settings: dict[str, Any]) -> SAMConfig:
    vision, decoder = settings["vision_config"], settings["mask_decoder_config"]
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
        mask_channels=settings["prompt_encoder_config"]["mask_input_channels"],
        decoder_mlp_width=decoder["mlp_dim"],
        decoder_heads=decoder["num_attention_heads"],
        decoder_downsample=decoder["attention_downsample_rate"],
        iou_width=decoder["iou_head_hidden_dim"],
    )


def _lora(settings: dict[str, dict[str, Any]], case: Case) -> dict[str, Any]:
    sizes = {(lora["r"], lora["lora_alpha"], lora["lora_dropout"]) for lora in settings.values()}
    for name, lora in settings.items():
        if lora["target_modules"] != _TARGETS.get(name):
            raise DataFormatError(f"{case.folder}: {name} adapts {lora['target_modules']}, not {_TARGETS.get(name)}")
    if len(sizes) != 1:
        raise DataFormatError(f"{case.folder}: the adapters have different sizes {sorted(sizes)}")
    return dict(zip(("lora_rank", "lora_alpha", "lora_dropout"), sizes.pop(), strict=True))


def _small(config: RSRefSeg2Config, width: int, grid: int, sam_grid: int = 1, prompt_width: int = 8) -> RSRefSeg2Config:
    """The whole model with towers of no layers: cases of parts start from their features."""
    sam1 = SAMConfig(
        image_size=sam_grid,
        patch_size=1,
        width=8,
        depth=0,
        heads=1,
        mlp_width=8,
        global_blocks=(),
        prompt_width=prompt_width,
        decoder_mlp_width=8,
        decoder_heads=2,
        iou_width=8,
    )
    towers = SigLIPConfig(
        image_size=grid,
        patch_size=1,
        width=width,
        vision_depth=0,
        vision_heads=1,
        vision_mlp_width=8,
        text_depth=0,
        text_heads=1,
        vocabulary=8,
    )
    return replace(config, backbone="sam1", sam1=sam1, siglip=towers, adapt="full")


def _build(case: Case) -> RSRefSeg2:
    return RSRefSeg2(configuration(case))


# -- the prompter ------------------------------------------------------------------------------------------------------


class _Watched:
    """Records what the prompter's blocks return while the model runs as it always does."""

    def __init__(self, model: RSRefSeg2) -> None:
        self.tensors: dict[str, Tensor] = {}
        prompter = model.prompter
        watch: list[tuple[nn.ModuleList, tuple[str, ...]]] = [
            (prompter.decomposition, ("text_queries1", "text_queries2")),
            (prompter.first_order, ("stage1_img", "stage1_text")),
            (prompter.second_order, ("stage2_prompt", "stage2_img", "stage2_text")),
        ]
        self._hooks = [
            block.register_forward_hook(self._keep(tuple(f"out.{name}_layer{i}" for name in names)))
            for blocks, names in watch
            for i, block in enumerate(blocks)
        ]
        self._hooks.append(prompter.register_forward_hook(self._cascade))

    def _keep(self, names: tuple[str, ...]) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, outputs: tuple[Tensor, ...]) -> None:
            self.tensors |= dict(zip(names, outputs, strict=True))

        return hook

    def _cascade(self, module: nn.Module, inputs: Any, cascade: Cascade) -> None:
        self.cascade = cascade

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()


def _run_prompter(model: ReferringSegmenter, case: Case) -> Computed:
    assert isinstance(model, RSRefSeg2)
    T, V = case.input("in.clip_text_tokens"), case.input("in.clip_visual_tokens")
    side = model.config.siglip.grid
    text = TextFeatures(T, case.input("in.clip_text_pooled"), torch.full((len(T),), T.shape[1]))
    with _Watched(model) as watched:
        cascade = model.prompter(V.transpose(1, 2).unflatten(2, (side, side)), text)
    scale, bias = case.input("in.logit_scale"), case.input("in.logit_bias")
    dense = model.prompter.dense_prompt(cascade, case.configuration["mask_size"], scale, bias)
    return Computed(watched.tensors | _prompter_tensors(model, text, cascade, dense))


def _prompter_tensors(
    model: RSRefSeg2, text: TextFeatures, cascade: Cascade, dense: Tensor | None
) -> dict[str, Tensor]:
    h, w = cascade.I2.shape[-2:]
    code = model.prompter.image_code(h, w)
    tensors = {
        "out.text_queries_init": model.prompter.initial_queries(text)[0],
        "out.text_queries1": cascade.q1,
        "out.text_queries2": cascade.q2,
        "out.refined_img_feat_map": cascade.I2,
        "out.sparse_prompts": cascade.sparse,
    }
    optional = {
        "out.img_pe": code,
        "out.dense_vector": cascade.u,
        "out.dense_feature_map": cascade.W,
        "out.dense_prompts": dense,
    }
    return tensors | {name: tensor for name, tensor in optional.items() if tensor is not None}


# -- the whole model ---------------------------------------------------------------------------------------------------


def _run_model(model: ReferringSegmenter, case: Case) -> Computed:
    assert isinstance(model, RSRefSeg2)
    image, ids = case.input("in.image"), case.input("in.input_ids")
    n = len(image)
    sizes = torch.tensor([case.configuration["original_size"]] * n)
    index, tokens = torch.arange(n), Tokens(ids, torch.full((n,), ids.shape[1]))

    state = model.encode({"image": image}, sizes)
    with _Watched(model) as watched:
        prediction = model.refer(state, tokens, index)
    prompts, V = prediction.prompts, state.features["siglip"]
    text = model.siglip.text_features(tokens)
    decoded = model.decode(state, prompts, index)
    native = restore_each(prediction.mask_logits, index, sizes, model.side, state.fitted)
    probability = torch.stack(list(native)).unsqueeze(1).sigmoid()
    tensors = watched.tensors | _prompter_tensors(model, text, watched.cascade, prompts.dense)
    tensors |= {
        "out.clip_input": model.siglip_input(image),
        "out.clip_visual_tokens": V.flatten(2).transpose(1, 2),
        "out.clip_text_tokens": text.tokens,
        "out.clip_text_pooled": text.pooled,
        "out.sam_image_embedding": state.features["sam"],
        "out.low_res_logits": prediction.mask_logits,
        "out.low_res_logits_train_mode": decoded.masks[:, :1],
        "out.prob_original_size": probability,
        "out.mask_original_size": (probability > 0.5).to(torch.uint8),
    }
    if prompts.dense is not None:
        tensors["out.dense_embeddings"] = model.sam.encode_mask(prompts.dense)
    tensors |= _decoder_tensors(model, state.features, decoded)
    computed = _losses(model, decoded.masks[:, :1], prompts, V, case.input("in.target"))
    computed.tensors = {f"loss.{name}": value for name, value in computed.tensors.items()} | tensors
    assert computed.objective is not None
    computed.tensors["loss.total"] = computed.objective.reshape(1)
    return _with_loss_tensors(computed, "out.", model, prompts, V, case.input("in.target"))


def _decoder_tensors(model: RSRefSeg2, features: dict[str, Tensor], decoded: Decoded) -> dict[str, Tensor]:
    if not isinstance(model.sam, SAM2):
        code = model.sam.code(model.config.sam1.grid)
        return {"out.sam_image_pe": code, "out.iou_prediction": decoded.iou[:, None, :1]}
    assert decoded.object_score is not None
    decoder = model.sam.sam_mask_decoder
    return {
        "out.sam_image_pe": model.sam.code(),
        "out.sam_high_res_s0": features["sam_s0"],
        "out.sam_high_res_s1": features["sam_s1"],
        "out.all_mask_logits": decoded.masks,
        "out.all_iou_predictions": decoded.iou,
        "out.object_score_logits": decoded.object_score,
        "out.single_mask_stability": decoder._get_stability_scores(decoded.masks[:, :1]),
        "out.iou_prediction": decoder._dynamic_multimask_via_stability(decoded.masks, decoded.iou)[1],
    }


# -- losses ------------------------------------------------------------------------------------------------------------


def _losses(model: RSRefSeg2, Z: Tensor, prompts: Prompts, V: Tensor, Y: Tensor) -> Computed:
    terms = {_LOSS_NAMES[name]: value for name, value in model.losses(Z, prompts, V, Y).items()}
    return Computed(
        tensors={name: value.reshape(1) for name, value in terms.items()},
        losses={name: value.item() for name, value in terms.items()},
        objective=torch.stack(list(terms.values())).sum(),
    )


def _with_loss_tensors(
    computed: Computed, prefix: str, model: RSRefSeg2, prompts: Prompts, V: Tensor, Y: Tensor
) -> Computed:
    """Add what a case records of the inner values of the losses."""
    config, aux = model.config.loss, prompts.aux
    features, inside = model.compared(aux["refined"] if config.map == "refined" else V, Y)
    v, t = model.contrastive_vectors(features, inside, aux["q2"])
    w = aux["sentence"] if config.mil_text == "sentence" else aux["q2"]
    computed.tensors |= {
        f"{prefix}label_downsampled": inside[:, 0].to(torch.uint8),
        f"{prefix}queries_cosine": torch.cosine_similarity(aux["q1"], aux["q2"]),
        f"{prefix}contrastive_logits_per_image": model.logit_scale2.exp() * v @ t.T + model.logit_bias2,
        f"{prefix}perimg_logits": model.image_similarity(features, w)[:, 0],
    }
    return computed


def _run_losses(model: ReferringSegmenter, case: Case) -> Computed:
    """Every variant of the options on the same inputs; ``released_empty0`` is ``released`` with an empty target."""
    assert isinstance(model, RSRefSeg2)
    variants = {name: (extra, "in.target") for name, extra in case.configuration["variants"].items()}
    variants["released_empty0"] = (variants["released"][0], "in.target_empty0")
    V, all_computed = case.input("in.clip_visual_feat_map"), Computed()
    prompts = Prompts(
        sparse=V.new_empty(0),
        dense=case.input("in.dense_prompts"),
        heatmap=V.new_empty(0),
        aux={
            "q1": case.input("in.text_queries1").mean(1),
            "q2": case.input("in.text_queries2").mean(1),
            "sentence": case.input("in.clip_pool_text"),
            "refined": case.input("in.refined_img_feat_map"),
        },
    )
    for name, (extra, target) in variants.items():
        model.config = replace(model.config, loss=_loss(case.configuration, extra))
        Y = case.input(target)
        computed = _losses(model, case.input("in.seg_logits"), prompts, V, Y)
        computed = _with_loss_tensors(computed, "", model, prompts, V, Y)
        all_computed.tensors |= {f"{name}.{key}": value for key, value in computed.tensors.items()}
        all_computed.losses |= {f"{name}.{key}": value for key, value in computed.losses.items()}
    return all_computed


ADAPTER = Adapter(
    build=_build,
    parts={"model": _run_model, "prompter": _run_prompter, "losses": _run_losses},
    buffers={
        "backbone.model.shared_image_embedding.positional_embedding": True,
        "backbone.model.prompt_encoder.shared_embedding.positional_embedding": True,
    },
)
