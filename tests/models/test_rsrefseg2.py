"""What is RSRefSeg 2's own; the contract's promises are tested for all methods in test_contract.py."""

from dataclasses import replace

import contract
import pytest
import torch
import torch.nn.functional as F

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.rsrefseg2.model import RSRefSeg2
from rrsis_zoo.models.base import count_parameters
from rrsis_zoo.models.losses import batch_contrastive
from rrsis_zoo.models.types import Batch, Prediction, Prompts
from rrsis_zoo.weights.wrappers import is_lora

SMALL = {
    "sam2": {"image_size": 64, "width": 8, "windows": [4, 4, 4, 4], "prompt_width": 16, "decoder_mlp_width": 16},
    "siglip": {"image_size": 32, "width": 16, "vision_mlp_width": 16, "text_mlp_width": 16},
    "prompter": {"image_code_cells": 4, "attention_width": 16, "mlp_width": 16},
}
SAM1 = {
    "backbone": "sam1",
    "sam1": {
        "image_size": 64, "patch_size": 16, "width": 16, "depth": 1, "heads": 2, "mlp_width": 16, "window": 2,
        "global_blocks": [], "prompt_width": 16, "decoder_mlp_width": 16, "decoder_heads": 2, "iou_width": 8,
    },
}  # fmt: skip


def small(**changes):
    """A model of the tiny preset with still smaller parts; mappings are merged."""
    merged = {**SMALL}
    for name, value in changes.items():
        merged[name] = {**merged.get(name, {}), **value} if isinstance(value, dict) else value
    return lambda: RSRefSeg2.from_preset("tiny", **merged)


VARIANTS = {
    "lora": {"adapt": "lora", "loss": {"heatmap": 0.0}},
    "sam1": {**SAM1, "adapt": "lora", "loss": {"padding": "published"}},
    "no_dense": {"prompter": {"dense_from": "none", "decomposition_depth": 0}, "loss": {"heatmap": 0.0}},
    "prompt": {"prompter": {"dense_from": "prompt", "dense_projection": True}, "loss": {"contrastive": 0.0}},
    "all_losses": {"loss": {"dense": 1.0, "mil": 0.5, "mil_text": "sentence", "map": "refined"}},
    "queries": {"prompter": {"dense_from": "refined_queries"}, "stability_fallback": True},
}
# what the switches touch; the rest is the same code as in the tiny preset, for which all promises are tested
PROMISES = (contract.shapes, contract.restore, contract.independent, contract.partition, contract.inert, contract.loss)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("variant", VARIANTS)
def test_contract_of_the_variants(variant, promise):
    promise(small(**VARIANTS[variant]))


def test_published_text_depends_on_batch_mates():
    contract.published_depends_on_mates(small())


# as the authors' program counts
SIZES = {
    "l": (1_447_126_199, 97_867_223),
    "b_plus": (1_301_931_271, 96_268_759),
    "s": (1_266_706_247, 95_833_559),
    "t": (1_259_460_935, 95_686_103),
}


@pytest.mark.parametrize("preset", SIZES)
def test_published_sizes(preset):
    with torch.device("meta"):
        model = RSRefSeg2.from_preset(preset)
    counted = count_parameters(model)
    assert (counted.total, counted.trainable) == SIZES[preset]
    groups = {name: sum(p.numel() for p in group) for name, group in model.parameter_groups().items()}
    assert sum(groups.values()) == counted.trained
    if preset == "l":
        lora = {name: p.numel() for name, p in model.named_parameters() if is_lora(name)}
        assert sum(n for name, n in lora.items() if name.startswith("siglip.vision_model")) == 4_192_768
        assert sum(n for name, n in lora.items() if name.startswith("siglip.text_model")) == 4_018_176
        assert sum(n for name, n in lora.items() if name.startswith("sam.image_encoder")) == 2_661_376
        assert sum(p.numel() for p in model.prompter.parameters()) == 82_773_312
        # §8, last paragraph
        inert = {name.split(".lora_")[0].rsplit(".layers", 1)[0] for name in model.inert_parameters()}
        assert inert == {
            "siglip.vision_model.head.attention.out_proj",
            "siglip.vision_model.head.mlp.fc1",
            "siglip.vision_model.head.mlp.fc2",
            "sam.sam_prompt_encoder.no_mask_embed.weight",
            "sam.sam_prompt_encoder.not_a_point_embed.weight",
            *(f"sam.sam_prompt_encoder.point_embeddings.{i}.weight" for i in range(4)),
            "sam.sam_mask_decoder.iou_prediction_head",
            "sam.sam_mask_decoder.pred_obj_score_head",
            "logit_scale1",
            "logit_bias1",
        }


def test_adapters_are_where_the_paper_has_them():
    """§8: every attention and the neck's four convolutions; no MLP, no projection that changes the width."""
    model = small(adapt="lora")()
    sites = {name.split(".lora_")[0] for name, _ in model.named_parameters() if is_lora(name)}
    blocks = len(model.sam.image_encoder.trunk.blocks)
    expected = {f"sam.image_encoder.trunk.blocks.{i}.attn.{part}" for i in range(blocks) for part in ("qkv", "proj")}
    expected |= {f"sam.image_encoder.neck.convs.{i}.conv" for i in range(4)}
    expected |= {f"siglip.vision_model.head.{part}" for part in ("attention.out_proj", "mlp.fc1", "mlp.fc2")}
    expected.add("siglip.text_model.head")
    for tower, depth in (("vision", 2), ("text", 1)):
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            expected |= {f"siglip.{tower}_model.encoder.layers.{i}.self_attn.{part}" for i in range(depth)}
    assert sites == expected


def test_mask_tokens_beside_the_first_get_no_signal():
    """§8: their gradient is zero, so the fallback returns what was never trained (Q1)."""
    model, b = contract.build(small()).train(), contract.batch()
    model.loss(model(b, "published"), b)["loss"].backward()
    decoder = model.sam.sam_mask_decoder
    for i, mlp in enumerate(decoder.output_hypernetworks_mlps):
        total = sum(p.grad.abs().sum() for p in mlp.parameters())
        assert (total > 0) == (i == 0)


def test_the_fallback_is_a_switch_of_evaluation():
    """Off: the first mask. On: in evaluation one of the others where the first is unstable, in training the first."""
    off, on = contract.build(small()), contract.build(small(stability_fallback=True))
    on.load_state_dict(off.state_dict())
    b = contract.batch()
    with torch.no_grad():
        state = on.eval().encode_image(b.images)
        prompts = on.localise(state, on.tokenize(b.expressions, "independent"), b.image_index)
        decoded = on.decode(state, prompts, b.image_index)
        # made unstable: logits between the two thresholds
        first = torch.zeros_like(decoded.masks[:, :1])
        first[3] = decoded.masks[3, :1].abs() + 1  # stable
        changed = decoded._replace(masks=torch.cat([first, decoded.masks[:, 1:]], 1))
        got = on.stable(changed)
        best = 1 + decoded.iou[:, 1:].argmax(1)
        for n in range(len(b)):
            assert got[n, 0].equal(changed.masks[n, 0 if n == 3 else best[n]])
        assert on.segment(state, prompts, b.image_index).equal(on.stable(decoded))
        assert off.eval().segment(state, prompts, b.image_index).equal(decoded.masks[:, :1])
        on.sam.train(False)
        on.training = True
        assert on.segment(state, prompts, b.image_index).equal(decoded.masks[:, :1])
    with pytest.raises(ConfigError, match="stability_fallback needs SAM 2"):
        small(**SAM1, stability_fallback=True)()


def test_sixteen_expressions_are_sixteen_single_calls(monkeypatch):
    """One image, text mode `independent`: both encoders run once, and the answers are those of sixteen calls."""
    model = contract.build(lambda: RSRefSeg2.from_preset("tiny")).eval()
    image = contract.batch().images[1]
    sentences = [f"{size} {thing}" for size in ("the", "a large red", "some") for thing in contract.EXPRESSIONS]
    sentences = [*sentences, "ship"]
    assert len(set(sentences)) == 16
    calls = []
    for part in (model.siglip.vision_model.encoder, model.sam.image_encoder):
        part.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0] if inputs else [0])))
    with torch.no_grad():
        together = model(Batch([image], sentences, torch.zeros(16, dtype=torch.int64)))
        assert len(calls) == 2
        native = model.restore(together)
        for n, sentence in enumerate(sentences):
            alone = model(Batch([image], [sentence], torch.tensor([0])))
            # other sizes of the same matrix products: float32 rounding
            torch.testing.assert_close(together.mask_logits[n], alone.mask_logits[0], rtol=1e-4, atol=1e-4)
            assert (native[n] > 0).equal(model.restore(alone)[0] > 0) or (native[n].abs().min() < 1e-4)


def test_padding_of_an_image_that_is_not_square():
    """Black to the right and below; 255 in the target; cut off before the result is brought to native size."""
    model = contract.build(small()).eval()
    image = torch.full((3, 40, 80), 200, dtype=torch.uint8)
    view = model.prepare([image])["image"]
    assert view[0, :, :32].eq(200 / 255).all()
    assert not view[0, :, 32:].any()
    target = model.target([torch.ones(40, 80, dtype=torch.bool)])
    assert target[0, 0, :32].eq(1).all()
    assert target[0, 0, 32:].eq(255).all()
    state = model.encode_image([image])
    assert state.fitted.tolist() == [[32, 64]]
    logits = torch.full((1, 1, 16, 16), 4.0)
    logits[..., 9:, :] = -4.0
    prompts = model.localise(state, model.tokenize(["ship"], "independent"), torch.tensor([0]))
    (native,) = model.restore(Prediction(logits, prompts, state, torch.tensor([0])))
    assert native.shape == (40, 80)
    assert (native > 0).all()


def test_two_faces_of_padding_in_the_losses():
    """Q6: `published` takes padding for foreground in the contrastive label; `ignored` does not. Square: the same."""
    published, ignored = (small(loss={"padding": p})() for p in ("published", "ignored"))
    target = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    target[..., 32:, :] = 255
    features = torch.zeros(1, 8, 4, 4)
    assert published.compared(features, target)[1][0, 0].tolist() == [[False] * 4] * 2 + [[True] * 4] * 2
    assert not ignored.compared(features, target)[1].any()
    square = contract.batch()
    square.images, square.masks = [square.images[0]] * 3, [square.masks[0]] * 5
    first, second = contract.build(lambda: published), contract.build(lambda: ignored)
    second.load_state_dict(first.state_dict())
    terms = [m.eval().loss(m(square, "published"), square) for m in (first, second)]
    for name, value in terms[0].items():
        torch.testing.assert_close(value, terms[1][name])


def test_contrastive_reads_the_original_features():
    """Q5: SigLIP's own map, as the published program does; `refined` reads I2."""
    model, b = contract.build(small()).eval(), contract.batch()
    prediction = model(b, "published")
    V = prediction.state.features["siglip"][b.image_index]
    inside = model.compared(V, model.target(b.masks))[1].float()
    v = F.normalize((V * inside).mean((2, 3)))
    t = F.normalize(prediction.prompts.aux["q2"])
    logits = model.logit_scale2.exp() * v @ t.T + model.logit_bias2
    own = torch.arange(5)
    expected = 0.25 * (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own))
    torch.testing.assert_close(model.loss(prediction, b)["loss_contrastive"], expected)
    assert "refined" not in prediction.prompts.aux
    refined = contract.build(small(loss={"map": "refined"})).eval()
    refined.load_state_dict(model.state_dict())
    terms = refined.loss(refined(b, "published"), b)
    assert not torch.isclose(terms["loss_contrastive"], expected)


def test_map_and_label_are_compared_at_the_side_that_is_set():
    """The published program resizes both, with aligned corners, for the contrastive and for the per-image loss."""
    given = {"side": 9, "mil": 0.5, "contrastive": 0.5, "heatmap": 0.0}
    model = contract.build(small(loss=given)).eval()
    own = contract.build(small(loss={**given, "side": 0})).eval()
    generator = torch.Generator().manual_seed(0)
    V, q = torch.randn(3, 24, 6, 6, generator=generator), torch.randn(3, 24, generator=generator)
    Y = (torch.rand(3, 1, 30, 30, generator=generator) > 0.7).to(torch.uint8)
    Z, prompts = torch.zeros(3, 1, 8, 8), Prompts(V, None, V, aux={"q1": q, "q2": q})
    terms = model.losses(Z, prompts, V, Y)

    def aligned(x):  # sample i of 9 lies at i (n - 1) / 8 of n
        places = [torch.linspace(0, n - 1, 9) for n in x.shape[-2:]]
        low = [p.floor().long().clamp(max=n - 2) for p, n in zip(places, x.shape[-2:], strict=True)]
        (a, b), (u, v) = low, (p - i for p, i in zip(places, low, strict=True))
        rows = x[..., a, :] * (1 - u)[:, None] + x[..., a + 1, :] * u[:, None]
        return rows[..., b] * (1 - v) + rows[..., b + 1] * v

    features, inside = aligned(V), aligned(Y.float()) > 0.5
    vectors = F.normalize((features * inside).mean((2, 3)))
    logits = model.logit_scale2.exp() * vectors @ F.normalize(q).T
    place = torch.arange(3)
    contrastive = (F.cross_entropy(logits, place) + F.cross_entropy(logits.T, place)) / 2
    similar = model.logit_scale1.exp() * F.cosine_similarity(features, q[..., None, None], dim=1).flatten(1)
    share = similar.softmax(1).where(inside.flatten(1), torch.zeros(())).sum(1)
    torch.testing.assert_close(terms["loss_contrastive"], 0.5 * contrastive, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["loss_mil"], -0.5 * share.log().mean(), rtol=1e-4, atol=1e-5)
    assert not torch.isclose(own.losses(Z, prompts, V, Y)["loss_contrastive"], terms["loss_contrastive"])


def test_named_losses_of_the_paper():
    model, b = contract.build(small(loss={"heatmap": 0.0})), contract.batch()
    terms = model.loss(model(b, "published"), b)
    assert set(terms) == {"loss_ce", "loss_dice", "loss_orthogonal", "loss_contrastive", "loss"}


def test_bf16_is_close():
    model, b = contract.build(lambda: RSRefSeg2.from_preset("tiny")).eval(), contract.batch()
    full = contract.logits(model, b)
    with torch.autocast("cpu", torch.bfloat16):
        half = contract.logits(model, b).float()
    # 8 bits of mantissa through some thirty layers: a few per cent of the spread
    assert (half - full).abs().max() < 0.1 * full.std() + 0.05


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backbone": "sam3"}, "choice for rsrefseg2.backbone .sam3.*sam2"),
        ({"loss": {"gather": "some"}}, "choice for loss.gather .some.*exact, published"),
        ({"loss": {"map": "both"}}, "choice for loss.map"),
        ({"loss": {"side": -1}}, "loss.side must be at least 1"),
    ],
)
def test_unknown_choices_are_named(changes, said):
    with pytest.raises(ConfigError, match=said):
        small(**changes)()


# -- two processes with different numbers of expressions that have a referent ------------------------------------------

ABSENT = {
    "one here": ([False, True, False, False, False], [False] * 5),
    "none there": ([False, True, False, False, False], [True] * 5),
    "nowhere": ([False] * 5, [False] * 5),
    "all": ([True] * 5, [True] * 5),
}


def of_two(model, rank, absent):
    """One process's prediction, batch and loss terms."""
    b = contract.batch(rank)
    masks = [torch.zeros_like(mask) if gone else mask for mask, gone in zip(b.masks or [], absent, strict=True)]
    b = replace(b, masks=masks, absent=absent)
    prediction = model(b, "published")
    return prediction, b, model.loss(prediction, b)


def one_of_two(rank, store, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    model = contract.build(small(loss={"mil": 0.5})).train()
    result = {}
    for name, absent in ABSENT.items():
        model.zero_grad()
        _, _, terms = of_two(model, rank, absent[rank])
        terms["loss"].backward()
        finite = all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())
        result[name] = {**{key: value.detach() for key, value in terms.items()}, "finite": torch.tensor(finite)}
    torch.save(result, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_processes_with_different_numbers_of_referents(tmp_path):
    """Nobody waits for the other, and the contrastive loss compares the expressions of both that have one."""
    torch.multiprocessing.start_processes(
        one_of_two, (str(tmp_path / "store"), str(tmp_path)), nprocs=2, start_method="fork"
    )
    got = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    model = contract.build(small(loss={"mil": 0.5})).train()
    for name, absents in ABSENT.items():
        vectors = []
        for rank, absent in enumerate(absents):
            prediction, b, alone = of_two(model, rank, absent)
            for term in alone.keys() - {"loss", "loss_contrastive"}:
                torch.testing.assert_close(got[rank][name][term], alone[term].detach(), rtol=1e-4, atol=1e-6)
            there = [n for n, gone in enumerate(absent) if not gone]
            some, Y = prediction[there], model.target(b.masks or [])[there]
            features, inside = model.compared(some.state.features["siglip"][some.image_index], Y)
            vectors.append(model.contrastive_vectors(features, inside, some.prompts.aux["q2"]))
            assert got[rank][name]["finite"]
        v, t = (torch.cat(parts) for parts in zip(*vectors, strict=True))
        loss = model.config.loss
        expected = loss.contrastive * batch_contrastive(v, t, model.logit_scale2, model.logit_bias2, loss.gather)
        for rank in range(2):
            value = got[rank][name]["loss_contrastive"]
            torch.testing.assert_close(value, expected.detach().nan_to_num(), rtol=1e-4, atol=1e-6)
