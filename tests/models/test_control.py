"""What is particular to the control; the promises of every method are in test_contract.py."""

from dataclasses import replace

import pytest
import timm
import torch

from rrsis_zoo.errors import ConfigError, MissingWeightsError, WeightsMismatchError
from rrsis_zoo.methods.control.model import TINY, Control, FiLMBlock, SentenceEncoder, soft_dice
from rrsis_zoo.models.base import count_parameters
from rrsis_zoo.models.types import Batch, Tokens
from rrsis_zoo.pretrained.foundations import fill_foundations

SAYS = ["the red square", "the blue square"]
NARROW = {"channels": (24, 48, 96, 128), "stem_width": 8}


def two_squares(seed):
    """A red and a blue square at chance places on noise, and their masks."""
    rng = torch.Generator().manual_seed(seed)
    image = torch.randint(60, 140, (3, 64, 64), generator=rng, dtype=torch.uint8)
    masks = []
    order = torch.randperm(2, generator=rng).tolist()  # which of the two is on the left
    for i, colour in enumerate([(220, 40, 40), (40, 60, 220)]):
        top, left = torch.randint(2, 44, (1,), generator=rng).item(), order[i] * 32 + 4
        mask = torch.zeros(64, 64, dtype=torch.bool)
        mask[top : top + 16, left : left + 16] = True
        image[:, mask] = torch.tensor(colour, dtype=torch.uint8)[:, None]
        masks.append(mask)
    return image, masks


def iou(predicted, truth):
    return ((predicted & truth).sum() / (predicted | truth).sum()).item()


def test_the_sentence_chooses_the_mask():
    """Trained on 8 images with both sentences each, it marks the square that is named, and not the other."""
    scenes = [two_squares(seed) for seed in range(8)]
    batch = Batch(
        [image for image, _ in scenes],
        SAYS * 8,
        torch.arange(8).repeat_interleave(2),
        [mask for _, masks in scenes for mask in masks],
    )
    model = Control(replace(TINY, image_size=64, widths=(16, 32, 64)))
    model.fit_tokenizer(SAYS)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        optimiser.zero_grad()
        model.loss(model(batch), batch)["loss"].backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        answered = model.restore(model(batch))
        batch.expressions = SAYS[::-1] * 8
        swapped = model.restore(model(batch))
    right = [iou(a > 0, t) for a, t in zip(answered, batch.masks or [], strict=True)]
    wrong = [iou(a > 0, t) for a, t in zip(swapped, batch.masks or [], strict=True)]
    assert sum(right) / 16 >= 0.8
    assert sum(wrong) / 16 <= 0.1


@pytest.mark.parametrize(("preset", "side", "grid"), [("tiny", 128, 8), ("tiny256", 256, 8), ("base", 480, 15)])
def test_sizes_of_presets(preset, side, grid):
    """Half-resolution masks; the heat map has the cells of the deepest level."""
    model = Control.from_preset(preset).eval()
    model.fit_tokenizer(SAYS)
    with torch.no_grad():
        prediction = model(Batch([torch.zeros(3, 30, 50, dtype=torch.uint8)], SAYS, torch.tensor([0, 0])))
    assert prediction.mask_logits.shape == (2, 1, side // 2, side // 2)
    assert prediction.prompts.heatmap.shape == (2, 1, grid, grid)
    assert prediction.prompts.sparse.shape == (2, 1, model.config.sentence_width)
    assert prediction.prompts.dense is None


@pytest.mark.parametrize("preset", ["tiny", "tiny256"])
def test_tiny_is_tiny(preset):
    assert count_parameters(Control.from_preset(preset)).total < 1_000_000


def test_odd_sizes_need_no_padding():
    model = Control(replace(TINY, image_size=101)).eval()
    model.fit_tokenizer(SAYS)
    with torch.no_grad():
        out = model(Batch([torch.zeros(3, 30, 50, dtype=torch.uint8)], SAYS, torch.tensor([0, 0])))
        assert out.mask_logits.shape[-2:] == (51, 51)
        assert model.restore(out)[1].shape == (30, 50)


def test_pads_are_not_read():
    """Neither what they hold nor how many there are changes a sentence; as many as `length` says are read."""
    encoder = SentenceEncoder(20, 8).eval()
    ids = torch.tensor([[5, 6, 7, 1, 1, 1], [5, 6, 7, 9, 9, 2], [8, 9, 3, 4, 5, 6]])
    length = torch.tensor([3, 3, 6])
    out = encoder(Tokens(ids, length))
    torch.testing.assert_close(out[0], out[1])
    for i, n in enumerate(length.tolist()):
        states, _ = encoder.recurrent(encoder.table(ids[i, :n]))  # no packing, no padding
        torch.testing.assert_close(out[i], encoder.norm(states.mean(0)))
    read = encoder(Tokens(ids[:1], torch.tensor([6])))
    assert not torch.allclose(read[0], out[0], atol=1e-4)


def test_word_order_is_read():
    encoder = SentenceEncoder(20, 8).eval()
    out = encoder(Tokens(torch.tensor([[5, 6, 7], [7, 6, 5]]), torch.tensor([3, 3])))
    assert not torch.allclose(out[0], out[1], atol=1e-4)


def test_film_block_knows_where_it_is():
    """On a constant map the coordinates alone tell cells apart: the same along a row when only `down` is weighted."""
    block = FiLMBlock(4, 3, 8).eval()
    with torch.no_grad():
        block.conv.weight[:, [0, 1, 2, 3, 5]] = 0
        block.film.bias[3:] = 5  # keeps the ReLU open
        out = block(torch.ones(2, 4, 6, 7), torch.randn(2, 8) * 0)
    inner = out[0, 0, 1:-1, 1:-1]
    torch.testing.assert_close(inner, inner[:, :1].expand_as(inner))
    assert inner[:, 0].diff().abs().min() > 1e-4


def test_dice_by_hand():
    logits = torch.tensor([[0.0, 20.0], [-20.0, -20.0]]).reshape(1, 1, 2, 2)
    target = torch.tensor([[0, 1], [1, 0]], dtype=torch.uint8).reshape(1, 1, 2, 2)
    # p = ½, 1, 0, 0; y = 0, 1, 1, 0: 1 - (2 · 1 + 1) / (1.5 + 2 + 1)
    torch.testing.assert_close(soft_dice(logits, target), torch.tensor(1 - 3 / 4.5))
    empty = torch.zeros_like(target)
    assert soft_dice(torch.full_like(logits, -20.0), empty) < 1e-6


def test_heatmap_head_is_inert_without_its_loss():
    model = Control(replace(TINY, heatmap_weight=0.0))
    assert set(model.inert_parameters()) == {"heat.weight", "heat.bias"}
    assert not model.heat.weight.requires_grad
    assert all(p.requires_grad for group in model.parameter_groups().values() for p in group)
    assert model.inert_parameters().keys().isdisjoint(Control(TINY).inert_parameters())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backbone": "resnet9000"}, "no backbone 'resnet9000'"),
        ({"backbone": "vit_tiny_patch16_224", "channels": ()}, "strides"),
        ({"backbone": "resnet18"}, "try resnet10t"),
        ({"backbone": "convnext_atto"}, "levels or does not accept channels"),
        ({"widths": (8, 8, 8, 8, 8, 8)}, "6 levels"),
        ({"sentence_width": 63}, "must be even, got 63"),
    ],
)
def test_unfit_settings(changes, said):
    with pytest.raises(ConfigError, match=said):
        Control(replace(TINY, **changes))


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto"])
def test_backbone_weights_from_a_classifiers_file(name, tmp_path):
    """The released form: a whole classifier, whose deepest stage and head are not used here."""
    narrow = NARROW if name == "resnet10t" else {"dims": (8, 16, 24, 32), "depths": (1, 1, 1, 1)}
    classifier = timm.create_model(name, **narrow)
    for p in classifier.parameters():
        torch.nn.init.normal_(p, std=0.1)
    torch.save(classifier.state_dict(), tmp_path / "model.bin")
    if name == "resnet10t":
        model = Control(TINY)
        expected = timm.create_model(name, features_only=True, out_indices=(0, 1, 2, 3), **narrow).eval()
        kept = {n: t for n, t in classifier.state_dict().items() if n in expected.state_dict()}
    else:
        model = Control(replace(TINY, backbone=name, channels=(), widths=(16, 32, 64)))
        model.backbone = timm.create_model(name, features_only=True, out_indices=(0, 1, 2), **narrow)
        expected = timm.create_model(name, features_only=True, out_indices=(0, 1, 2), **narrow).eval()
        flat = {n.replace(".", "_", 1): t for n, t in classifier.state_dict().items()}
        kept = {n: t for n, t in flat.items() if n in expected.state_dict()}
    expected.load_state_dict(kept)
    fill_foundations(model, {"backbone": f"local:{tmp_path / 'model.bin'}"})
    image = torch.rand(1, 3, 64, 64)
    for ours, theirs in zip(model.backbone.eval()(image), expected(image), strict=True):
        assert ours.equal(theirs)


def test_backbone_weights_that_are_not_there_or_do_not_fit(tmp_path):
    model = Control(TINY)
    with pytest.raises(MissingWeightsError, match="hf download timm/resnet34"):
        fill_foundations(model, {"backbone": "hub:timm/resnet34.of_nobody"})
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "model.bin")
    with pytest.raises(WeightsMismatchError, match="wrongly shaped"):
        fill_foundations(model, {"backbone": f"local:{tmp_path}/model.bin"})
    fill_foundations(model, {"backbone": "none"})
