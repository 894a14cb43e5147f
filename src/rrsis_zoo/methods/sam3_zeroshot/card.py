"""The card of zero-shot SAM 3."""

from rrsis_zoo.models.card import FoundationModel, MethodCard, OutputGrid, Preset, TextLimit
from rrsis_zoo.weights.catalogue import SAM3_FILES

CARD = MethodCard(
    name="sam3_zeroshot",
    title="SAM 3 zero-shot: the sentence as the prompt of SAM 3, nothing trained",
    paper="SAM 3: Carion et al., 2025; its second rule: SegEarth-OV3, arXiv 2512.08730; on sentences: this project",
    code="",
    code_licence="Apache-2.0",
    weights_licence="SAM 3: SAM License (gated; requests are often refused; not an open-source licence); CLIP's "
    "vocabulary: MIT",
    presets={
        "base": Preset(
            840_376_374,
            0,
            {"sam": "hub:facebook/sam3", "clip": "hub:openai/clip-vit-base-patch32"},
            kind="published",
        ),
        "tiny": Preset(418_294, 0, kind="tiny"),
    },
    default_preset="base",
    foundations={
        "sam": FoundationModel("SAM 3 (gated, SAM License)", SAM3_FILES),
        "clip": FoundationModel("CLIP's vocabulary", ("tokenizer.json",)),
    },
    text=TextLimit(32, 2, "32 text positions of SAM 3; longer sentences are cut to 30 pieces"),
    grid=OutputGrid(1008, 288, False, "SAM 3's mask head: 288 x 288 of a stretched 1008 x 1008 input"),
    readable=("boxes",),
)
