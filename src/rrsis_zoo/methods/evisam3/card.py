"""EviSAM3's card."""

from rrsis_zoo.models.card import FoundationModel, MethodCard, Official, OutputGrid, Preset, Score, TextLimit
from rrsis_zoo.weights.catalogue import BEIT3_FILES, BEIT3_PAGE, SAM3_FILES

UNUSED: dict[str, str] = {"mm_extractor.beit3.vision_embed.mask_token": "the authors' program never uses it"}
ALIASES: dict[str, str] = {
    f"spec_prompt_delta.{name}.*": f"a second name of spec_prompt_delta.experts.{i}"
    for i, name in enumerate(("exp_detail", "exp_elong", "exp_clutter"))
}

_SOURCE = (
    "the authors' README, as the paper's results; not reproduced by anybody, since neither weights nor data module are "
    "public"
)
_PROTOCOL = "evisam3: 1008 x 1008, Pr@t with IoU > t, an empty pair scores 0, first expression of a referent"


def _score(dataset: str, split: str, pr50: float, pr90: float, oiou: float, miou: float) -> Score:
    values = {"pr@0.5": pr50, "pr@0.9": pr90, "oiou": oiou, "miou": miou}
    return Score(dataset, split, values, _PROTOCOL, _SOURCE, "evisam3")


CARD = MethodCard(
    name="evisam3",
    title="EviSAM3: evidence gathered along SAM 3's trunk corrects the prompts of its decoder",
    paper="Duan et al., NeurIPS 2026",
    code="",
    code_licence="MIT according to the authors' README",
    weights_licence="SAM 3: SAM License (gated; not an open-source licence; also covers fine-tuned weights); "
    "BEiT-3: MIT; the authors publish no trained weights",
    presets={
        "large": Preset(
            1_248_467_505, 793_698_476, {"sam": "hub:facebook/sam3", "beit3": "local:weights/beit3"}, kind="published"
        ),
        "tiny": Preset(929_345, 891_196, kind="tiny"),
        "tiny256": Preset(953_921, 915_772, kind="tiny"),
        "mini": Preset(2_458_377, 1_540_260, {"sam": "mini:sam3", "beit3": "mini:beit3"}, kind="miniature"),
    },
    default_preset="large",
    foundations={
        "sam": FoundationModel("SAM 3 (gated, SAM License)", SAM3_FILES, base="sam3"),
        "beit3": FoundationModel(
            f"BEiT-3 large (2.7 GB in float32), published at {BEIT3_PAGE}",
            BEIT3_FILES,
            tokenizer=("beit3.spm",),
            base="beit3",
        ),
    },
    official=Official(
        files=("model_best.pth",),
        tokenizer="beit3",
        wrapper="model",
        skipped={**UNUSED, **ALIASES, "*.attn.freqs_cis": "computed, not learned"},
    ),
    published=(
        _score("RRSIS-D", "val", 83.45, 32.36, 81.38, 71.25),
        _score("RRSIS-D", "test", 82.81, 30.82, 80.27, 70.65),
        _score("RefSegRS", "val", 98.14, 83.53, 92.44, 91.32),
        _score("RefSegRS", "test", 89.93, 45.95, 86.51, 80.56),
    ),
    text=TextLimit(64, 0, "the authors' program cuts and pads every sentence to 64 pieces"),
    grid=OutputGrid(1008, 288, False, "SAM 3's mask decoder: 288 x 288 of a stretched 1008 x 1008 input"),
)
