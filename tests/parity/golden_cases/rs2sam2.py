"""RS2-SAM2's cases: end to end (from the two normalised inputs), and its parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from sam2.modeling.position_encoding import PositionEmbeddingSine
from torch import Tensor, nn

from golden_cases.adapter import Adapter, Computed
from golden_cases.case import Case
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.methods.rs2sam2.card import SKIPPED
from rrsis_zoo.methods.rs2sam2.model import CE_WEIGHTS, HEADS, RS2SAM2, RS2SAM2Config, boundary_loss
from rrsis_zoo.models.backbones import sam2
from rrsis_zoo.models.backbones.beit3 import BEiT3Config
from rrsis_zoo.models.backbones.sam2 import SAM2Config, TextBlock
from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.layers.geometry import resize
from rrsis_zoo.models.tokenizers import BEiT3Tokenizer
from rrsis_zoo.models.types import Tokens

# What a part does not run is as small as it can be.
_NO_UNION = BEiT3Config(width=64, depth=0, heads=1, mlp_width=1, vocabulary=4, text_positions=8)
_NO_SAM = SAM2Config(image_size=32, width=16, stages=(1, 1, 1, 1), windows=(8, 4, 4, 4), decoder_mlp_width=8)


# -- configurations ----------------------------------------------------------------------------------------------------


def configuration(case: Case) -> RS2SAM2Config:
    """Return our configuration of a case's.

    Raises:
        DataFormatError: it says something that RS2-SAM2 does not have a setting for.
    """
    settings = case.configuration
    if case.part == "model":
        _expect(case, settings["heads"], vmtoken_heads=HEADS, decoder_vlfusion_heads=HEADS, multimask_output=False)
        _expect(case, settings["heads"], dynamic_multimask_via_stability=False)
        ids = {"bos": BEiT3Tokenizer.begin_id, "eos": BEiT3Tokenizer.end_id, "unk_and_pad": BEiT3Tokenizer.pad_id}
        _expect(case, settings["token_ids"], **ids)
        return RS2SAM2Config(union=_union(settings["union_encoder"], case), sam=_sam(settings["sam2"], case))
    if case.part == "union_encoder":
        return RS2SAM2Config(union=_union(settings, case), sam=_NO_SAM)
    if case.part == "fusion":
        _expect(
            case, settings, heads=sam2.FUSION_HEADS, alpha_text=sam2.TEXT_SHARE, mlp_adapter_scale=sam2.ADAPTER_SCALE
        )
        _expect(case, settings, post_heads=HEADS, hidden=settings["space_adapter_dim"] // sam2.FUSION_RATIO)
        sam = SAM2Config(
            image_size=32,
            width=settings["space_adapter_dim"],
            heads=1,
            stages=(1, 3),
            windows=(8, 4),
            global_blocks=(3,),
            prompt_width=settings["text_dim"],
        )
        return RS2SAM2Config(union=_NO_UNION, sam=sam)
    if case.part == "mask_prompt":
        _expect(case, settings, vmtoken_heads=HEADS)
        union = BEiT3Config(
            image_size=settings["grid"], patch_size=1, width=settings["C"], depth=0, heads=1, mlp_width=1, vocabulary=4
        )
        sam = SAM2Config(
            image_size=settings["sam_image_size"],
            width=16,
            stages=(1, 1, 1, 1),
            prompt_width=settings["sparse_out"],
            mask_channels=settings["mask_in_chans"],
        )
        return RS2SAM2Config(union=union, sam=sam)
    _expect(case, settings, ce_weight=list(CE_WEIGHTS), dice_smooth=1e-6, dice_reduction="sum")
    return RS2SAM2Config(
        union=_NO_UNION, sam=_NO_SAM, dice_weight=settings["loss_weight"], boundary_weight=settings["boundary_weight"]
    )


def _union(settings: dict[str, Any], case: Case) -> BEiT3Config:
    _expect(case, settings, layernorm_eps=1e-5, subln=True, multiway=True)
    return BEiT3Config(
        image_size=settings["image_size"],
        patch_size=settings["patch_size"],
        width=settings["embed_dim"],
        depth=settings["layers"],
        heads=settings["heads"],
        mlp_width=settings["ffn_dim"],
        vocabulary=settings["vocab_size"],
        text_positions=settings["max_source_positions"],
    )


def _sam(settings: dict[str, Any], case: Case) -> SAM2Config:
    _expect(case, settings, adapter_heads=sam2.FUSION_HEADS, adapter_ratio=1 / sam2.FUSION_RATIO, scalp=1)
    _expect(
        case, settings, alpha_text=sam2.TEXT_SHARE, mlp_adapter_scale=sam2.ADAPTER_SCALE, text_dim=settings["neck_dim"]
    )
    _expect(case, settings, fpn_top_down_levels=[2, 3], fpn_interp="nearest")
    return SAM2Config(
        image_size=settings["image_size"],
        width=settings["embed_dim"],
        heads=settings["num_heads"],
        stages=tuple(settings["stages"]),
        windows=tuple(settings["window_spec"]),
        global_blocks=tuple(settings["global_att_blocks"]),
        position_grid=settings["window_pos_embed_bkg_spatial_size"][0],
        prompt_width=settings["neck_dim"],
    )


def _expect(case: Case, settings: dict[str, Any], **expected: Any) -> None:
    for name, value in expected.items():
        if settings[name] != value:
            raise DataFormatError(f"{case.folder}: {name} is {settings[name]!r}, RS2-SAM2 has {value!r}")


# -- watching a run ----------------------------------------------------------------------------------------------------


class Watched:
    """Inputs and outputs of watched modules and methods, by name."""

    def __init__(self) -> None:
        self.inputs: dict[str, list[Any]] = defaultdict(list)
        self.returned: dict[str, list[Any]] = defaultdict(list)

    def last(self, name: str) -> Any:
        """Return what ``name`` returned."""
        return self.returned[name][-1]

    def rows(self, name: str, shape: torch.Size) -> Tensor:
        """Return the result of a function of single tokens, which may have been called with some of them at a time."""
        return torch.cat([piece.flatten(0, -2) for piece in self.returned[name]]).view(shape)


@contextmanager
def watch(modules: dict[str, nn.Module], methods: dict[str, tuple[nn.Module, str]]) -> Iterator[Watched]:
    """Watch modules' calls and methods of modules."""
    watched, handles = Watched(), []

    def note(name: str, inputs: Any, returned: Any) -> None:
        watched.inputs[name].append(inputs)
        watched.returned[name].append(returned)

    for name, module in modules.items():
        handles.append(module.register_forward_hook(lambda _, g, r, name=name: note(name, g, r)))
    for name, (module, method) in methods.items():
        original = getattr(module, method)

        def wrapper(*inputs: Any, name: str = name, original: Any = original) -> Any:
            returned = original(*inputs)
            note(name, inputs, returned)
            return returned

        setattr(module, method, wrapper)
    try:
        yield watched
    finally:
        for handle in handles:
            handle.remove()
        for module, method in methods.values():
            delattr(module, method)


# -- parts -------------------------------------------------------------------------------------------------------------


def _build(case: Case) -> RS2SAM2:
    return RS2SAM2(configuration(case))


def _swap(words: Tensor) -> Tensor:
    """Our batch-first sequences as the program has them, and back."""
    return words.transpose(0, 1)


def _run_model(model: ReferringSegmenter, case: Case) -> Computed:
    assert isinstance(model, RS2SAM2)
    image, ids = case.input("in.images_i8"), case.input("in.input_ids")
    n, side = len(ids), model.config.sam.image_size
    tokens, index = Tokens(ids, torch.full((n,), ids.shape[1])), torch.arange(n)
    state = model.encode({"image": image, "small": case.input("in.images_evf_i8")}, torch.full((n, 2), side))

    encoder, decoder = model.sam.image_encoder, model.sam.sam_mask_decoder
    first = encoder.trunk.blocks[0]
    recorded = {name.split(".")[1] for name in case.names("output") if name.endswith(".x_out")}
    blocks = {f"block{i}": block for i, block in enumerate(encoder.trunk.blocks) if f"block{i}" in recorded}
    assert isinstance(first, TextBlock)
    modules: dict[str, nn.Module] = {
        "patch_embed": encoder.trunk.patch_embed,
        "trunk": encoder.trunk,
        "neck": encoder.neck,
        "coarsest": encoder.neck.convs[0],
        "transformer": decoder.transformer,
        "attn": first.attn,
        "mlp": first.mlp,
        "adapter": first.adapter,
        "fusion": first.fusion,
        "post_fusion": model.post_fusion,
        "union": model.union,
        "vision_embed": model.union.vision_embed,
        "text_embed": model.union.text_embed,
        "layer_first": model.union.encoder.layers[0],
        "layer_last": model.union.encoder.layers[-1],
        **_mask_prompt_modules(model),
        **blocks,
    }
    methods = {"decode": (model.sam, "decode"), "pyramid": (model.sam, "pyramid"), "fuse_after": (model, "fuse_after")}
    with watch(modules, methods) as seen:
        prediction = model.refer(state, tokens, index)

    prompts, trunk, levels = prediction.prompts, seen.last("trunk"), seen.last("neck")
    words, pyramid, decoded = prompts.words, seen.last("pyramid"), seen.last("decode")
    assert words is not None
    assert prompts.dense is not None
    p = (resize(prediction.mask_logits, (side, side)) + 1) / 2
    w = prompts.aux["w"]
    E = seen.last("union")
    first_map = seen.inputs["block0"][0][0]
    fused, fused_words = seen.last("fusion")
    src = seen.last("fuse_after")
    tokens_out, src_out = seen.last("transformer")
    tensors = {
        "union.vision_embed": seen.last("vision_embed"),
        "union.text_embed": seen.last("text_embed"),
        "union.layer0_in": torch.cat(seen.inputs["layer_first"][0][:2], 1),
        "union.layer0_out": torch.cat(seen.returned["layer_first"][0], 1),
        "union.last_layer_out": torch.cat(seen.last("layer_last"), 1),
        "union.encoder_out": torch.cat([E.cls, E.patches, E.words], 1),
        **_mask_prompt_tensors(model, seen),
        "prompt.mask_prompt": prompts.dense,
        "heads.sparse_feat": prompts.sparse,
        "heads.text_feat": words,
        "heads.text_weight": w[:, None, None],
        "trunk.patch_embed_out": seen.last("patch_embed"),
        "trunk.text_in": _swap(words),
        "trunk.block0_in": first_map,
        "trunk.block0.attn_out": seen.last("attn"),
        "trunk.block0.space_adapter_in": seen.inputs["fusion"][0][0],
        "trunk.block0.space_adapter_out": fused,
        "trunk.block0.space_adapter_text_out": _swap(fused_words),
        "trunk.block0.mlp_out": seen.rows("mlp", fused.shape),
        "trunk.block0.mlp_adapter_out": seen.rows("adapter", fused.shape),
        **{f"trunk.{name}.x_out": seen.last(name)[0] for name in blocks},
        **{f"trunk.{name}.text_out": _swap(seen.last(name)[1]) for name in blocks},
        **{f"trunk.out{i}": level for i, level in enumerate(trunk)},
        **{f"neck.fpn{i}": level for i, level in enumerate([*levels, seen.last("coarsest")])},
        "neck.pos0": PositionEmbeddingSine(model.config.sam.prompt_width)(levels[0]),  # nothing reads it
        "decoder.in.image_embeddings": pyramid.embedding,
        "decoder.in.high_res_s0": pyramid.s0,
        "decoder.in.high_res_s1": pyramid.s1,
        "decoder.in.image_pe": model.sam.code(),
        "decoder.in.sparse": prompts.sparse,
        "decoder.in.dense": seen.inputs["decode"][0][2],
        "decoder.in.text_feat": words,
        "decoder.vlfusion_out": src.flatten(2).permute(2, 0, 1),
        "decoder.transformer_tokens": tokens_out,
        "decoder.transformer_src": src_out,
        "decoder.all_masks": decoded.masks,
        "decoder.low_res_masks": decoded.masks[:, :1],
        "decoder.all_iou": decoded.iou,
        "decoder.iou_pred": decoded.iou[:, :1],
        "decoder.mask_tokens_out": decoded.tokens,
        "decoder.object_score_logits": decoded.object_score,
        "out.pred_masks": p,
        "out.two_channel": torch.cat([1 - p, p], 1),
        "out.argmax_mask": (p[:, 0] > 0.5).to(torch.uint8),
        "out.text_weight_map_row0": w[:, None].expand(-1, 8),
    }
    losses = _losses(model, p, w, case.input("target"))
    tensors |= {f"loss.{name}": value.reshape(1) for name, value in losses.items()}
    return Computed(tensors, {name: value.item() for name, value in losses.items()}, losses["total"])


def _mask_prompt_modules(model: RS2SAM2) -> dict[str, nn.Module]:
    return {"mask_linear": model.mask_prompt.linear, "mask_product": model.mask_prompt.product}


def _mask_prompt_tensors(model: RS2SAM2, seen: Watched) -> dict[str, Tensor]:
    grid = (model.config.union.grid, model.config.union.grid)
    return {
        "mpg.vmtoken_out": _swap(seen.inputs["mask_linear"][0][0]),
        "mpg.mask_linear_out": seen.last("mask_linear"),
        "mpg.mask_product_in": seen.inputs["mask_product"][0][0].unflatten(1, grid),
        "mpg.mask_logits": seen.last("mask_product").unflatten(1, grid),
    }


def _losses(model: RS2SAM2, p: Tensor, w: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The terms before their weights, and their weighted sum, by the program's names."""
    config, terms = model.config, model.mask_losses(p, w, target)
    return {
        "ce": terms["loss_ce"] / config.ce_weight,
        "dice_sum": terms["loss_dice"] / config.dice_weight,
        "boundary": terms["loss_boundary"] / config.boundary_weight,
        "total": torch.stack(list(terms.values())).sum(),
    }


def _run_union_encoder(model: ReferringSegmenter, case: Case) -> Computed:
    assert isinstance(model, RS2SAM2)
    image, ids, hidden = case.input("in.images_i8"), case.input("in.input_ids"), case.input("in.text_padding_mask")
    layers = list(model.union.encoder.layers)
    modules: dict[str, nn.Module] = {
        "vision_embed": model.union.vision_embed,
        "text_embed": model.union.text_embed,
        **{f"layer{i}": layer for i, layer in enumerate(layers)},
        **{f"layer{i}_attn": layer.get_submodule("self_attn") for i, layer in enumerate(layers)},
        **{f"layer{i}_ffn": layer.get_submodule("ffn") for i, layer in enumerate(layers)},
    }
    with watch(modules, {}) as seen:
        E = model.union(image, ids, hidden.bool())
    length = int((hidden[1] == 0).sum())
    alone = model.union(image[1:2], ids[1:2, :length], torch.zeros(1, length, dtype=torch.bool))
    tensors = {
        "vision_embed": seen.last("vision_embed"),
        "text_embed": seen.last("text_embed"),
        "encoder_out": torch.cat([E.cls, E.patches, E.words], 1),
        "encoder_out_unpadded_sample1": torch.cat([alone.cls, alone.patches, alone.words], 1),
    }
    for i in range(len(layers)):
        tensors |= {
            f"layer{i}_in": torch.cat(seen.inputs[f"layer{i}"][0][:2], 1),
            f"layer{i}_attn_out": torch.cat(seen.last(f"layer{i}_attn"), 1),
            f"layer{i}_ffn_out": torch.cat(seen.last(f"layer{i}_ffn"), 1),
            f"layer{i}_out": torch.cat(seen.last(f"layer{i}"), 1),
        }
    return Computed(tensors)


def _run_fusion(model: ReferringSegmenter, case: Case) -> Computed:
    assert isinstance(model, RS2SAM2)
    x, words = case.input("fusion.in_x_i8"), _swap(case.input("fusion.in_text_i8"))
    blocks: Any = model.sam.image_encoder.trunk.blocks
    y, t = blocks[0].fusion(x, words, None)
    tensors = {"fusion.out_x": y, "fusion.out_text": _swap(t), "mlp_adapter.out": blocks[0].adapter(x)}
    x = case.input("block.in_x_i8")
    for i in (1, 2, 3):
        x, words = blocks[i](x, words, None)
        tensors |= {f"block{i}.out_x": x, f"block{i}.out_text": _swap(words)}
    cells, code = _swap(case.input("post.in_image_i8")), _swap(case.input("post.in_pe_i8"))
    words = _swap(case.input("fusion.in_text_i8"))
    tensors["post.out"] = _swap(model.multiply(cells, code, words, None))
    return Computed(tensors)


def _run_mask_prompt(model: ReferringSegmenter, case: Case) -> Computed:
    assert isinstance(model, RS2SAM2)
    E, patches = case.input("in.encoder_out_i8"), model.config.union.grid**2
    cls, V, X = E[:, :1], E[:, 1 : 1 + patches], E[:, 1 + patches :]
    with watch(_mask_prompt_modules(model), {}) as seen:
        pseudo_mask = model.mask_prompt(cls, V).sigmoid()
    side = model.config.sam.mask_size
    words, sparse, dense = model.word_head(X), model.sparse_head(cls), resize(pseudo_mask, (side, side))
    tensors = {
        **_mask_prompt_tensors(model, seen),
        "mpg.mask_prompt_14": pseudo_mask,
        "mpg.mask_prompt_64": dense,
        "mpg.mask_prompt_256": resize(pseudo_mask, (256, 256)),
        "heads.sparse_feat": sparse,
        "heads.text_feat": words,
        "heads.text_weight": model.boundary_head(words[:, :1]),
        "prompt.sparse": sparse,
        "prompt.dense": model.sam.encode_mask(dense),
    }
    return Computed(tensors)


def _run_losses(model: ReferringSegmenter, case: Case) -> Computed:
    """Every ``<prefix>.pred_i8`` is a set of inputs; gradients are recorded as tensors."""
    assert isinstance(model, RS2SAM2)
    config, computed = model.config, Computed()
    for prefix in (name.removesuffix(".pred_i8") for name in case.names("input") if name.endswith(".pred_i8")):
        with torch.enable_grad():
            p = case.input(f"{prefix}.pred_i8").requires_grad_()
            weight = case.input(f"{prefix}.text_weight_i8").requires_grad_()
            y, w = case.input(f"{prefix}.target"), weight[:, 0, 0]
            losses = _losses(model, p, w, y)
            boundary = boundary_loss(p, w, y, config.boundary_mask, config.boundary_pairs)
            (of_boundary,) = torch.autograd.grad(boundary, weight)
            of_p, of_weight = torch.autograd.grad(losses["total"], [p, weight])
        computed.losses |= {f"{prefix}.{name}": value.item() for name, value in losses.items()}
        computed.tensors |= {f"{prefix}.loss_{name}": value.detach().reshape(1) for name, value in losses.items()}
        computed.tensors |= {
            f"{prefix}.grad_boundary_wrt_text_weight": of_boundary,
            f"{prefix}.grad_total_wrt_pred": of_p,
            f"{prefix}.grad_total_wrt_text_weight": of_weight,
        }
    return computed


ADAPTER = Adapter(
    build=_build,
    parts={
        "model": _run_model,
        "union_encoder": _run_union_encoder,
        "fusion": _run_fusion,
        "mask_prompt": _run_mask_prompt,
        "losses": _run_losses,
    },
    skipped=SKIPPED,
)
