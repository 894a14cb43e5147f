"""The control's card."""

from rrsis_zoo.models.card import FoundationModel, MethodCard, OutputGrid, Preset, TextLimit
from rrsis_zoo.weights.catalogue import TRANSFORMERS_FILES

CARD = MethodCard(
    name="control",
    title="Control: a small coupled network, the yardstick of the others",
    paper="none: this project",
    code="",
    code_licence="Apache-2.0",
    weights_licence="none needed; timm's backbones have their own",
    presets={
        "base": Preset(25_809_586, 25_809_586, {"backbone": "hub:timm/resnet34.a1_in1k"}, kind="published"),
        "tiny": Preset(551_024, 551_024, kind="tiny"),
        "tiny256": Preset(928_304, 928_304, kind="tiny"),
    },
    default_preset="base",
    foundations={
        "backbone": FoundationModel("the timm backbone", TRANSFORMERS_FILES),
    },
    text=TextLimit(64, 1, "this project's choice"),
    grid=OutputGrid(480, 240, False, "half the side of a stretched 480 x 480 input"),
)
