"""The facts about Spotter."""

from rrsis_zoo.models.card import MethodCard, OutputGrid, Preset, TextLimit

CARD = MethodCard(
    name="spotter",
    title="Spotter: words weigh channels",
    paper="none",
    code="",
    code_licence="Apache-2.0",
    weights_licence="none needed",
    presets={"tiny": Preset(parameters=29_378, trained=29_378, kind="tiny")},
    default_preset="tiny",
    text=TextLimit(16, 1, "its configuration"),
    grid=OutputGrid(64, 32, False, "its configuration"),
)
