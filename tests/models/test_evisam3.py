"""What is EviSAM3's own; the contract's promises are tested for all methods in test_contract.py."""

import contract
import pytest
import torch

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.evisam3.experts import balance
from rrsis_zoo.methods.evisam3.model import EviSAM3
from rrsis_zoo.methods.evisam3.prompt_generator import HighPass
from rrsis_zoo.models.base import count_parameters
from rrsis_zoo.models.tokenizers import BEiT3Tokenizer, PieceTokenizer
from rrsis_zoo.models.types import Batch


def tiny(**changes):
    return lambda: EviSAM3.from_preset("tiny", **changes)


PUBLISHED = {
    "adapt": "adapters", "heatmap_weight": 0.0, "prior": 0.0, "router_dropout": 0.2, "sam": {"drop_path": 0.1},
}  # fmt: skip
VARIANTS = {
    "published": PUBLISHED,
    "recommended": {"text_ids": "beit3", "padding": "hidden", "high_pass_layout": "map", "expert_start": "open"},
    "rest": {"balance_weight": 0.01, "extra_tokens": 2, "image_filter": "antialias", "sam": {"depth": 5}},
}


@pytest.mark.parametrize(
    "promise", [contract.shapes, contract.independent, contract.partition, contract.inert, contract.loss],
    ids=lambda f: f.__name__,
)  # fmt: skip
@pytest.mark.parametrize("variant", VARIANTS)
def test_contract_of_the_variants(variant, promise):
    promise(tiny(**VARIANTS[variant]))


def test_published_sizes():
    """As the authors' program counts, less BEiT-3's mask token of 1,024 numbers, which nothing reads."""
    with torch.device("meta"):
        model = EviSAM3.from_preset("large")
    counted = count_parameters(model)
    assert counted.total == 1_248_468_529 - 1024
    assert counted.trainable == 794_428_721 - 1024
    inert = {name: model.get_parameter(name).numel() for name in model.inert_parameters()}

    def flagged(*prefixes):
        return sum(p.numel() for name, p in model.named_parameters() if name.startswith(prefixes))

    assert flagged("evidence_adapters.", "mlp_adapters.", "prior.") == 93_487_170
    assert flagged("experts.") == 24_032_524
    assert flagged("sam.trunk.", "sam.neck.") == 446_237_696 + 7_802_112
    assert sum(inert.values()) == counted.trainable - counted.trained


def test_unknown_choices_are_refused():
    with pytest.raises(ConfigError, match="unknown padding 'hiden' \\(did you mean 'hidden'"):
        EviSAM3.from_preset("tiny", padding="hiden")


def test_sentences_are_always_padded_to_one_length():
    model = contract.build(tiny())
    one, both = (
        model.tokenize(["the ship"], "published"),
        model.tokenize(["the ship", "the red vehicle"], "independent"),
    )
    assert one.ids.shape == (1, 36)
    assert both.ids[0].equal(one.ids[0])
    assert one.length.item() < 36
    assert not one.ids[0, one.length[0] :].any()


def test_published_ids_are_one_less_than_beit3s():
    """Quirk 1: BEiT-3 keeps piece k in row k + 1, between marks."""
    raw = PieceTokenizer.from_expressions(contract.EXPRESSIONS, 100, 64)
    proper = BEiT3Tokenizer(raw.model, 64)
    for sentence in contract.EXPRESSIONS:
        begin, *ids, end = proper.encode(sentence)
        assert [i - 1 for i in ids] == raw.encode(sentence)
        assert (begin, end) == (0, 2)
    assert isinstance(contract.build(tiny(text_ids="beit3")).tokenizer, BEiT3Tokenizer)
    assert len(raw.encode("the ship " * 100)) == 64


@pytest.mark.parametrize(("padding", "same"), [("hidden", True), ("published", False)])
def test_pads_are_read_as_published(padding, same):
    """Quirk 2: the result depends on the length that sentences are padded to, and on nothing else of a batch."""
    short = contract.build(tiny(padding=padding)).eval()
    longer = contract.build(tiny(padding=padding, text_length=50)).eval()
    longer.load_state_dict(short.state_dict())
    b = contract.batch()
    fits = short.tokenize(b.expressions, "independent").length < 36  # a sentence that is cut is another one
    assert fits.any()
    a, c = contract.logits(short, b)[fits], contract.logits(longer, b)[fits]
    assert torch.allclose(a, c, atol=1e-5) == same


def test_more_expressions_than_evidence_tokens():
    """Quirk 8: the published module takes 8 tokens of 9 samples for 9 tokens of 8."""
    model = contract.build(tiny(expert_start="open")).eval()
    for head in (*model.experts.dense_heads, *model.experts.token_heads):
        torch.nn.init.normal_(head.weight, std=0.1)
    image = torch.randint(0, 256, (3, 50, 60), dtype=torch.uint8)
    sentences = [contract.EXPRESSIONS[i % 5] for i in range(9)]
    together = contract.logits(model, Batch([image], sentences, torch.zeros(9, dtype=torch.int64)))
    alone = contract.logits(model, Batch([image], sentences[8:], torch.zeros(1, dtype=torch.int64)))
    torch.testing.assert_close(together[8:], alone, rtol=1e-4, atol=1e-4)


def gradients(**changes):
    model, b = contract.build(tiny(**changes)).train(), contract.batch()
    prediction = model(b, "published")
    model.loss(prediction, b)["loss"].backward()
    return model, prediction


def test_experts_begin_inert_as_published():
    """Quirk 6: the correction is exactly 0, and what steers it gets exactly no gradient."""
    model, prediction = gradients()
    aux = prediction.prompts.aux
    assert not aux["correction"].any()
    assert not prediction.prompts.sparse[:, 1:].any()
    assert aux["z"].equal(aux["z0"])
    for name, parameter in model.experts.named_parameters():
        head = name.startswith(("dense_heads.", "token_heads."))
        assert bool(parameter.grad.any()) == head, name
    open_model, _ = gradients(expert_start="open")
    closed, opened = (m.experts.dense_heads[0].weight.grad.norm() for m in (model, open_model))
    assert opened > 1e5 * closed  # gate and factor together: 2.5e-6 against 1/2


def test_readings():
    model, prediction = gradients(expert_start="open")
    readings = model.readings(prediction)
    assert readings["expert_gate"] == 0.5
    assert readings["expert_gamma"] == 1
    assert readings["expert_correction"] == readings["extra_token"] == 0
    assert 0 < readings["rectify_vision"] < 1e-5
    assert not any(value.requires_grad for value in readings.values())


def test_balance():
    even, one = torch.full((4, 3), 1 / 3), torch.tensor([[0.0, 1.0, 0.0]] * 4)
    assert balance(even).item() == pytest.approx(1)
    assert balance(one).item() == 3
    model, prediction = gradients(balance_weight=0.5)
    terms = model.loss(prediction, contract.batch())
    assert terms["loss_balance"].item() == pytest.approx(0.5 * balance(prediction.prompts.aux["expert_weights"]).item())


def test_high_pass_keeps_fine_patterns_only():
    flat = torch.full((1, 3, 16, 16), 0.7)
    checks = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    out = HighPass(0.25)(flat + checks)
    torch.testing.assert_close(out, torch.ones(1, 3, 16, 16), rtol=1e-5, atol=1e-5)


def test_high_pass_layouts():
    """Quirk 3: as published a picture of pixels × channels; the other layout is the map."""
    image = torch.randn(2, 3, 128, 128)
    published, mended = tiny()(), tiny(high_pass_layout="map")()
    assert [tuple(R.shape) for R in published.prompt_generator.pictures(image)] == [(2, 8, 8, 1)] * 4
    maps = mended.prompt_generator.pictures(image)
    assert [tuple(R.shape) for R in maps] == [(2, 8, 8, 8)] * 4
    first = mended.prompt_generator.stages[0].picture(mended.prompt_generator.high_pass(image))  # 32 × 32
    middle = first.unfold(2, 4, 4).unfold(3, 4, 4)[..., 1:3, 1:3].mean((-2, -1))  # bilinear to a quarter, no smoothing
    torch.testing.assert_close(maps[0].permute(0, 3, 1, 2), middle, rtol=1e-4, atol=1e-5)


def test_mini_is_the_papers_recipe_in_small():
    """Trunk and neck frozen, everything else as the published preset, no auxiliary loss."""
    model = EviSAM3.from_preset("mini")
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    still = {name for name in frozen if name not in model.inert_parameters()}
    assert {".".join(name.split(".")[:2]) for name in still} == {"sam.trunk", "sam.neck"}
    assert "trunk" not in model.parameter_groups()
    model, b = contract.build(lambda: EviSAM3.from_preset("mini")), contract.batch()
    assert set(model.loss(model(b, "independent"), b)) == {"loss", "loss_ce", "loss_dice"}


def test_tiny_begins_near_nothing():
    torch.manual_seed(0)
    shares = [EviSAM3.from_preset("tiny", prior=p).prior.mask_product.bias.item() for p in (0.0, -2.0)]
    assert shares[0] > -1 > shares[1]
