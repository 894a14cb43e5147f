"""What is LAVT's and RMSIN's own; the contract's promises are tested for all methods in test_contract.py."""

import re
from dataclasses import replace

import contract
import pytest
import torch
from torch import nn
from transformers import SwinConfig as TransformersSwin
from transformers.models.swin.modeling_swin import SwinLayer

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.lavt.layers import Decoder, Fusion
from rrsis_zoo.methods.lavt.losses import class_cross_entropy, class_dice
from rrsis_zoo.methods.lavt.model import LAVT
from rrsis_zoo.methods.rmsin.layers import PositionWeights
from rrsis_zoo.methods.rmsin.model import RMSIN
from rrsis_zoo.models.backbones.bert import BERT, BERTConfig
from rrsis_zoo.models.backbones.swin import PatchMerging, SwinBlock, SwinConfig
from rrsis_zoo.models.base import count_parameters
from rrsis_zoo.models.tokenizers import WordPieceTokenizer
from rrsis_zoo.models.types import Batch

SMALL = SwinConfig(width=16, depths=(2, 2, 2, 2), heads=(2, 2, 4, 8), window=4, drop_path=0.0)
METHODS = pytest.mark.parametrize("method", [LAVT, RMSIN], ids=lambda kind: kind.name)


def tiny(method, **changes):
    return lambda: method.from_preset("tiny", **changes)


VARIANTS = {
    "plain": (RMSIN, {"intra_scale": False, "cross_scale": False, "rotated": False}),
    "no mixer, odd size": (RMSIN, {"cross_scale": False, "image_size": 117}),
    "published start": (RMSIN, {"prior": 0.0, "dice_sum": "published", "train_text": "published"}),
    "several heads": (LAVT, {"fusion_heads": [1, 2, 4, 8], "image_size": 100, "fusion_drop": 0.1}),
}


@pytest.mark.parametrize(
    "promise", [contract.shapes, contract.restore, contract.independent, contract.partition, contract.inert],
    ids=lambda f: f.__name__,
)  # fmt: skip
@pytest.mark.parametrize("variant", VARIANTS)
def test_contract_of_the_variants(variant, promise):
    method, changes = VARIANTS[variant]
    promise(tiny(method, **changes))


@METHODS
def test_published_groups(method):
    """The partition of the authors' optimiser; what is dead behind the last stage is in none of ours."""
    with torch.device("meta"):
        model = method.from_preset("base")
    groups = {name: (len(g), sum(p.numel() for p in g)) for name, g in model.parameter_groups().items()}
    dead = [model.get_parameter(name) for name in model.inert_parameters()]
    backbone = {"lavt": (253, 97_938_560), "rmsin": (499, 110_216_238)}[method.name]
    assert groups["backbone_no_decay"] == (136, 258_296)
    assert groups["backbone"] == (backbone[0] - len(dead), backbone[1] - sum(p.numel() for p in dead))
    assert groups["decoder"] == {"lavt": (20, 20_651_010), "rmsin": (38, 20_670_981)}[method.name]
    assert groups["text"] == (160, 70_878_720)
    frozen = sum(p.numel() for p in model.text_encoder.parameters() if not p.requires_grad)
    assert frozen == 38_012_928
    assert count_parameters(model).total == {"lavt": 227_739_514, "rmsin": 240_037_163}[method.name]


def test_another_square_is_another_mixer():
    with pytest.raises(ConfigError, match=r"image_size must be a multiple of 32, got 500"):
        RMSIN.from_preset("base", image_size=500)
    assert RMSIN.presets["remotesam"].grids == (224, 112, 56, 28)
    with pytest.raises(ConfigError, match="fusion_heads must be four numbers"):
        LAVT.from_preset("tiny", fusion_heads=[3, 3, 3, 3])


# -- Swin --------------------------------------------------------------------------------------------------------------


PARTS = (  # a part of a name in some version of transformers -> our module, and a third of its rows
    ("before", "norm1", None), ("after", "norm2", None), ("q_proj|query", "attn.qkv", 0), ("k_proj|key", "attn.qkv", 1),
    ("v_proj|value", "attn.qkv", 2), ("o_proj|attention.output", "attn.proj", None),
    ("fc1|intermediate", "mlp.fc1", None), ("fc2|output", "mlp.fc2", None),
)  # fmt: skip


def theirs(block, size, shift):
    """transformers' layer with a block's weights; it agrees where the window is smaller than the map."""
    config = TransformersSwin(window_size=4, num_heads=[2], embed_dim=16, hidden_act="gelu")
    layer = SwinLayer(config, 16, size, 2, drop_path_rate=0.0, shift_size=shift).eval()
    with torch.no_grad():
        for name, place in layer.named_parameters():
            if name.endswith("relative_position_bias_table"):
                place.copy_(block.attn.relative_position_bias_table)
                continue
            module, third = next((own, third) for part, own, third in PARTS if re.search(part, name))
            tensor = getattr(block.get_submodule(module), name.rpartition(".")[2])
            place.copy_(tensor if third is None else tensor.chunk(3)[third])
    return layer


@pytest.mark.parametrize("size", [(8, 8), (10, 10), (5, 7), (6, 13), (9, 8)])
@pytest.mark.parametrize("index", [0, 1])
def test_blocks_are_transformers(size, index):
    torch.manual_seed(0)
    block = SwinBlock(SMALL, 0, index).eval()
    x = torch.randn(3, *size, 16)
    out = theirs(block, size, block.shift)(x.flatten(1, 2), size)
    expected = (out[0] if isinstance(out, tuple) else out).unflatten(1, size)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-4)


def test_a_map_smaller_than_the_window_keeps_the_window():
    """Its pads are keys with the values of the biases; a window of the map's own size would give something else."""
    torch.manual_seed(0)
    block = SwinBlock(SMALL, 0, 0).eval()
    u = torch.randn(1, 2, 3, 16)
    padded = torch.zeros(1, 4, 4, 16)
    padded[:, :2, :3] = u
    torch.testing.assert_close(block.attend(u), block.attend(padded)[:, :2, :3])
    narrow = SwinBlock(replace(SMALL, window=2), 0, 0)
    assert narrow.attn.relative_position_bias_table.shape[0] == 9


def test_merging_pads_odd_sizes():
    merging, x = PatchMerging(4), torch.randn(2, 5, 7, 4)
    padded = torch.zeros(2, 6, 8, 4)
    padded[:, :5, :7] = x
    assert merging(x).shape == (2, 3, 4, 8)
    assert torch.equal(merging(x), merging(padded))


# -- parts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(9, 7), (4, 11), (1, 6)])
@pytest.mark.parametrize("n", [1, 3])
def test_hidden_words_say_nothing(size, n):
    torch.manual_seed(0)
    fusion, X = Fusion(8, 12, heads=2).eval(), torch.randn(n, *size, 8)
    T, m = torch.randn(n, 6, 12), torch.arange(6) < torch.tensor([[2], [6], [4]])[:n]
    R = fusion(X, T, m)
    assert R.shape == X.shape
    other = torch.where(m[..., None], T, 1e3 * torch.randn_like(T))
    torch.testing.assert_close(fusion(X, other, m), R)
    torch.testing.assert_close(fusion(X[:1], T[:1, :2], m[:1, :2])[0], R[0], atol=1e-5, rtol=1e-4)


def test_position_weights_of_a_map_that_is_no_square():
    weights = PositionWeights().eval()
    X = torch.randn(2, 3, 8, 5)
    P = weights(X)
    assert P.shape == (2, 3, 8, 1)
    assert torch.allclose(weights(X[:, :, :, [3, 1, 0, 4, 2]]), P)  # the mean over channels is all it sees


@pytest.mark.parametrize("sizes", [[(17, 9), (9, 5), (5, 3), (3, 2)], [(8, 8), (8, 4), (4, 4), (1, 1)]])
def test_the_decoder_joins_any_sizes(sizes):
    decoder = Decoder([4, 8, 16, 32]).eval()
    features = [torch.randn(3, c, *size) for c, size in zip([4, 8, 16, 32], sizes, strict=True)]
    assert decoder(features).shape == (3, 2, *sizes[0])


def test_losses_are_those_of_two_maps():
    torch.manual_seed(0)
    z, y = torch.randn(3, 2, 5, 4, dtype=torch.float64), torch.randint(0, 2, (3, 1, 5, 4), dtype=torch.uint8)
    y[1] = 0
    d = z[:, 1:] - z[:, :1]
    expected = nn.functional.cross_entropy(z, y[:, 0].long(), weight=torch.tensor([0.9, 1.1], dtype=z.dtype))
    torch.testing.assert_close(class_cross_entropy(d, y), expected)
    p = z.softmax(1)
    for n in range(3):
        for k in (0, 1):
            t = (y[n, 0] == k).double()
            overlap = (2 * (p[n, k] * t).sum() + 1e-6) / (p[n, k].sum() + t.sum() + 1e-6)
            torch.testing.assert_close(class_dice(d, y)[n, k], 1 - overlap)


def test_dice_of_two_samples_is_the_same_either_way():
    model = contract.build(tiny(RMSIN)).train()
    b = contract.batch()
    two = Batch(b.images, b.expressions[:2], b.image_index[:2], b.masks[:2])
    prediction = model(two)
    terms = {}
    for kind in ("published", "per_sample"):
        model.config = replace(model.config, dice_sum=kind)
        terms[kind] = model.loss_terms(prediction, model.target(two.masks))["loss_dice"]
    torch.testing.assert_close(terms["published"], terms["per_sample"])


def test_corners_stay():
    """The mask's corners are the decoder's: the first of the two resizes keeps them."""
    model = contract.build(tiny(LAVT)).eval()
    prediction = model(Batch([torch.zeros(3, 128, 128, dtype=torch.uint8)], ["the ship"], torch.tensor([0])))
    prediction.mask_logits = torch.randn_like(prediction.mask_logits)
    (native,) = model.restore(prediction)
    low = prediction.mask_logits[0, 0]
    assert torch.allclose(native[[0, 0, -1, -1], [0, -1, 0, -1]], low[[0, 0, -1, -1], [0, -1, 0, -1]], atol=1e-5)


# -- text --------------------------------------------------------------------------------------------------------------


def test_padding_does_not_change_a_sentence():
    torch.manual_seed(0)
    bert = BERT(BERTConfig(width=16, depth=2, heads=2, mlp_width=32, vocabulary=40, positions=24)).eval()
    ids = torch.randint(5, 40, (1, 5))
    longer = torch.cat([ids, torch.zeros(1, 9, dtype=torch.int64)], 1)
    read = torch.arange(14)[None] < 5
    torch.testing.assert_close(bert.words(longer, read)[:, :5], bert.words(ids, read[:, :5]), atol=1e-5, rtol=1e-4)


def test_word_pieces():
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "ship", "##s", "a"]
    tokenizer = WordPieceTokenizer("\r\n".join(vocabulary).encode() + b"\r\n", 5)
    assert tokenizer.vocabulary_size == 9
    assert tokenizer.encode("The ships") == [2, 5, 6, 7, 3]
    assert tokenizer.encode("a the ships, a") == [2, 8, 5, 6, 7]  # cut behind the marks: no [SEP]
    assert tokenizer.encode("") == [2, 3]
    assert tokenizer.lengths(["a the ships, a"]) == [8]
    both = [tokenizer(["a", "the ships"], mode) for mode in ("published", "independent")]
    assert both[0].ids.equal(both[1].ids)
    assert both[0].length.tolist() == both[1].length.tolist() == [3, 5]
    for wrong, said in (
        (b"the\nship", r"it has no piece \[PAD\], \[UNK\], \[CLS\], \[SEP\]"),
        ("\n".join(["a", *vocabulary[:4]]).encode(), r"\[PAD\] is in line 2"),
        (b"\xff\xfe[PAD]", "can't decode"),
    ):
        with pytest.raises(ConfigError, match=said):
            WordPieceTokenizer(wrong, 5)


def test_a_learned_vocabulary_spells_what_it_has_no_word_for():
    tokenizer = WordPieceTokenizer.from_expressions(["the ship", "the red ship"], 60, 20)
    again = WordPieceTokenizer.from_state(tokenizer.state())
    assert tokenizer.encode("the red ship") == again.encode("the red ship")
    assert len(tokenizer.encode("the red ship")) == 5
    assert len(tokenizer.encode("dir")) == 5  # letters
    assert WordPieceTokenizer.from_expressions(["the ship"], 6, 20).vocabulary_size == 6


@pytest.mark.slow
@pytest.mark.usefixtures("large")
@METHODS
def test_one_real_step(method, monkeypatch):
    """The published configuration at 480 px, random weights: a loss, gradients, an update; 227 and 240 million."""
    torch.manual_seed(0)
    # most of the time of a test with normal numbers would be theirs
    monkeypatch.setattr(
        torch.nn.init, "trunc_normal_", lambda tensor, *_, **__: torch.nn.init.uniform_(tensor, -0.03, 0.03)
    )
    model = method.from_preset("base").train()
    model.fit_tokenizer(contract.EXPRESSIONS)
    b = contract.batch()
    one = Batch(b.images[:1], b.expressions[:1], b.image_index[:1], b.masks[:1])
    optimiser = torch.optim.AdamW([{"params": group} for group in model.parameter_groups().values()], lr=3e-5)
    before = model.decoder.head.weight.detach().clone()
    loss = model.loss(model(one), one)["loss"]
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for g in model.parameter_groups().values() for p in g)
    optimiser.step()
    assert loss.isfinite()
    assert not torch.equal(model.decoder.head.weight, before)
