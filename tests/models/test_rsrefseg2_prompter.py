"""The cascade; its numbers are compared with the published program's in tests/parity."""

import pytest
import torch
import torch.nn.functional as F

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.rsrefseg2.prompter import CascadedPrompter, PrompterConfig, adaptive_mean
from rrsis_zoo.models.backbones.siglip import TextFeatures

C, D = 16, 8


def config(**changes):
    return PrompterConfig(**{"heads": 2, "attention_width": 16, "mlp_width": 12, "image_code_cells": 5, **changes})


def text(*lengths):
    length = torch.tensor(lengths)
    tokens = torch.randn(len(lengths), max(lengths), C)
    tokens[torch.arange(max(lengths)) >= length[:, None]] = 0
    return TextFeatures(tokens, torch.randn(len(lengths), C), length)


@pytest.mark.parametrize(("length", "bins"), [(2, 3), (3, 3), (4, 3), (11, 3), (1, 3), (5, 2)])
def test_adaptive_mean_is_torchs_of_each_row_alone(length, bins):
    tokens = torch.randn(2, 12, C)
    lengths = torch.tensor([length, 12])
    out = adaptive_mean(tokens, lengths, bins)
    for row, n in enumerate(lengths.tolist()):
        alone = F.adaptive_avg_pool1d(tokens[row : row + 1, :n].transpose(1, 2), bins).transpose(1, 2)[0]
        torch.testing.assert_close(out[row], alone)


OPTIONS = [
    {},
    {"decomposition_depth": 0, "first_order_depth": 0},
    {"query_start": "learned", "image_code": "none", "dense_from": "prompt", "dense_projection": True},
    {"query_start": "zero", "prompt_start": "zero", "dense_from": "queries", "dense_enlarge": "after"},
    {"query_code": False, "prompt_code": False, "image_code": "fourier", "dense_from": "refined_queries"},
    {"dense_from": "none"},
    {"dense_map": "original", "dense_conv": False},
]


@pytest.mark.parametrize("changes", OPTIONS)
def test_words_that_are_not_read_change_nothing(changes):
    """An expression beside a longer one, its own length known, gives what it gives alone."""
    torch.manual_seed(1)
    prompter = CascadedPrompter(config(**changes), C, D).eval()
    V, said = torch.randn(2, C, 5, 5), text(4, 9)
    scale, bias = torch.tensor(1.0), torch.tensor(-0.5)
    together = prompter(V, said)
    alone = prompter(V[:1], TextFeatures(said.tokens[:1, :4], said.pooled[:1], said.length[:1]))
    torch.testing.assert_close(together.sparse[:1], alone.sparse, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.I2[:1], alone.I2, rtol=1e-4, atol=1e-5)
    dense = prompter.dense_prompt(together, 20, scale, bias)
    if changes.get("dense_from") == "none":
        assert dense is None
    else:
        assert dense is not None
        expected = prompter.dense_prompt(alone, 20, scale, bias)
        torch.testing.assert_close(dense[:1], expected, rtol=1e-4, atol=1e-5)
    belief = prompter.belief(together, said.pooled, scale, bias)
    assert belief.shape == (2, 1, 5, 5)
    # a cosine times e¹ less a half
    assert belief.abs().max() <= scale.exp() + 0.5 + 1e-5


def test_the_dense_prompt_is_that_of_the_enlarged_map():
    prompter = CascadedPrompter(config(), C, D).eval()
    with torch.no_grad():
        cascade = prompter(torch.randn(2, C, 5, 5), text(4, 9))
        scale, bias = torch.tensor(1.2), torch.tensor(-0.5)
        big = F.interpolate(cascade.W, size=(20, 20), mode="bilinear", align_corners=True)
        expected = scale.exp() * torch.cosine_similarity(cascade.u[..., None, None], big)[:, None] + bias
        torch.testing.assert_close(prompter.dense_prompt(cascade, 20, scale, bias), expected, rtol=0, atol=1e-5)


def test_both_sets_reach_the_prompts():
    """First order: set 1 changes the image; second order: set 2 does, and the prompt tokens."""
    prompter = CascadedPrompter(config(), C, D)
    cascade = prompter(torch.randn(1, C, 5, 5), text(6))
    for tensor in (cascade.sparse, cascade.I2):
        gradients = torch.autograd.grad(tensor.square().sum(), [prompter.p1, prompter.p2], retain_graph=True)
        assert all(g.abs().sum() > 0 for g in gradients)


def test_the_image_code_is_resized_to_the_grid():
    prompter = CascadedPrompter(config(), C, D)
    table = prompter.image_code.table
    code = prompter.image_code(7, 7)
    expected = F.interpolate(table, size=(7, 7), mode="bicubic", align_corners=True)
    torch.testing.assert_close(code, expected.flatten(2).transpose(1, 2))
    assert prompter.image_code(5, 5).equal(table.flatten(2).transpose(1, 2))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"query_start": "zero", "query_code": False}, "needs prompter.query_code"),
        ({"prompt_start": "zero", "prompt_code": False}, "needs prompter.prompt_code"),
        ({"dense_from": "queries", "decomposition_depth": 0}, "decomposition_depth of 1"),
        ({"second_order_depth": 0}, "second_order_depth"),
        ({"dense_from": "text_pool"}, "choice for prompter.dense_from .text_pool"),
        ({"attention_width": 15}, "multiple of prompter.heads"),
    ],
)
def test_what_cannot_run_is_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        config(**changes)


def test_a_prompt_tokens_vector_must_have_the_maps_width():
    with pytest.raises(ConfigError, match="set dense_projection"):
        CascadedPrompter(config(dense_from="prompt"), C, D)
