"""Every registered method, and the stand-ins that keep the contract honest, keep every promise."""

import contract
import pytest
from standins import StandInConfig, TextInTrunk, TwoQuerySets

from kinds import UNTRAINED
from rrsis_zoo.methods.registry import card, list_models, method_named
from rrsis_zoo.pretrained.foundations import fill_foundations


def registered(name):
    return lambda: method_named(name).model().from_preset("tiny")


def pretrained(name):
    def make():
        model = method_named(name).model().from_preset("mini")
        fill_foundations(model, card(name).presets["mini"].weights)
        return model

    return make


FACTORIES = {
    **{name: registered(name) for name in list_models()},
    **{f"{name}-mini": pretrained(name) for name in list_models() if "mini" in card(name).presets},
    "text-in-trunk": lambda: TextInTrunk(StandInConfig()),
    "two-query-sets": lambda: TwoQuerySets(StandInConfig()),
}


KEPT = [
    (method, promise)
    for method in FACTORIES
    for promise in (
        (*contract.ALWAYS, *contract.UNTRAINED) if method.removesuffix("-mini") in UNTRAINED else contract.PROMISES
    )
]


@pytest.mark.parametrize(("method", "promise"), KEPT, ids=lambda value: getattr(value, "__name__", value))
def test_contract(method, promise):
    promise(FACTORIES[method])


@pytest.mark.parametrize("method", list_models())
def test_names_and_presets(method):
    model = method_named(method).model()
    assert model.name == method
    assert "tiny" in model.presets
