import torch

from rrsis_zoo.models.backbones.siglip import SigLIP, SigLIPConfig
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
