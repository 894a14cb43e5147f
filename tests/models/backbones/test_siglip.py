import pytest
import torch
from transformers import SiglipConfig, SiglipModel

from rrsis_zoo.models.backbones.siglip import SIGLIP_MINI, SigLIP, SigLIPConfig
from rrsis_zoo.models.types import Tokens

TINY = SigLIPConfig(
    image_size=32, patch_size=8, width=16, vision_depth=2, vision_heads=2, vision_mlp_width=24, text_depth=2,
    text_heads=2, text_mlp_width=24, vocabulary=50, max_length=12, logit_scale=1.5, logit_bias=-2.0,
)  # fmt: skip


def test_vision_features_are_the_towers_last_hidden_state():
    model = SigLIP(TINY).eval()
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = model.vision_features(image)
        whole = model.vision_model(image).last_hidden_state
    assert features.shape == (2, 16, 4, 4)
    torch.testing.assert_close(features.flatten(2).transpose(1, 2), whole)


def test_rows_of_different_length_are_read_alone():
    model = SigLIP(TINY).eval()
    ids = torch.randint(2, 50, (3, 7))
    lengths = torch.tensor([4, 7, 4])
    with torch.no_grad():
        text = model.text_features(Tokens(ids, lengths))
        for i, n in enumerate(lengths.tolist()):
            alone = model.text_model(input_ids=ids[i : i + 1, :n])
            torch.testing.assert_close(text.tokens[i, :n], alone.last_hidden_state[0], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(text.pooled[i], alone.pooler_output[0], rtol=1e-5, atol=1e-5)
            assert not text.tokens[i, n:].any()


def test_gradients_reach_every_row():
    model = SigLIP(TINY)
    text = model.text_features(Tokens(torch.randint(2, 50, (2, 5)), torch.tensor([3, 5])))
    (text.pooled.sum() + text.tokens.pow(2).sum()).backward()
    assert model.text_model.embeddings.token_embedding.weight.grad.abs().sum() > 0


def test_initial_scale_and_bias():
    model = SigLIP(TINY)
    assert model.logit_scale.tolist() == [1.5]
    assert model.logit_bias.tolist() == [-2.0]


def transformers_model(config):
    """The network of transformers with the same sizes."""
    return SiglipModel(
        SiglipConfig(
            text_config={
                "hidden_size": config.width,
                "num_hidden_layers": config.text_depth,
                "num_attention_heads": config.text_heads,
                "intermediate_size": config.text_mlp_width,
                "vocab_size": config.vocabulary,
                "max_position_embeddings": config.max_length,
                "projection_size": config.width,
                "bos_token_id": None,
                "eos_token_id": 1,
                "pad_token_id": 1,
            },
            vision_config={
                "hidden_size": config.width,
                "num_hidden_layers": config.vision_depth,
                "num_attention_heads": config.vision_heads,
                "intermediate_size": config.vision_mlp_width,
                "image_size": config.image_size,
                "patch_size": config.patch_size,
            },
        )
    )


@pytest.mark.parametrize("config", [TINY, SIGLIP_MINI], ids=["tiny", "mini"])
def test_a_new_model_is_that_of_transformers(config):
    """Names, their order, values, and how many random numbers were drawn; only scale and bias are our own."""
    torch.manual_seed(5)
    ours = SigLIP(config)
    after = torch.get_rng_state()
    torch.manual_seed(5)
    theirs = transformers_model(config)
    assert torch.equal(torch.get_rng_state(), after)
    expected = theirs.state_dict()
    assert list(ours.state_dict()) == list(expected)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, expected[name]) or name in ("logit_scale", "logit_bias"), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask", [None, torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 6 + [0]])], ids=["all", "mask"])
def test_outputs_and_gradients_are_those_of_transformers(dtype, mask):
    ours, theirs = SigLIP(TINY).to(dtype), transformers_model(TINY).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    image, ids = torch.randn(2, 3, 32, 32), torch.randint(0, 50, (3, 7))
    results = []
    for model in (ours, theirs):
        vision, text = model.vision_model(image), model.text_model(input_ids=ids, attention_mask=mask)
        outputs = [vision.last_hidden_state, vision.pooler_output, text.last_hidden_state, text.pooler_output]
        sum(out.square().sum() for out in outputs).backward()
        results.append([*outputs, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(results[0]) == len(results[1]) > 50
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
