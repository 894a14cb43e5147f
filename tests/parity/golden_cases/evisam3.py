"""Golden cases of EviSAM3."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from golden_cases.adapter import Adapter, Computed, Part, Runnable
from golden_cases.case import Case
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.methods.evisam3.card import ALIASES, UNUSED
from rrsis_zoo.methods.evisam3.config import EviSAM3Config
from rrsis_zoo.methods.evisam3.evidence import EvidenceStep
from rrsis_zoo.methods.evisam3.experts import ExpertAnswer, ExpertPrompting, balance
from rrsis_zoo.methods.evisam3.model import EviSAM3
from rrsis_zoo.methods.evisam3.prior import PriorAnswer
from rrsis_zoo.methods.evisam3.prompt_generator import PromptGenerator
from rrsis_zoo.methods.evisam3.weights import official_name as official
from rrsis_zoo.models.backbones.beit3 import BEiT3Config, UnionFeatures
from rrsis_zoo.models.backbones.sam3 import SAM3Config
from rrsis_zoo.models.layers.geometry import resize
from rrsis_zoo.models.layers.rotated import RotatedConv, rotation_matrices
from rrsis_zoo.models.losses import binary_cross_entropy, dice
from rrsis_zoo.models.types import Prompts, Tokens
from rrsis_zoo.weights.names import rename

_FIXED = {  # what a case may state and EviSAM3 has no switch for
    "decoder": {"num_multimask_outputs": 1, "depth": 2, "pred_obj_scores": True, "pred_obj_scores_mlp": False},
    "experts": {"arc_res_scale": 0.1},
}


def configuration(case: Case) -> EviSAM3Config:
    """Translate a case's configuration.

    Raises:
        DataFormatError: it asks for something that EviSAM3 has no switch for.
    """
    settings = case.configuration
    for group, fixed in _FIXED.items():
        for name, ours in fixed.items():
            if settings.get(group, {}).get(name, ours) != ours:
                raise DataFormatError(f"{case.folder}: {group}.{name} is {settings[group][name]}, EviSAM3's is {ours}")
    default = EviSAM3Config()
    adapter, experts = settings.get("adapter", {}), settings.get("experts", {})
    generator = settings.get("prompt_generator", {})
    words = case.meta.get("tensors", {}).get("in.input_ids", {"shape": [1, default.text_length]})["shape"][1]
    return EviSAM3Config(
        sam=_sam(settings),
        union=_union(settings["union_encoder"]),
        text_length=words,
        prior_heads=settings.get("vmtoken_heads", default.prior_heads),
        adapter_ratio=adapter.get("ratio", default.adapter_ratio),
        adapter_heads=adapter.get("heads", default.adapter_heads),
        evidence_tokens=adapter.get("evidence_tokens", default.evidence_tokens),
        evidence_heads=adapter.get("evidence_heads", default.evidence_heads),
        momentum=adapter.get("momentum", default.momentum),
        pool=adapter.get("pool", default.pool),
        text_step=adapter.get("alpha_text", default.text_step),
        mlp_step=adapter.get("mlp_adapter_scale", default.mlp_step),
        high_pass=generator.get("freq", default.high_pass),
        generator_ratio=generator.get("scale_factor", default.generator_ratio),
        extra_tokens=experts.get("num_extra_tokens", default.extra_tokens),
        temperature=experts.get("temperature", default.temperature),
        groups=experts.get("groupnorm_groups", default.groups),
        max_angle=experts.get("arc_max_angle_deg", default.max_angle),
    )


def _sam(settings: dict[str, Any]) -> SAM3Config:
    trunk, decoder, default = settings["sam3"], settings.get("decoder", {}), SAM3Config()
    return SAM3Config(
        image_size=trunk["image_size"],
        patch_size=trunk["patch_size"],
        width=trunk["embed_dim"],
        depth=trunk["depth"],
        heads=trunk["num_heads"],
        mlp_width=int(trunk["embed_dim"] * trunk["mlp_ratio"]),
        window=trunk["window_size"],
        global_blocks=tuple(trunk["global_att_blocks"]),
        position_size=trunk["pretrain_image_size"],
        prompt_width=settings.get("neck_dim", default.prompt_width),
        decoder_mlp_width=decoder.get("mlp_dim", default.decoder_mlp_width),
        decoder_heads=decoder.get("heads", default.decoder_heads),
        iou_width=decoder.get("iou_head_hidden_dim", default.iou_width),
    )


def _union(settings: dict[str, Any]) -> BEiT3Config:
    return BEiT3Config(
        width=settings["embed_dim"],
        depth=settings["layers"],
        heads=settings["heads"],
        mlp_width=settings["ffn_dim"],
        vocabulary=settings["vocab_size"],
    )


# -- what a part is run on ---------------------------------------------------------------------------------------------

_SMALL_UNION = BEiT3Config(image_size=1, patch_size=1, width=8, depth=0, heads=1, vocabulary=1, text_positions=3)


def _build(case: Case) -> Runnable:
    settings = case.configuration
    match case.part:
        case "evidence_adapter":
            sam = SAM3Config(
                image_size=4, patch_size=1, width=settings["D"], depth=3, heads=1, mlp_width=1, window=1,
                position_size=4, prompt_width=settings["text_dim"], drop_path=0.0,
            )  # fmt: skip
            return EviSAM3(
                EviSAM3Config(
                    sam=sam,
                    union=_SMALL_UNION,
                    groups=8,
                    adapter_ratio=settings["hidden"] / settings["D"],
                    adapter_heads=settings["heads"],
                    evidence_tokens=settings["evidence_tokens"],
                    evidence_heads=settings["evidence_heads"],
                    momentum=settings["momentum"],
                    pool=settings["pool"],
                    text_step=settings["alpha_text"],
                )
            )
        case "expert_prompting":
            config = EviSAM3Config(
                union=BEiT3Config(width=settings["width"]),
                extra_tokens=settings["num_extra_tokens"],
                temperature=settings["temperature"],
                groups=settings["groupnorm_groups"],
            )
            return Part({"experts": ExpertPrompting(config)}, official)
        case "prompt_generator":
            grid, depth = settings["grid"], sum(settings["stage_depths"])
            sam = SAM3Config(image_size=grid, patch_size=1, width=settings["width"], depth=depth)
            config = EviSAM3Config(sam=sam, generator_ratio=settings["scale_factor"], high_pass=settings["freq"])
            trunk = "image_encoder.vision_backbone.trunk."
            generator = PromptGenerator(config)
            return Part({"prompt_generator": generator}, lambda name: official(name).removeprefix(trunk))
        case "rotated_conv":
            arcs = {
                f"arc_n{n}": RotatedConv(settings["cin"], settings["cout"], n, settings["max_angle_deg"])
                for n in settings["kernel_numbers"]
            }
            rules = ((r"\.router\.norm\.", ".rounting_func.norm.norm."), (r"\.router\.", ".rounting_func."))
            return Part(arcs, lambda name: rename(name, rules))
        case "losses":
            return Part({}, official)
    return EviSAM3(configuration(case))


class Taps:
    """Collects what modules take in and give out while a model runs."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def output(self, module: nn.Module, name: str, pick: Callable[[Any], Tensor] = lambda result: result) -> None:
        """Keep ``pick`` of a module's output."""

        def keep(_: nn.Module, taken: Any, result: Any) -> None:
            self.tensors[name] = pick(result)

        module.register_forward_hook(keep)

    def input(self, module: nn.Module, name: str, pick: Callable[[Any], Tensor] = lambda taken: taken[0]) -> None:
        """Keep ``pick`` of the positional arguments that a module is called with."""

        def keep(_: nn.Module, taken: Any) -> None:
            self.tensors[name] = pick(taken)

        module.register_forward_pre_hook(keep)


def _noise(seed: str, like: Tensor) -> Tensor:
    """The weights of a recorded scalar."""
    rng = np.random.default_rng(zlib.crc32(f"evisam3/{seed}".encode()))
    return torch.from_numpy(rng.standard_normal(tuple(like.shape), dtype=np.float64).astype(np.float32))


def _leaf(case: Case, name: str) -> Tensor:
    return case.input(name).requires_grad_(
        f"grad.{name.removeprefix('in.').removesuffix('_i8')}" in case.names("gradient")
    )


def _sequence_first(x: Tensor) -> Tensor:
    """Ours are (N, length, …), the program's (length, N, …)."""
    return x.transpose(0, 1)


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


# -- parts -------------------------------------------------------------------------------------------------------------


def _run_rotated(model: Part, case: Case) -> Computed:
    x, computed, total = _leaf(case, "in.x_i8"), Computed(), torch.zeros(())
    for name, arc in model.named_children():
        assert isinstance(arc, RotatedConv)
        alpha, theta = arc.router(x)
        y = arc(x)
        computed.tensors |= {
            f"out.{name}.alpha": alpha,
            f"out.{name}.angle": theta,
            f"out.{name}.rotated_weight": arc.kernels(alpha, theta).flatten(0, 1),
            f"out.{name}.y": y,
        }
        total = total + (y * _noise(f"arc/w_{name}", y)).sum()
    computed.tensors["out.rotation_matrices"] = rotation_matrices(case.input("in.thetas"))
    computed.tensors["out.scalar"] = total.reshape(1)
    computed.objective, computed.leaves = total, {"grad.x": x}
    return computed


def _run_generator(model: Part, case: Case) -> Computed:
    generator = model.get_submodule("prompt_generator")
    assert isinstance(generator, PromptGenerator)
    taps = Taps()
    taps.output(generator.high_pass, "out.highpass")
    tensors, block = {}, 0
    _tap_pictures(taps, generator, "out.")
    R = generator.pictures(case.input("in.images_i8"))
    for n, stage in enumerate(generator.stages):
        tensors[f"out.resized{n + 1}"] = R[n]
        for r in range(stage.blocks):  # type: ignore[arg-type]
            tensors[f"out.x_stage{n + 1}_{r}"] = generator(case.input("in.x_i8"), R[n], block=block)
            block += 1
    return Computed({**tensors, **taps.tensors})


def _tap_pictures(taps: Taps, generator: PromptGenerator, prefix: str) -> None:
    for n, stage in enumerate(generator.stages):
        picture = stage.get_submodule("picture")
        taps.output(picture, f"{prefix}handcrafted{n + 1}", lambda H: H.flatten(2).transpose(1, 2))


def _run_adapters(model: EviSAM3, case: Case) -> Computed:
    s, e, terms = _leaf(case, "in.text_i8"), None, []
    computed = Computed(leaves={"grad.text": s})
    s = _sequence_first(s)
    for i, adapter in enumerate(model.evidence_adapters):
        x, taps = _leaf(case, f"in.x{i}_i8"), Taps()
        rectified = {"ev": adapter.get_submodule("rectify_vision"), "el": adapter.get_submodule("rectify_text")}
        size, out = tuple(x.shape[1:3]), f"out.a{i}"
        taps.input(adapter.get_submodule("vision_from_text"), f"{out}.hidden", lambda q, s=size: q[0].unflatten(1, s))
        taps.input(adapter.get_submodule("text_from_vision"), f"{out}.vl_out", lambda q: _sequence_first(q[1]))
        taps.input(adapter.get_submodule("text_to_evidence"), f"{out}.lv_out", lambda q: _sequence_first(q[0]))
        taps.input(adapter.get_submodule("vision_to_evidence"), f"{out}.pooled", lambda q: _sequence_first(q[0]))
        taps.output(adapter.get_submodule("gather"), f"{out}.evidence_now", _sequence_first)
        taps.output(adapter.get_submodule("evidence_to_hidden"), f"{out}.evi_h", _sequence_first)
        for short, part in rectified.items():
            taps.output(part.get_submodule("gate"), f"{out}.gate_{short}_logit")
            taps.output(part.get_submodule("norm"), f"{out}.{short}_norm_out", _sequence_first)
        taps.input(adapter.get_submodule("up"), f"{out}.hidden_rectified", lambda q, s=size: q[0].unflatten(1, s))
        step: EvidenceStep = adapter(x, s, e)
        s, e = step.s, step.e
        if i == 0:
            computed.tensors["out.mlp_adapter_out"] = model.mlp_adapters[0](x)
            computed.leaves["grad.x0"] = x
        computed.tensors |= taps.tensors | {
            f"{out}.x_out": step.x,
            f"{out}.text_out": _sequence_first(s),
            f"{out}.evidence": _sequence_first(e),
        }
        terms.append((step.x * _noise(f"evidence_adapter/w{i}", step.x)).mean())
    assert e is not None
    for seed, value in (("wt", _sequence_first(s)), ("we", _sequence_first(e))):
        terms.append((value * _noise(f"evidence_adapter/{seed}", value)).mean())
    computed.objective = torch.stack(terms).sum()
    computed.tensors["out.scalar"] = computed.objective.reshape(1)
    return computed


def _run_experts(model: Part, case: Case) -> Computed:
    experts = model.get_submodule("experts")
    assert isinstance(experts, ExpertPrompting)
    base, e, t_cls = _leaf(case, "in.base_i8"), _leaf(case, "in.evidence_i8"), _leaf(case, "in.text_cls_i8")
    taps = Taps()
    taps.input(experts.router, "out.router_in")
    taps.output(experts.router, "out.router_logits")
    for k, name in enumerate(("detail", "elong", "clutter")):
        taps.output(experts.experts[k], f"out.expert_{name}")
        taps.output(experts.dense_heads[k], f"out.dense_head{k}", _channels_last)
        taps.output(experts.token_heads[k], f"out.token_head{k}", lambda t: t.unflatten(1, (experts.extra, -1)))
    elongated = experts.experts[1]
    taps.output(elongated.get_submodule("pre"), "out.elong.pre")
    for name in ("arc1", "arc2"):
        arc = elongated.get_submodule(name)
        taps.output(arc, f"out.{name}.out")
        taps.output(arc.get_submodule("router"), f"out.{name}.alpha", lambda settings: settings[0])
        taps.output(arc.get_submodule("router"), f"out.{name}.angle", lambda settings: settings[1])
    answer: ExpertAnswer = experts(base.permute(0, 3, 1, 2), _sequence_first(e), t_cls)
    delta, shares = _channels_last(answer.delta), balance(answer.weights)
    total = sum(
        ((value * _noise(f"expert/{seed}", value)).sum() for seed, value in (("wl", delta), ("wt", answer.tokens))),
        start=shares,
    )
    tensors = {
        **taps.tensors,
        "out.weights": answer.weights,
        "out.gate": answer.gate,
        "out.delta_logits": delta,
        "out.delta_tokens": answer.tokens,
        "out.balance": shares.reshape(1),
        "out.scalar": total.reshape(1),
    }
    leaves = {"grad.base": base, "grad.evidence": e, "grad.text_cls": t_cls}
    return Computed(tensors, objective=total, leaves=leaves)


def _run_losses(model: Part, case: Case) -> Computed:
    computed, totals = Computed(), []
    for name in case.names("input"):
        batch = name.removesuffix(".logits_i8")
        logits, gt = case.input(name).requires_grad_(True), case.input(f"{batch}.gt")
        total = _losses(computed, logits, gt, f"{batch}.", f"{batch}.")
        computed.tensors[f"{batch}.gt"] = gt
        computed.leaves[f"{batch}.grad_logits"] = logits
        totals.append(total)
    computed.objective = torch.stack(totals).sum()
    return computed


def _losses(computed: Computed, logits: Tensor, gt: Tensor, prefix: str, number: str) -> Tensor:
    """Add cross entropy, dice and their weighted sum as tensors and numbers; return the sum."""
    target, weights = gt.unsqueeze(1), EviSAM3Config()
    ce, overlap = binary_cross_entropy(logits, target), dice(logits, target)
    terms = {"ce": ce, "dice": overlap, "total": weights.ce_weight * ce + weights.dice_weight * overlap}
    computed.tensors |= {f"{prefix}{name}": value.reshape(1) for name, value in terms.items()}
    computed.losses |= {f"{number}{name}": value.item() for name, value in terms.items()}
    return terms["total"]


# -- the whole ---------------------------------------------------------------------------------------------------------


def _run_model(model: EviSAM3, case: Case) -> Computed:
    taps = Taps()
    _tap_model(taps, model, case.names("output"))
    image, ids = case.input("in.images_i8"), case.input("in.input_ids")
    n, side = len(image), model.config.sam.image_size
    index, sizes = torch.arange(n), torch.full((n, 2), side)
    state = model.encode({"image": image, "small": case.input("in.images_evf_i8")}, sizes)
    prompts = model.localise(state, Tokens(ids, case.input("in.attention_mask").sum(1)), index)
    low, iou, score = model.decode(prompts)
    logits = resize(low, (side, side))
    computed = Computed()
    computed.objective = _losses(computed, logits, case.input("in.gt"), "loss.", "")
    tensors = {
        **taps.tensors,
        **_prompts(model, prompts),
        **{f"prompt_generator.resized{i + 1}": state.features[f"high_pass_{i}"] for i in range(4)},
        f"trunk.block{model.config.sam.depth - 1}.x_out": _channels_last(prompts.aux["trunk"]),
        "decoder.iou": iou,
        "decoder.object_score": score,
        "out.low_res_logits": low,
        "out.logits": logits,
    }
    computed.tensors |= tensors
    return computed


def _prompts(model: EviSAM3, prompts: Prompts) -> dict[str, Tensor]:
    return {
        "prompt.sparse": prompts.sparse,
        "prompt.logits14": _channels_last(prompts.aux["z"]),
        "prompt.image_pe": model.sam.code(),
        "moe.balance": balance(prompts.aux["expert_weights"]).reshape(1),
        "moe.gate": prompts.aux["expert_gate"],
        "moe.weights": prompts.aux["expert_weights"],
    }


def _tap_model(taps: Taps, model: EviSAM3, wanted: Sequence[str]) -> None:
    def together(E: UnionFeatures) -> Tensor:
        return torch.cat([E.cls, E.patches, E.words], 1)

    def prior(part: str, change: Callable[[Tensor], Tensor] = lambda x: x) -> Callable[[PriorAnswer], Tensor]:
        return lambda answer: change(getattr(answer, part))

    taps.output(model.union, "union.encoder_out", together)
    for name, pick in (
        ("vmtoken_out", prior("m")),
        ("base", prior("base", _channels_last)),
        ("base_logits", prior("z0", _channels_last)),
        ("text_cls", prior("t_cls")),
        ("text_feat", prior("words")),
    ):
        taps.output(model.prior, f"prior.{name}", pick)
    taps.output(model.experts, "moe.delta_logits", lambda answer: _channels_last(answer.delta))
    taps.output(model.experts, "moe.delta_tokens", lambda answer: answer.tokens)
    for k, expert in enumerate(model.experts.experts):
        taps.output(expert, f"moe.expert{k}")
    for k, layer in enumerate(model.sam.neck.fpn_layers[:3]):
        taps.output(layer, f"neck.level{k}")
    for k in (0, 1):
        taps.output(model.sam.mask_decoder.get_submodule(f"conv_s{k}"), f"decoder.s{k}")
    taps.input(model.dense_projection, "prompt.resized")
    taps.input(model.sam.mask_decoder, "prompt.dense", lambda taken: taken[3])
    taps.output(model.prompt_generator.high_pass, "prompt_generator.highpass")
    _tap_pictures(taps, model.prompt_generator, "prompt_generator.")
    grid = (model.config.sam.grid, model.config.sam.grid)
    patches = model.sam.trunk.embeddings.patch_embeddings
    taps.output(patches, "trunk.patch_embed_out", lambda x: x.unflatten(1, grid))
    taps.output(model.sam.trunk.layer_norm, "trunk.ln_pre_out")
    _tap_trunk(taps, model, set(wanted))


def _tap_trunk(taps: Taps, model: EviSAM3, wanted: set[str]) -> None:
    """Between the blocks, where the case records something: all of them would be gigabytes."""

    def keep_entering(_: nn.Module, taken: tuple, named: dict) -> None:
        """What enters the prompt generator of a block is what left the block before."""
        name = f"trunk.block{named['block'] - 1}.x_out"
        if name in wanted:
            taps.tensors[name] = taken[0]

    model.prompt_generator.register_forward_pre_hook(keep_entering, with_kwargs=True)
    for i, block in enumerate(model.sam.trunk.layers):
        name, adapter = f"trunk.block{i}", model.evidence_adapters[i]
        if not any(other.startswith(f"{name}.") for other in wanted):
            continue
        taps.input(block, f"{name}.prompted_in")
        taps.output(block, f"{name}.blk_out")
        taps.output(adapter, f"{name}.space_out", lambda step: step.x)
        taps.output(adapter, f"{name}.text_out", lambda step: _sequence_first(step.s))
        taps.output(adapter, f"{name}.evidence", lambda step: _sequence_first(step.e))
        taps.output(adapter.get_submodule("gather"), f"{name}.evidence_now", _sequence_first)


ADAPTER = Adapter(
    build=_build,
    parts={
        "model": _run_model,
        "evidence_adapter": _run_adapters,
        "expert_prompting": _run_experts,
        "rotated_conv": _run_rotated,
        "prompt_generator": _run_generator,
        "losses": _run_losses,
    },
    skipped=UNUSED,
    aliases=ALIASES,
)
