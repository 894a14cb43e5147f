"""Random weights are asked for, or spoken of."""

import warnings

import pytest

import rrsis_zoo
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.registry import card, list_models


@pytest.mark.parametrize("method", list_models())
def test_nothing_is_random_without_a_word(method):
    for name, preset in card(method).presets.items():
        if preset.weights:
            with pytest.raises(ConfigError, match=r'would be random numbers: give weights=.*weights="none"'):
                rrsis_zoo.load_model(method, preset=name)
    with pytest.warns(UserWarning, match='has random weights, so its masks are noise: weights="none"'):
        rrsis_zoo.load_model(method, preset="tiny")


def test_the_paper_preset_is_refused_before_it_is_built():
    with pytest.raises(ConfigError, match="'sam': 'hub:facebook/sam-vit-large'"):
        rrsis_zoo.load_model("rsrefseg")


@pytest.mark.parametrize("method", list_models())
def test_they_can_be_meant(method):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = rrsis_zoo.load_model(method, preset="tiny", weights="none")
        roles = dict.fromkeys(card(method).foundations, "none")
        again = rrsis_zoo.load_model(method, preset="tiny", weights=roles)
    assert model.config == again.config
    assert not model.training
