"""Whole models in half and double precision."""

import numpy as np
import pytest
import torch

import rrsis_zoo
from kinds import TRAINED
from rrsis_zoo.errors import ConfigError, WeightsMismatchError
from rrsis_zoo.methods.registry import card, list_models
from rrsis_zoo.models.types import Batch

EXPRESSIONS = ["the red ship left of the pier", "a storage tank", "the tennis court at the bottom"] * 3
IMAGE = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
KINDS = [(method, preset) for method in list_models() for preset in ("tiny", "mini") if preset in card(method).presets]
CLOSE = {torch.bfloat16: 0.25, torch.float16: 0.03, torch.float64: 1e-4}


def made(method, preset):
    torch.manual_seed(0)
    model = rrsis_zoo.load_model(method, preset=preset, weights=card(method).presets[preset].weights or "none")
    if not model.tokenizer_ready:
        model.fit_tokenizer(EXPRESSIONS)
    return model


@pytest.mark.parametrize(("method", "preset"), KINDS)
def test_answers_are_close_to_those_of_float32(method, preset):
    expected = rrsis_zoo.segment(made(method, preset), IMAGE, EXPRESSIONS[:3])
    for dtype, close in CLOSE.items():
        model = made(method, preset).to(dtype)
        said = rrsis_zoo.segment(model, IMAGE, EXPRESSIONS[:3])
        assert said.probabilities.dtype == said.heatmaps.dtype == np.float32
        assert np.abs(said.probabilities - expected.probabilities).max() < close
        assert (said.masks != expected.masks).mean() < 0.05
        state = model.encode_image([torch.from_numpy(IMAGE).permute(2, 0, 1)])
        assert {v.dtype for v in state.features.values()} == {dtype}


@pytest.mark.parametrize("method", TRAINED)
@pytest.mark.parametrize("dtype", CLOSE)
def test_training(method, dtype):
    model = made(method, "tiny").to(dtype).train()
    image = torch.from_numpy(IMAGE).permute(2, 0, 1)
    batch = Batch([image], EXPRESSIONS[:2], torch.tensor([0, 0]), [torch.rand(70, 90) > 0.7] * 2)
    model.loss(model(batch), batch)["loss"].backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(g.dtype == dtype and g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("method", list_models())
def test_weights_that_are_not_finite_are_refused(method):
    model = made(method, "tiny")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.view(-1)[0] = float("nan")
    with pytest.raises(WeightsMismatchError, match=rf"the weights of this {method} are not finite: .* more"):
        rrsis_zoo.segment(model, IMAGE, "the ship")


def test_an_overflow_is_named():
    model = made("control", "tiny").half()
    with torch.no_grad():
        model.mask.weight.fill_(6e4)
    with pytest.raises(WeightsMismatchError, match=r"infinities or NaN in float16.*model\.bfloat16\(\)"):
        rrsis_zoo.segment(model, IMAGE, "the ship")


@pytest.mark.parametrize("method", list_models())
@pytest.mark.parametrize("part", ["first", "last"])
def test_several_number_types_are_refused_in_one_line(method, part):
    model = made(method, "tiny")
    whole = model
    while len(parts := [child for child in whole.children() if [*child.parameters()]]) == 1:
        (whole,) = parts
    parts[0 if part == "first" else -1].half()
    with pytest.raises(ConfigError, match=r"are float16, float32: they must all be .*model\.float"):
        rrsis_zoo.segment(model, IMAGE, "the ship")
    rrsis_zoo.segment(model.float(), IMAGE, "the ship")
    with pytest.raises(ConfigError, match="are float8_e4m3fn: they must"):
        rrsis_zoo.segment(model.to(torch.float8_e4m3fn), IMAGE, "the ship")
