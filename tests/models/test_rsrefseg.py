"""What is RSRefSeg's own; the contract's promises are tested for all methods in test_contract.py."""

import contract
import pytest
import torch

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.rsrefseg.model import RSRefSeg
from rrsis_zoo.models.base import count_parameters
from rrsis_zoo.weights.wrappers import is_lora


def tiny(**changes):
    return lambda: RSRefSeg.from_preset("tiny", **changes)


LORA = {"adapt": "lora", "heatmap_weight": 0.0, "dice_weight": 0.0}  # as published


@pytest.mark.parametrize("promise", contract.PROMISES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("changes", [LORA, {"dense_prompt": False}, {**LORA, "down_spatial_times": 3}])
def test_contract_of_the_variants(changes, promise):
    promise(tiny(**changes))


def test_published_text_depends_on_batch_mates():
    contract.published_depends_on_mates(tiny())


# as the authors' program counts, less the two position matrices of 2 × 128 that are buffers here
@pytest.mark.parametrize(
    ("preset", "total", "trainable"), [("l", 1_206_824_802, 20_585_776), ("b", 984_281_186, 16_649_520)]
)
def test_published_sizes(preset, total, trainable):
    with torch.device("meta"):
        model = RSRefSeg.from_preset(preset)
    counted = count_parameters(model)
    assert counted.total == total - 2 * 256
    assert counted.trainable == trainable - 256
    groups = model.parameter_groups()
    assert sum(p.numel() for g in groups.values() for p in g) == counted.trained
    if preset == "l":
        lora = {name: p.numel() for name, p in model.named_parameters() if is_lora(name)}
        assert sum(n for name, n in lora.items() if name.startswith("sam.")) == 6_352_896
        assert sum(n for name, n in lora.items() if name.startswith("siglip.vision_model")) == 4_018_176
        assert sum(n for name, n in lora.items() if name.startswith("siglip.text_model")) == 4_018_176
        assert sum(p.numel() for p in groups["prompter"]) == 885_248 + 1_246_464
        assert sum(p.numel() for p in model.sam.mask_decoder.parameters()) == 4_058_340
        assert sum(p.numel() for p in model.sam.prompt_encoder.parameters()) == 6_476 - 256


def test_what_helps_the_tiny_preset_is_off_in_the_published_ones():
    for preset in ("l", "b"):
        assert RSRefSeg.presets[preset].heatmap_weight == RSRefSeg.presets[preset].dice_weight == 0
    model, b = tiny()(), contract.batch()
    model.fit_tokenizer(b.expressions)
    terms = model.loss(model(b, "published"), b)
    assert set(terms) == {"loss_ce", "loss_dice", "loss_heatmap", "loss"}
    published = tiny(**LORA)()
    published.fit_tokenizer(b.expressions)
    assert set(published.loss(published(b, "published"), b)) == {"loss_ce", "loss"}


def test_patch_embedding_carries_no_adapter():
    model = tiny(**LORA)()
    assert not [n for n, _ in model.named_parameters() if "patch_embed" in n and is_lora(n)]


def test_prompts_are_49_tokens_at_the_published_size():
    """27 × 27 -> 14 × 14 -> 7 × 7 (docs/methods/rsrefseg.md §4.3), not the 36 that a reading note gives."""
    from rrsis_zoo.methods.rsrefseg.model import ActivationPrompter, Filtered

    prompter = ActivationPrompter(clip_width=6, prompt_width=8, down_spatial_times=2).eval()
    V = torch.randn(1, 6, 27, 27)
    assert prompter(Filtered(V, V, V[:, 0], V, V), torch.zeros(1, 8, 27, 27)).sparse.shape == (1, 49, 8)


def test_local_weight_averages_over_the_words_that_are_read():
    from rrsis_zoo.methods.rsrefseg.model import ActivationPrompter
    from rrsis_zoo.models.backbones.siglip import TextFeatures

    prompter = ActivationPrompter(clip_width=6, prompt_width=8, down_spatial_times=1).eval()
    V, T, g = torch.randn(2, 6, 5, 5), torch.randn(2, 4, 6), torch.randn(2, 6)
    T[0, 3:] = 0
    scale, bias = torch.tensor([0.7]), torch.tensor([-0.2])
    out = prompter.filter(V, TextFeatures(T, g, torch.tensor([3, 4])), scale, bias)
    assert out.V_l.isfinite().all()
    for i, length in enumerate((3, 4)):
        weights = []
        for t in range(length):
            cosine = torch.cosine_similarity(T[i, t][:, None, None].expand_as(V[i]), V[i], dim=0)
            weights.append((scale.exp() * cosine + bias).sigmoid())
        expected = (V[i] + torch.stack(weights).mean(0) * V[i]) / 2
        torch.testing.assert_close(out.V_l[i], expected)


def test_inert_reasons_follow_the_dense_prompt():
    on, off = tiny()().inert_parameters(), tiny(dense_prompt=False)().inert_parameters()
    assert "sam.prompt_encoder.no_mask_embed.weight" in on
    assert "sam.prompt_encoder.no_mask_embed.weight" not in off
    assert any("mask_downscaling" in name for name in off)


def test_bf16_is_close():
    model, b = contract.build(tiny()).eval(), contract.batch()
    full = contract.logits(model, b)
    with torch.autocast("cpu", torch.bfloat16):
        half = contract.logits(model, b).float()
    # 8 bits of mantissa through some twenty layers: a few per cent of the spread
    assert (half - full).abs().max() < 0.1 * full.std() + 0.05


def test_a_tokenizer_that_is_too_large_is_refused():
    model = RSRefSeg.from_preset("tiny", siglip={"vocabulary": 8})
    from rrsis_zoo.models.tokenizers import SigLIPTokenizer

    with pytest.raises(ConfigError, match="token table of rsrefseg has 8 rows"):
        model.tokenizer = SigLIPTokenizer.from_expressions(contract.EXPRESSIONS, 200, 64)
    with pytest.raises(RuntimeError, match="fit_tokenizer"):
        model.tokenize(["ship"], "published")
