"""What is RS2-SAM2's own; the contract's promises are tested for all methods in test_contract.py."""

from dataclasses import replace

import contract
import numpy as np
import pytest
import torch
from PIL import Image

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.rs2sam2.model import RS2SAM2, TINY, boundary_loss, dice_loss, gradient_map
from rrsis_zoo.models.backbones import sam2
from rrsis_zoo.models.base import count_parameters

SMALL = replace(
    TINY,
    union=replace(TINY.union, image_size=64, patch_size=16, width=32, depth=1, mlp_width=32),
    sam=replace(TINY.sam, image_size=64, width=16, stages=(1, 1, 1, 1), global_blocks=(2,), prompt_width=32),
)


def small(**changes):
    return lambda: RS2SAM2(replace(SMALL, **changes))


@pytest.mark.parametrize("promise", [contract.partition, contract.inert, contract.loss, contract.chunks])
@pytest.mark.parametrize(
    "changes", [{"adapt": "adapters"}, {"boundary_mask": "soft", "boundary_pairs": "all", "dice_over": "sum"}]
)
def test_contract_of_the_variants(changes, promise):
    promise(small(**changes))


def test_published_text_depends_on_batch_mates():
    contract.published_depends_on_mates(small())


def test_published_sizes():
    """Numbers of the published program; what has no place here are its video parts, `meo_linear` and `mask_token`."""
    with torch.device("meta"):
        model = RS2SAM2.from_preset("l")
    nowhere = 7_505_265 + 262_400 + 1_024
    counted = count_parameters(model)
    assert counted.total == 934_813_404 - nowhere
    assert counted.trainable == 722_110_124 - nowhere
    assert counted.trained == 713_668_534
    inert = sum(model.get_parameter(name).numel() for name in model.inert_parameters())
    assert inert + nowhere == 8_441_590
    named = dict(model.named_parameters())
    assert sum(p.numel() for p in model.union.parameters()) == 672_702_464 - 1_024
    assert sum(p.numel() for n, p in named.items() if ".fusion." in n) == 21_401_616
    assert sum(p.numel() for n, p in named.items() if ".adapter." in n) == 8_929_944
    higher_rate = [p for n, p in named.items() if ".fusion." in n or ".adapter." in n]
    higher_rate += [*model.post_fusion.parameters(), *model.mask_prompt.parameters()]
    assert sum(p.numel() for p in higher_rate) == 35_843_753
    frozen = sum(p.numel() for n, p in named.items() if not p.requires_grad and n not in model.inert_parameters())
    assert frozen == 212_149_296 + 553_984


def test_what_trains_by_name():
    names = {n for n, p in small(adapt="adapters")().named_parameters() if p.requires_grad}
    trunk = {n for n in names if n.startswith("sam.image_encoder.")}
    assert trunk
    assert all(".fusion." in n or ".adapter." in n for n in trunk)
    assert "sam.no_mem_embed" in names
    assert "trunk" not in small(adapt="adapters")().parameter_groups()
    assert "trunk" in small()().parameter_groups()


# -- inputs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(50, 70), (200, 333), (64, 64), (1, 1)])
def test_both_views_are_pillows_resize_of_the_native_image(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    model = RS2SAM2(replace(SMALL, sam=replace(SMALL.sam, image_size=128)))
    views = model.prepare([torch.from_numpy(image).permute(2, 0, 1)])
    for name, side in (("image", 128), ("small", 64)):
        theirs = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)) / 255
        theirs = (theirs - np.array(sam2.PIXEL_MEAN)) / np.array(sam2.PIXEL_STD)
        ours = views[name][0].permute(1, 2, 0).numpy()
        assert np.abs(ours - theirs).max() <= 1.01 / 255 / 0.224  # Pillow also rounds between its two passes


@pytest.mark.parametrize("size", [(50, 70), (200, 333), (80, 80)])
def test_target_is_pillows_nearest_resize(size):
    mask = np.random.default_rng(0).random(size) > 0.5
    theirs = Image.fromarray(mask.astype(np.uint8)).resize((64, 64), Image.Resampling.NEAREST)
    assert np.array_equal(small()().target([torch.from_numpy(mask)])[0, 0].numpy(), np.asarray(theirs))


def test_an_unknown_piece_is_hidden_like_a_pad():
    """From the union encoder's attention; behind it, it is read: its word is there, a pad's is not."""
    model = contract.build(small()).eval()
    state = model.encode_image(contract.batch().images[:1])
    index = torch.tensor([0])
    tokens = model.tokenize(["the ship 🚢"], "independent")
    assert (tokens.ids == 3).any()
    prompts = model.localise(state, tokens, index)
    assert not prompts.aux["unread"].any()
    with torch.no_grad():  # nothing attends to it, so its own embedding reaches no other row
        heatmap, row = prompts.heatmap, int((tokens.ids[0] == 3).nonzero()[0])
        model.union.text_embed.weight[3] += 5.0
        after = model.localise(state, tokens, index)
    assert after.heatmap.equal(heatmap)
    others = [i for i in range(tokens.ids.shape[1]) if i != row]
    assert after.words[:, others].equal(prompts.words[:, others])


# -- losses ------------------------------------------------------------------------------------------------------------


def sample(n):
    p, w = 3 * torch.randn(n, 1, 12, 9), torch.rand(n) + 0.5
    return p.requires_grad_(), w.requires_grad_(), torch.randint(0, 2, (n, 12, 9))


def test_gradient_map():
    z = torch.randn(2, 5, 4)
    G = torch.zeros_like(z)
    for i in range(5):
        for j in range(4):
            G[:, i, j] += (z[:, i, j] - z[:, i - 1, j]).abs() if i else 0
            G[:, i, j] += (z[:, i, j] - z[:, i, j - 1]).abs() if j else 0
    torch.testing.assert_close(gradient_map(z), G)


@pytest.mark.parametrize("n", [1, 3])
def test_switches_of_the_losses(n):
    """The published couplings of a batch are nothing for one sample, and what they are said to be for more."""
    p, w, y = sample(n)
    o = torch.cat([1 - p, p], 1)
    each = [dice_loss(o[i : i + 1], y[i : i + 1], "sum") for i in range(n)]
    torch.testing.assert_close(dice_loss(o, y, "sum"), sum(each))
    torch.testing.assert_close(dice_loss(o, y, "mean"), sum(each) / n)
    pairs = [[boundary_loss(p[i : i + 1], w[j : j + 1], y[i : i + 1], "hard", "own") for j in range(n)]
             for i in range(n)]  # fmt: skip
    torch.testing.assert_close(boundary_loss(p, w, y, "hard", "own"), sum(pairs[i][i] for i in range(n)) / n)
    torch.testing.assert_close(boundary_loss(p, w, y, "hard", "all"), sum(map(sum, pairs)) / n**2)


def test_only_the_soft_boundary_loss_teaches_the_mask():
    p, w, y = sample(2)
    hard = torch.autograd.grad(boundary_loss(p, w, y, "hard", "own"), [p, w], allow_unused=True)
    assert hard[0] is None or not hard[0].any()
    assert (hard[1] > 0).all(), "its only way down is to lower the weights"
    soft = torch.autograd.grad(boundary_loss(p, w, y, "soft", "own"), [p, w])
    assert soft[0].any()


def test_decision_is_the_published_one():
    """softmax([1 − p, p]) is sigmoid(2p − 1): the mask is where p > 0.5."""
    model, b = contract.build(small()).eval(), contract.batch()
    with torch.no_grad():
        state = model.encode_image(b.images)
        prompts = model.localise(state, model.tokenize(b.expressions, "published"), b.image_index)
        p = model.decode(state.features["image"][b.image_index], prompts, None)
        ours = model.segment(state, prompts, b.image_index)
    torch.testing.assert_close(ours.sigmoid(), torch.cat([1 - p, p], 1).softmax(1)[:, 1:])
    assert (ours > 0).equal(p > 0.5)


# -- precision and memory ----------------------------------------------------------------------------------------------


def test_bf16_is_close():
    """8 bits of mantissa through some twenty layers: within a tenth of the logits' spread, a few hundredths mostly."""
    model, b = contract.build(lambda: RS2SAM2(TINY)).eval(), contract.batch()
    full = contract.logits(model, b)
    with torch.autocast("cpu", torch.bfloat16):
        half = contract.logits(model, b).float()
    difference = (half - full).abs()
    assert difference.max() < 0.1 * full.std() + 0.05
    assert difference.mean() < 0.02 * full.std() + 0.01


@pytest.mark.parametrize("adapt", ["adapters", "full"])
def test_checkpointing_changes_nothing(adapt):
    model, b = contract.build(small(adapt=adapt)).train(), contract.batch()
    runs = []
    for on in (False, True):
        model.use_checkpointing(on)
        model.zero_grad(set_to_none=True)
        loss = model.loss(model(b), b)["loss"]
        loss.backward()
        runs.append((loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    assert runs[0][0].equal(runs[1][0])
    assert runs[0][1].keys() == runs[1][1].keys()
    for name, gradient in runs[0][1].items():
        torch.testing.assert_close(runs[1][1][name], gradient, rtol=1e-5, atol=1e-7, msg=name)


def test_checkpointing_is_refused_where_there_is_none():
    from rrsis_zoo.methods.control.model import Control

    with pytest.raises(ConfigError, match="control does not support gradient checkpointing"):
        Control.from_preset("tiny").use_checkpointing(True)


def test_tokens_in_pieces_give_the_same(monkeypatch):
    """Without gradients the feed-forward parts take some tokens at a time."""
    model, b = contract.build(small()).eval(), contract.batch()
    whole = contract.logits(model, b)
    monkeypatch.setattr(sam2, "ROWS", 7)
    torch.testing.assert_close(contract.logits(model, b), whole, rtol=1e-5, atol=1e-5)


def test_sizes_that_do_not_fit():
    with pytest.raises(ConfigError, match="multiple of 16, got 24"):
        RS2SAM2(replace(SMALL, sam=replace(SMALL.sam, width=24)))
    with pytest.raises(ConfigError, match=r"beit3.width 30 must be a multiple of beit3.heads 4"):
        RS2SAM2(replace(SMALL, union=replace(SMALL.union, width=30)))
