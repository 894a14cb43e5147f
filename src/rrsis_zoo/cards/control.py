"""The control's card."""

from rrsis_zoo.cards.card import ModelCard, Preset, Role
from rrsis_zoo.weights.catalogue import TRANSFORMERS_FILES

CARD = ModelCard(
    name="control",
    title="Control: a small coupled network, the yardstick of the others",
    paper="none: this project",
    code="",
    code_licence="Apache-2.0",
    weights_licence="none needed; timm's backbones have their own",
    torch_class="rrsis_zoo.models.control:Control",
    lightning_class="rrsis_zoo.training.control:ControlModule",
    presets={
        "base": Preset(25_809_586, 25_809_586, {"backbone": "hub:timm/resnet34.a1_in1k"}, kind="published"),
        "tiny": Preset(551_024, 551_024, kind="tiny"),
        "tiny256": Preset(928_304, 928_304, kind="tiny"),
    },
    roles={
        "backbone": Role("the timm backbone", TRANSFORMERS_FILES, "rrsis_zoo.weights.pretrained:load_control_backbone"),
    },
)
