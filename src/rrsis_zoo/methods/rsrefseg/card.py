"""RSRefSeg's card."""

from rrsis_zoo.models.card import FoundationModel, MethodCard, Official, OutputGrid, Preset, Score, TextLimit, scores
from rrsis_zoo.weights.catalogue import SAM_FILES, TRANSFORMERS_FILES

_SIGLIP = "hub:google/siglip-so400m-patch14-384"

CARD = MethodCard(
    name="rsrefseg",
    title="RSRefSeg: CLIP activations become SAM's prompts",
    paper="Chen et al., IGARSS 2025, arXiv 2501.06809",
    code="https://github.com/KyanChen/RSRefSeg",
    code_licence="Apache-2.0",
    weights_licence="SAM and SigLIP: Apache-2.0; the authors publish no trained weights",
    presets={
        "l": Preset(
            1_206_824_290, 20_414_508, {"sam": "hub:facebook/sam-vit-large", "siglip": _SIGLIP}, kind="published"
        ),
        "b": Preset(984_280_674, 16_478_252, {"sam": "hub:facebook/sam-vit-base", "siglip": _SIGLIP}, kind="lighter"),
        "tiny": Preset(431_788, 393_192, kind="tiny"),
        "tiny256": Preset(1_388_778, 1_305_126, kind="tiny"),
        "mini": Preset(1_716_042, 417_796, {"sam": "mini:sam", "siglip": "mini:siglip"}, kind="miniature"),
    },
    default_preset="l",
    foundations={
        "sam": FoundationModel("SAM", SAM_FILES, base="sam"),
        "siglip": FoundationModel("SigLIP", TRANSFORMERS_FILES, tokenizer=("spiece.model",), base="siglip"),
    },
    official=Official(
        files=("mp_rank_00_model_states.pt",),  # in a folder epoch_N.pth, as DeepSpeed leaves it
        tokenizer="siglip",
        skipped={"*.position_ids": "computed, not learned"},  # older transformers stored it
    ),
    published=(
        Score(
            "RRSIS-D",
            "test",
            scores("74.49 68.33 58.73 48.50 30.80 77.24 64.67"),
            "not stated; the authors' program compares at native size and counts IoU > t",
            "DiCoR paper, Table III (its gIoU column is the overall IoU)",
            "rsrefseg",
        ),
    ),
    text=TextLimit(64, 1, "64 text positions of SigLIP; the published limit of 128 tokens exceeds them"),
    grid=OutputGrid(1024, 256, False, "SAM's mask decoder: 256 x 256 of a stretched 1024 x 1024 input"),
)
