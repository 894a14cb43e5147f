"""Golden cases of zero-shot SAM 3: official names are those of transformers' class, values those of Meta's modules."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from golden_cases.adapter import Adapter, Computed, Part
from golden_cases.case import Case
from golden_cases.report import Row, compare_mask, compare_number
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.methods.sam3_zeroshot.model import SAM3ZeroShot, SAM3ZeroShotConfig
from rrsis_zoo.methods.sam3_zeroshot.rules import (
    at_native,
    best,
    box_map,
    fused,
    instance_scores,
    kept_first,
    margins,
)
from rrsis_zoo.methods.sam3_zeroshot.weights import transformers_names
from rrsis_zoo.models.backbones.sam3_detector import SAM3Detector, SAM3DetectorConfig
from rrsis_zoo.models.types import ImageState, Prompts, Tokens

FLIPS = 2
"""Pixels of a mask that may differ: a value may lie within 1e-4 of the threshold."""


def _detector(settings: dict[str, Any]) -> SAM3DetectorConfig:
    """Translate a configuration, whose names are sentences."""

    def of(start: str, default: Any) -> Any:
        return next((value for name, value in settings.items() if name.startswith(start)), default)

    d = SAM3DetectorConfig()
    if not str(of("layer_norm_eps", "1e-5")).startswith("1e-5"):
        raise DataFormatError(f"layer_norm_eps is {of('layer_norm_eps', None)}, ours is 1e-5")
    return SAM3DetectorConfig(
        image_size=of("image_size", d.image_size),
        patch_size=of("patch_size", d.patch_size),
        width=of("vision hidden_size", d.width),
        depth=of("vision num_hidden_layers", d.depth),
        heads=of("vision num_attention_heads", d.heads),
        mlp_width=of("vision intermediate_size", d.mlp_width),
        window=of("window_size", d.window),
        global_blocks=tuple(of("global_attn_indexes", d.global_blocks)),
        position_size=of("pretrain_image_size", d.position_size),
        detector_width=of("width of pyramid", d.detector_width),
        detector_heads=of("their attention heads", d.detector_heads),
        detector_mlp_width=of("their intermediate_size", d.detector_mlp_width),
        geometry_depth=of("geometry layers", d.geometry_depth),
        encoder_depth=of("encoder layers", d.encoder_depth),
        decoder_depth=of("decoder layers", d.decoder_depth),
        queries=of("num_queries", d.queries),
        roi_size=of("roi_size", d.roi_size),
        vocabulary=of("text vocab_size", d.vocabulary),
        text_positions=of("text max_position_embeddings", d.text_positions),
        text_width=of("text hidden_size", d.text_width),
        text_depth=of("text layers", d.text_depth),
        text_heads=of("text heads", d.text_heads),
        text_projection=of("text projection_dim", d.text_projection),
    )


def _build(case: Case) -> Part:
    model = SAM3ZeroShot(SAM3ZeroShotConfig(sam=_detector(case.configuration)))
    return Part({"it": model}, lambda name: name.removeprefix("it.sam."))


def _run_model(part: Part, case: Case) -> Computed:
    model = part.get_submodule("it")
    assert isinstance(model, SAM3ZeroShot)
    images = [
        case.input(name) for name in sorted(case.names("input")) if name.startswith("image") and name[5:].isdigit()
    ]
    index, ids = case.input("image_index"), case.input("token_ids")
    views = model.prepare(images)
    state = model.encode(views, torch.tensor([image.shape[-2:] for image in images]))
    square = (case.input("square") / 255 - views["image"]).abs().max() * 255
    if square > 1 + 1e-4:
        raise DataFormatError(f"the prepared image differs by {square} levels")
    views = {"image": case.input("square") / 255}  # whole levels may differ by one
    state = model.encode(views, state.sizes)
    tokens = Tokens(ids, (ids != 0).sum(1))
    prompts = model.localise(state, tokens, index)
    everything = torch.arange(model.config.sam.queries).expand(len(ids), -1)
    masks, semantic = model.draw(state, prompts, index, everything)
    tensors = {
        **{f"fpn{i}": state.features[f"fpn{i}"] for i in range(3)},
        "geometry_token": state.features["geometry"][:, 0],
        "text_features": prompts.words[:, :-1],  # type: ignore[index]
        "encoder": prompts.aux["encoder"],
        "decoder": prompts.sparse,
        "pred_masks": masks,
        "semantic_seg": semantic,
        "presence": prompts.presence,
        "scores": prompts.aux["scores"],
        **_outputs(model, state, prompts, index),
        **{f"without_token.{n}": t for n, t in _without_token(model, state, tokens, index).items()},
        **_answers(case, state, prompts, index, masks, semantic),
    }
    return Computed(tensors)  # type: ignore[arg-type]


def _outputs(model: SAM3ZeroShot, state: ImageState, prompts: Prompts, index: Tensor) -> dict[str, Tensor]:
    """Return the detector's raw outputs for prompts."""
    assert prompts.words is not None
    found = model.sam.find(state.features["fpn2"][index], prompts.words, prompts.aux["prompt_mask"])
    return {"pred_logits": found.logits, "pred_boxes": found.boxes, "presence_logits": found.presence}


def _without_token(model: SAM3ZeroShot, state: ImageState, tokens: Tokens, index: Tensor) -> dict[str, Tensor]:
    with_token = model.config
    model.config = replace(with_token, geometry_token="none")
    prompts = model.localise(state, tokens, index)
    model.config = with_token
    _, semantic = model.draw(state, prompts, index, torch.zeros(len(index), 1, dtype=torch.int64))
    return {**_outputs(model, state, prompts, index), "semantic_seg": semantic}


def _answers(
    case: Case, state: ImageState, prompts: Prompts, index: Tensor, masks: Tensor, semantic: Tensor
) -> dict[str, Tensor]:
    """Return both rules' answers, at mask resolution and at native size."""
    s, p, t = prompts.aux["scores"], prompts.presence, case.meta["inputs"]["mask_threshold"]
    assert p is not None
    native = [tuple(size) for size in state.sizes[index].tolist()]
    first = best(s)
    top = masks[torch.arange(len(s)), first][:, None]
    tensors = {"top.index": first, "top.mask_logits": top}
    for n, size in enumerate(native):
        tensors[f"top.native{n}"] = at_native(top[n : n + 1], size)[0, 0] > 0
    for c in case.meta["inputs"]["confidences"]:
        kept = s > c
        tensors[f"fused_{c}.low"] = fused(masks, semantic, s, p, kept)
        tensors[f"fused_{c}.margin"] = margins(masks, semantic, s, p, kept, t)
        for n, size in enumerate(native):
            one = slice(n, n + 1)
            f = fused(at_native(masks[one], size), at_native(semantic[one], size), s[one], p[one], kept[one])[0, 0]
            tensors |= {f"fused_{c}.native{n}": f, f"fused_{c}.mask{n}": f > t}
    return tensors


def _check_rules(case: Case) -> list[Row]:
    """Compare the rules on given outputs, which no network made."""
    settings, raw, said = case.configuration, case.stored, case.meta["expected"]
    c, t, size = settings["confidence"], settings["mask_threshold"], tuple(settings["native"])
    s, p = instance_scores(raw["pred_logits"], raw["presence_logits"]), raw["presence_logits"].sigmoid()[:, 0]
    masks, semantic, first, kept = raw["pred_masks"], raw["semantic_seg"], best(s), s > c
    order, shown = kept_first(s, c)
    rows = [
        _list("top_index", first, said["top_index"]),
        _list("top_score", s.amax(1), said["top_score"]),
        _list("presence", p, said["presence"]),
        _list("answered", (s.amax(1) > c).int(), [int(answered) for answered in said["answered"]]),
        *(_list(f"kept {n}", kept[n].nonzero()[:, 0], which) for n, which in enumerate(said["kept"])),
    ]
    top = at_native(masks[torch.arange(len(s)), first][:, None], size)[:, 0] > 0
    at_size = at_native(masks, size), at_native(semantic, size)
    f = fused(*at_size, s, p, kept)[:, 0]
    margin = at_native(margins(masks, semantic, s, p, kept, t), size)[:, 0]
    shown[:, 0] = True
    boxes = raw["pred_boxes"].gather(1, order[..., None].expand(-1, -1, 4))
    heat = box_map(boxes, s.gather(1, order), shown, settings["heat_grid"])[:, 0]
    rows += [
        compare_mask("top_mask", top, raw["top_mask"], FLIPS),
        compare_mask("fused_mask", f > t, raw["fused_mask"], FLIPS),
        _close(case, "fused_native", f, 2e-3),
        _close(case, "fused_low", fused(masks, semantic, s, p, kept)[:, 0], case.tolerance.atol),
        _close(case, "heatmap", heat, case.tolerance.atol),
        *(
            compare_number("count", f"{name} {n}", float(m.sum()), float(e), 0, FLIPS)
            for name, mask in (("top_foreground", top), ("fused_foreground", f > t))
            for n, (m, e) in enumerate(zip(mask, said[name], strict=True))
        ),
    ]
    one_part = [n for n in range(len(s)) if int((s[n] * p[n] * kept[n] > t).sum()) + int(p[n] > t) == 1]
    for n in one_part:  # one part alone can be resized before it is compared
        wrong = int(((margin[n] > 0) != (f[n] > t)).sum())
        rows.append(Row("tensor", f"margins {n}", size, float(wrong), FLIPS, wrong <= FLIPS))
    return rows


def _list(name: str, ours: Tensor, expected: list[Any]) -> Row:
    same = len(ours) == len(expected) and all(
        math.isclose(a, b, abs_tol=1e-5) for a, b in zip(ours.tolist(), expected, strict=True)
    )
    return Row("tensor", name, tuple(ours.shape), None, None, same, "" if same else f"ours is {ours.tolist()}")


def _close(case: Case, name: str, ours: Tensor, atol: float) -> Row:
    expected = case.stored[name].float().reshape(ours.shape)
    difference = float((ours - expected).abs().max())
    allowed = atol + case.tolerance.rtol * float(expected.abs().max())
    return Row("tensor", name, tuple(ours.shape), difference, allowed, difference <= allowed)


def _check_keys(case: Case) -> list[Row]:
    """Compare how Meta's names, and their shapes, map to transformers'."""
    with torch.device("meta"):
        sam = SAM3Detector(SAM3DetectorConfig())
    places = {name: tuple(t.shape) for name, t in sam.state_dict().items()}
    rows, parts = [], dict.fromkeys(case.meta["parameters"]["by_part"], 0)
    for name, record in case.keys.items():
        expected = [n.removeprefix("detector_model.") for n in record["transformers"]]
        shape = tuple(record["shape"])
        parts[record["part"]] += math.prod(shape)
        if not expected:
            rows.append(Row("skipped", name, shape, None, None, True, "only points as prompts are read by it"))
            continue
        ours = transformers_names(name.removeprefix("detector."))
        third = (shape[0] // len(ours), *shape[1:])
        shaped = all(places.get(n) in (third, third[::-1]) for n in ours)
        rows.append(Row("name", name, shape, None, None, ours == expected and shaped, f"ours is {ours}"))
    total = sum(p.numel() for p in sam.parameters())
    rows.append(compare_number("count", "Sam3Model", total, case.meta["parameters"]["transformers Sam3Model"], 0, 0))
    rows += [
        compare_number("count", part, counted, case.meta["parameters"]["by_part"][part], 0, 0)
        for part, counted in parts.items()
    ]
    return rows


ADAPTER = Adapter(
    build=_build, parts={"model": _run_model}, own={"rules": _check_rules, "keys": _check_keys}, flips=FLIPS
)
