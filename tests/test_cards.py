"""What the cards say is what the classes are."""

from dataclasses import asdict

import pytest
import torch

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.registry import card, list_models, method_named
from rrsis_zoo.models.base import count_parameters
from rrsis_zoo.models.card import scores
from rrsis_zoo.pretrained.official import official_names, skeleton
from rrsis_zoo.weights.catalogue import REPOSITORIES, size_text
from rrsis_zoo.weights.sources import HubSource, parse_source

PRESETS = [(name, preset) for name in list_models() for preset in card(name).presets]


@pytest.mark.parametrize("name", list_models())
def test_presets_are_those_of_the_class(name):
    assert list(card(name).presets) == list(method_named(name).model().presets)
    known = method_named(name)
    assert known.model().name == known.module().model_class.name == name
    assert known.module().model_class is known.model()
    assert card(name).default_preset in card(name).presets
    assert known.model().foundation_fillers.keys() == card(name).foundations.keys()


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_sizes(name, preset):
    with torch.device("meta"):
        counted = count_parameters(method_named(name).model().from_preset(preset))
    said = card(name).presets[preset]
    assert (said.parameters, said.trained) == (counted.total, counted.trained)


@pytest.mark.parametrize("name", list_models())
def test_text_limit_and_grid_are_the_models(name):
    """That ``sides`` and ``text_limits`` are what the model does is checked with every method's contract."""
    facts = card(name)
    with torch.device("meta"):
        model = method_named(name).model().from_preset(facts.default_preset)
    assert model.sides == (facts.grid.side, facts.grid.cells)
    assert model.text_limits[1] == facts.text.tokens


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_every_role_has_a_source(name, preset):
    said = card(name)
    weights = said.presets[preset].weights
    assert not weights or weights.keys() == said.foundations.keys()
    for text in weights.values():
        source = parse_source(text)
        assert not isinstance(source, HubSource) or source.repo in REPOSITORIES


@pytest.mark.parametrize("name", [n for n in list_models() if card(n).official])
def test_official_layouts(name):
    said = card(name)
    assert said.foundations[said.official.tokenizer].tokenizer
    assert set(said.official.prefixes) | {None}
    for release in said.releases:
        assert isinstance(parse_source(release.source), HubSource)
        assert said.presets[release.preset].weights
    model = skeleton(method_named(name).model(), "tiny")
    names = list(official_names(model).values())
    assert len(set(names)) == len(names)


def test_catalogue_of_the_foundations():
    """Scalars of the published files, from the classes that read them."""
    from rrsis_zoo.methods.control.model import timm
    from rrsis_zoo.models.backbones.sam import SAM, SAM_B, SAM_L
    from rrsis_zoo.models.backbones.siglip import SIGLIP2_SO400M_512, SigLIP, SigLIPConfig

    with torch.device("meta"):
        for repo, config in (("facebook/sam-vit-base", SAM_B), ("facebook/sam-vit-large", SAM_L)):
            state = SAM(config).state_dict()
            total = sum(t.numel() for name, t in state.items() if not name.startswith("position_code."))
            assert REPOSITORIES[repo].bytes == 4 * total
        for repo, config in (
            ("google/siglip-so400m-patch14-384", SigLIPConfig()),
            ("google/siglip2-so400m-patch16-512", SIGLIP2_SO400M_512),
        ):
            total = sum(t.numel() for t in SigLIP(config).state_dict().values())
            assert REPOSITORIES[repo].bytes == 4 * total
        total = sum(p.numel() for p in timm.create_model("resnet34").parameters())
        assert REPOSITORIES["timm/resnet34.a1_in1k"].bytes == 4 * total


def test_small_things():
    assert size_text(4.5e9) == "4.5 GB"
    assert size_text(375_000_000) == "375 MB"
    assert size_text(1) == "1 MB"
    assert scores("1 - 3 4 5 6 7") == {"pr@0.5": 1, "pr@0.7": 3, "pr@0.8": 4, "pr@0.9": 5, "oiou": 6, "miou": 7}
    assert asdict(card("rsrefseg"))["presets"]["l"]["parameters"] > 10**9
    with pytest.raises(ConfigError, match="unknown model"):
        card("nothing")
