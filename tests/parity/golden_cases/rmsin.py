"""Golden cases of RMSIN and LAVT; ``configuration.program`` says which of the two made a case of a whole model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from golden_cases.adapter import Adapter, Computed, Part, Runnable
from golden_cases.case import Case
from golden_cases.evisam3 import Taps
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.methods.lavt.card import SKIPPED
from rrsis_zoo.methods.lavt.layers import Decoder, Fusion, Gate, Stage, resize_corners
from rrsis_zoo.methods.lavt.losses import CLASS_WEIGHTS, class_cross_entropy, class_dice
from rrsis_zoo.methods.lavt.model import LAVT, LAVTConfig
from rrsis_zoo.methods.rmsin.layers import CrossScale, CrossScaleAttention, CrossScaleConfig, IntraScaleStage
from rrsis_zoo.methods.rmsin.model import RMSIN, RMSINConfig
from rrsis_zoo.methods.rmsin.weights import official_name
from rrsis_zoo.models.backbones.bert import BERTConfig
from rrsis_zoo.models.backbones.swin import PIXEL_MEAN, PIXEL_STD, SwinConfig
from rrsis_zoo.models.layers.rotated import RotatedConv, rotation_matrices
from rrsis_zoo.models.tokenizers import WordPieceTokenizer
from rrsis_zoo.models.types import Tokens

_FIXED: dict[str, Any] = {
    "image_mean": list(PIXEL_MEAN),
    "image_std": list(PIXEL_STD),
    "ce_class_weights": list(CLASS_WEIGHTS),
    "dice_smooth": 1e-6,
    "lower_case": True,
}
"""What a case may state and our methods have no switch for."""


def _checked(case: Case) -> dict[str, Any]:
    settings = case.configuration
    for name, ours in _FIXED.items():
        if settings.get(name, ours) != ours:
            raise DataFormatError(f"{case.folder}: {name} is {settings[name]}, ours is {ours}")
    return settings


def configuration(case: Case) -> LAVTConfig:
    """Translate the configuration of a case of a whole model.

    Raises:
        DataFormatError: it asks for something that there is no switch for.
    """
    settings = _checked(case)
    swin, bert = settings["swin"], settings["bert"]
    common = LAVTConfig(
        image_size=settings["image_size"],
        swin=SwinConfig(
            width=swin["embed_dim"],
            depths=tuple(swin["depths"]),
            heads=tuple(swin["num_heads"]),
            window=swin["window_size"],
            patch_size=swin.get("patch_size", 4),
            mlp_ratio=float(swin.get("mlp_ratio", 4)),
            drop_path=settings.get("drop_path_rate", 0.3),
        ),
        bert=BERTConfig(
            width=bert["hidden_size"],
            depth=bert["num_hidden_layers"],
            heads=bert["num_attention_heads"],
            mlp_width=bert["intermediate_size"],
            vocabulary=bert["vocab_size"],
            positions=bert["max_position_embeddings"],
            types=bert["type_vocab_size"],
        ),
        max_length=settings.get("text_length", 20),
        fusion_heads=tuple(swin.get("fusion_heads", (1, 1, 1, 1))),
        fusion_drop=settings.get("fusion_drop", 0.0),
        train_text="all",  # the cases record gradients of all that the program flags as trainable
    )
    if settings["program"] == "lavt":
        return common
    mixer, rotated = settings.get("cim", {}), settings.get("rotated", {})
    config = RMSINConfig(
        **{name: getattr(common, name) for name in LAVTConfig.__dataclass_fields__ if not name.startswith("dice_")},
        mixer=_mixer(mixer),
        kernels=rotated.get("kernels", 1),
        max_angle=float(rotated.get("max_angle_deg", 40.0)),
        router_dropout=rotated.get("router_dropout", 0.2),
    )
    if tuple(mixer.get("channels", config.swin.channels)) != config.swin.channels:
        raise DataFormatError(f"{case.folder}: the mixer's channels are not the trunk's, {config.swin.channels}")
    if settings.get("grid", config.grids[3]) != config.grids[3]:
        raise DataFormatError(f"{case.folder}: the grid is not that of the coarsest map, {config.grids[3]}")
    return config


def _mixer(settings: dict[str, Any]) -> CrossScaleConfig:
    default = CrossScaleConfig()
    return CrossScaleConfig(
        heads=settings.get("heads", default.heads),
        key_width=settings.get("key_dim", default.key_width),
        value_ratio=settings.get("value_ratio", default.value_ratio),
        mlp_ratio=settings.get("mlp_ratio", default.mlp_ratio),
    )


def _below(ours: str, theirs: str) -> Callable[[str], str]:
    """Return the names of a part from its names in the whole model."""
    return lambda name: official_name(f"{ours}{name}").removeprefix(theirs)


def _build(case: Case) -> Runnable:
    settings = _checked(case)
    match case.part:
        case "language_fusion" | "intra_scale":
            fusion = Fusion(settings["dim"], settings["language_dim"], settings["heads"])
            parts: dict[str, nn.Module] = {"fusion": fusion, "gate": Gate(settings["dim"])}
            if case.part == "intra_scale":
                stage = _bare_stage(settings["dim"], fusion)
                parts |= {name: stage.get_submodule(name) for name in ("position_weights", "visual_gate")}
            return Part(parts, _below("backbone.stages.0.", "backbone.layers.0."))
        case "cross_scale":
            return Bare(
                CrossScale(_mixer(settings), settings["channels"], settings["grid"]),
                _below("backbone.cross.", "backbone.cim."),
            )
        case "rotated_conv":
            conv = RotatedConv(settings["cin"], settings["cout"], settings["kernels"], float(settings["max_angle_deg"]))
            return Bare(conv, _below("decoder.steps.0.conv2.", "classifier.conv2_4."))
        case "decoder":
            channels = [settings["width"] // 8, settings["width"] // 4, settings["width"] // 2, settings["width"]]
            rotated = settings["program"] != "lavt"
            decoder = Decoder(channels, (lambda width: RotatedConv(width, width)) if rotated else None)
            return Bare(decoder, _below("decoder.", "classifier."))
        case "tokens" | "losses":
            return Part({}, official_name)
    config = configuration(case)
    return RMSIN(config) if isinstance(config, RMSINConfig) else LAVT(config)


class Bare(Part):
    """A part that is one module, whose parameters have no prefix."""

    def __init__(self, module: nn.Module, official: Callable[[str], str]) -> None:
        super().__init__({"it": module}, lambda name: official(name.removeprefix("it.")))


def _bare_stage(width: int, fusion: Fusion) -> IntraScaleStage:
    """Return a stage without blocks."""
    config = SwinConfig(width=width, depths=(0, 0, 0, 0), heads=(1, 1, 1, 1), window=1)
    return IntraScaleStage(config, 0, fusion)


def _probe(computed: Computed, case: Case) -> Computed:
    """Add the recorded scalar: the sum of the mean squares of some outputs."""
    probe = torch.stack([computed.tensors[f"out.{n}"].square().mean() for n in case.configuration["probe_outputs"]])
    computed.objective = probe.sum()
    computed.losses["probe"] = probe.sum().item()
    return computed


# -- parts -------------------------------------------------------------------------------------------------------------


def _tokens_of(X: Tensor) -> Tensor:
    """The cases' tokens (B, HW, C) of our maps (B, H, W, C)."""
    return X.flatten(1, 2)


def _run_stage(model: Part, case: Case) -> Computed:
    settings = case.configuration
    fusion, gate = model.get_submodule("fusion"), model.get_submodule("gate")
    assert isinstance(fusion, Fusion)
    X = case.input("in.x")
    if case.part == "intra_scale":
        X = X + case.input("in.x_shift")
    X = X.unflatten(1, (settings["height"], settings["width"]))
    T, m = case.input("in.words"), case.input("in.attention_mask").bool()
    x, t, read = X.flatten(1, 2).transpose(1, 2), T.transpose(1, 2), m[:, None].float()
    Q = nn.functional.instance_norm(fusion.query(x))
    R = fusion(X, T, m)
    visual, visual_gate, unread = None, None, None
    tensors = {
        "out.query": Q,
        "out.attention": fusion.attention(Q, fusion.key(t) * read, read),
        "out.language": nn.functional.instance_norm(
            fusion.said(fusion.attend(Q, fusion.key(t) * read, fusion.value(t) * read, read))
        ).transpose(1, 2),
        "out.visual": nn.functional.gelu(fusion.own(x)),
        "out.gate": _tokens_of(gate(R)),
        "out.residual": _tokens_of(R),
    }
    stage = _bare_stage(settings["dim"], fusion)
    stage.gate = gate  # type: ignore[assignment]
    if case.part == "intra_scale":
        stage.position_weights, stage.visual_gate = (  # type: ignore[assignment]
            model.get_submodule(name) for name in ("position_weights", "visual_gate")
        )
        visual, unread = stage.visual(X), stage.unread(X)
        visual_gate = stage.visual_gate(visual)
        tensors |= {
            "out.weight": stage.position_weights(X).permute(0, 3, 1, 2),
            "out.visual": _tokens_of(visual),
            "out.visual_gate": _tokens_of(visual_gate),
        }
    tensors["out.next"] = _tokens_of(stage.updated(X, R, unread))
    return _probe(Computed(tensors), case)


def _tap_attention(taps: Taps, attention: CrossScaleAttention, name: str) -> None:
    taps.output(attention, name)
    taps.output(attention.qkv, f"{name}.qkv")
    taps.output(attention.local, f"{name}.value_conv")
    taps.output(attention.positions, f"{name}.proj")
    taps.output(attention.out, f"{name}.attention")


def _tap_mixer(taps: Taps, mixer: CrossScale, prefix: str) -> None:
    for name in ("csa1", "csa2"):
        _tap_attention(taps, mixer.get_submodule(name), f"{prefix}{name}")  # type: ignore[arg-type]
    taps.input(mixer.down_channel, f"{prefix}pooled")
    taps.output(mixer.down_channel, f"{prefix}reduced")
    taps.input(mixer.csa2, f"{prefix}intra_ff")
    taps.input(mixer.bn, f"{prefix}block")
    taps.output(mixer.up_channel, f"{prefix}up")


def _run_mixer(model: Part, case: Case) -> Computed:
    mixer, taps = model.get_submodule("it"), Taps()
    assert isinstance(mixer, CrossScale)
    _tap_mixer(taps, mixer, "out.")
    levels = mixer([case.input(f"in.level{i}") for i in (1, 2, 3, 4)])
    taps.tensors |= {f"out.level{i}": level for i, level in enumerate(levels, start=1)}
    return _probe(Computed(taps.tensors), case)


def _run_rotated(model: Part, case: Case) -> Computed:
    conv = model.get_submodule("it")
    assert isinstance(conv, RotatedConv)
    x = case.input("in.x") + case.input("in.x_shift")
    alpha, theta = conv.router(x)
    tensors = {
        "out.alpha": alpha,
        "out.theta": theta,
        "out.rotation": rotation_matrices(theta),
        "out.rotation_of_theta": rotation_matrices(case.input("in.theta")),
        "out.kernels": conv.kernels(alpha, theta),
        "out.y": conv(x),
    }
    return _probe(Computed(tensors), case)


def _tap_decoder(taps: Taps, decoder: Decoder, first: bool = False) -> None:
    for step, k in zip(decoder.steps, (4, 3, 2), strict=True):
        taps.output(step, f"out.decoder.{k}")
        if first:
            taps.output(step.get_submodule("bn1"), f"out.first.{k}", torch.relu)


def _run_decoder(model: Part, case: Case) -> Computed:
    decoder, taps = model.get_submodule("it"), Taps()
    assert isinstance(decoder, Decoder)
    _tap_decoder(taps, decoder, first=True)
    taps.tensors["out.logits"] = decoder([case.input(f"in.level{i}") for i in (1, 2, 3, 4)])
    return _probe(Computed(taps.tensors), case)


def _run_tokens(model: Part, case: Case) -> Computed:
    said, longest = case.meta["inputs"], case.configuration["max_tokens"]
    tokenizer = WordPieceTokenizer("\n".join(said["vocabulary"]).encode(), longest)
    tokens = tokenizer(said["expressions"], "published")
    ids = nn.functional.pad(tokens.ids, (0, longest - tokens.ids.shape[1]))
    read = torch.arange(longest) < tokens.length[:, None]
    return Computed({"out.input_ids": ids, "out.attention_mask": read.long()})


def _run_losses(model: Part, case: Case) -> Computed:
    z, target = case.input("in.logits"), case.input("in.target")[:, None]
    leaves = {name: z.clone().requires_grad_(True) for name in ("lavt", "rmsin")}
    ce, _ = _losses(leaves["lavt"], target, share=0.0)
    total, computed = _losses(leaves["rmsin"], target, share=case.configuration["dice_share"])
    computed.losses |= {"loss_lavt": ce.item(), "loss_rmsin": total.item()}
    computed.objective = ce + total
    computed.leaves = {f"grad.{name}.logits": leaf for name, leaf in leaves.items()}
    return computed


def _losses(z: Tensor, target: Tensor, share: float) -> tuple[Tensor, Computed]:
    d = z[:, 1:] - z[:, :1]
    ce, dice = class_cross_entropy(d, target), class_dice(d, target).sum()
    return (1 - share) * ce + share * dice, Computed(losses={"ce": ce.item(), "dice": dice.item()})


# -- the whole ---------------------------------------------------------------------------------------------------------


def _run_model(model: LAVT, case: Case) -> Computed:
    taps = Taps()
    fused = _tap_stages(taps, [*model.backbone.stages])
    taps.output(model.backbone.patch_embed, "out.patch_embed", lambda x: x.permute(0, 3, 1, 2))
    for i, norm in enumerate(model.backbone.norms, start=1):
        taps.output(norm, f"out.stage{i}.normed", _tokens_of)
    _tap_decoder(taps, model.decoder)
    taps.output(model.decoder, "out.logits_low")
    taps.output(model.text_encoder, "out.words", lambda read: read.last_hidden_state)
    if isinstance(model.backbone.cross, CrossScale):
        _tap_mixer(taps, model.backbone.cross, "out.cim.")
        for i, back in enumerate(model.backbone.cross.back, start=1):
            taps.output(back, f"out.cim.level{i}")
    image, ids = case.input("in.image"), case.input("in.input_ids")
    n, side = len(image), model.config.image_size
    state = model.encode({"image": image}, torch.full((n, 2), side))
    length = case.input("in.attention_mask").sum(1)
    model.localise(state, Tokens(ids, length), torch.arange(n))
    z = resize_corners(taps.tensors["out.logits_low"], (side, side))
    taps.tensors["out.logits"] = z
    for i, (stage, (X, R)) in enumerate(zip(model.backbone.stages, fused, strict=True), start=1):
        assert isinstance(stage, Stage)
        taps.tensors |= _after(stage, X, R, f"out.stage{i}")
    share = model.config.dice_share if isinstance(model, RMSIN) else 0.0
    total, computed = _losses(z, case.input("in.target")[:, None], share)
    computed.tensors, computed.objective = taps.tensors, total
    computed.losses["loss"] = total.item()
    return computed


def _tap_stages(taps: Taps, stages: Sequence[nn.Module]) -> list[tuple[Tensor, Tensor]]:
    """Tap what leaves the blocks and the fusions; return the list that X and R of every stage will be in."""
    fused: list[tuple[Tensor, Tensor]] = []
    for i, stage in enumerate(stages, start=1):
        taps.output(stage, f"out.stage{i}.blocks", _tokens_of)
        fusion = stage.get_submodule("fusion")
        taps.output(fusion, f"out.stage{i}.fusion", _tokens_of)

        def keep(_: nn.Module, taken: Any, result: Any) -> None:
            fused.append((taken[0], result))

        fusion.register_forward_hook(keep)
    return fused


def _after(stage: Stage, X: Tensor, R: Tensor, name: str) -> dict[str, Tensor]:
    """Return what follows a fusion; the model leaves it out behind the last stage."""
    with torch.no_grad():
        following = stage.updated(X, R, stage.unread(X))
        if stage.merging is not None:
            following = stage.merging(following)
        tensors = {f"{name}.next": _tokens_of(following)}
        if isinstance(stage, IntraScaleStage):
            weights = stage.position_weights(X).permute(0, 3, 1, 2)
            tensors |= {f"{name}.weight": weights, f"{name}.visual": _tokens_of(stage.visual(X))}
    return tensors


ADAPTER = Adapter(
    build=_build,
    parts={
        "model": _run_model,
        "language_fusion": _run_stage,
        "intra_scale": _run_stage,
        "cross_scale": _run_mixer,
        "rotated_conv": _run_rotated,
        "decoder": _run_decoder,
        "tokens": _run_tokens,
        "losses": _run_losses,
    },
    aliases=SKIPPED,
)
