"""RSRefSeg 2's card."""

from rrsis_zoo.models.card import (
    FoundationModel,
    MethodCard,
    Official,
    OutputGrid,
    Preset,
    Release,
    Score,
    TextLimit,
    scores,
)
from rrsis_zoo.weights.catalogue import SAM21_FILES, SAM_FILES, TRANSFORMERS_FILES, UNSTATED

_SIGLIP2 = "hub:google/siglip2-so400m-patch16-512"


def _sources(repository: str, size: str) -> dict[str, str]:
    return {"sam": f"hub:facebook/sam2.1-hiera-{repository}:sam2.1_hiera_{size}.pt", "siglip": _SIGLIP2}


def _release(name: str, dataset: str) -> Release:
    return Release(name, "hub:KyanChen/RSRefSeg2", (f"{name}.pth",), "l", dataset, UNSTATED)


CARD = MethodCard(
    name="rsrefseg2",
    title="RSRefSeg 2: two query sets of the sentence, a cascade on the image, SAM 2.1's prompts",
    paper="Chen et al., IEEE TGRS 64, 2026, arXiv 2507.06231",
    code="https://github.com/KyanChen/RSRefSeg2",
    code_licence="Apache-2.0",
    weights_licence="SAM 2.1 and SigLIP 2: Apache-2.0; the authors' own: KyanChen/RSRefSeg2 on the hub",
    presets={
        "l": Preset(1_447_126_199, 97_389_776, _sources("large", "large"), kind="published"),
        "b_plus": Preset(1_301_931_271, 95_791_312, _sources("base-plus", "base_plus"), kind="lighter"),
        "s": Preset(1_266_706_247, 95_356_112, _sources("small", "small"), kind="lighter"),
        "t": Preset(1_259_460_935, 95_208_656, _sources("tiny", "tiny"), kind="lighter"),
        "tiny": Preset(1_011_539, 968_188, kind="tiny"),
        "tiny256": Preset(1_933_367, 1_844_240, kind="tiny"),
        "mini": Preset(3_786_823, 1_475_328, {"sam": "mini:sam2", "siglip": "mini:siglip"}, kind="miniature"),
    },
    default_preset="l",
    foundations={
        "sam": FoundationModel("SAM 2.1", (*SAM21_FILES, *SAM_FILES), base="sam2"),
        "siglip": FoundationModel("SigLIP 2", TRANSFORMERS_FILES, tokenizer=("tokenizer.json",), base="siglip2"),
    },
    official=Official(
        files=("rrsisd.pth", "refsegrs.pth", "risbench.pth", "mp_rank_00_model_states.pt"),
        tokenizer="siglip",
        skipped={"*.position_ids": "computed, not learned"},
        settings={"stability_fallback": True},  # the published numbers have it
    ),
    releases=(_release("rrsisd", "RRSIS-D"), _release("refsegrs", "RefSegRS"), _release("risbench", "RISBench")),
    published=(
        Score(
            "RefSegRS",
            "test",
            scores("88.22 82.99 73.97 60.92 34.40 81.24 77.39"),
            "not stated; the authors' program compares at native size and counts IoU > t",
            "DiCoR paper, Table I (its gIoU column is the overall IoU)",
            "rsrefseg",
        ),
    ),
    text=TextLimit(64, 1, "64 text positions of SigLIP 2"),
    grid=OutputGrid(1024, 256, True, "SAM 2's mask decoder: 256 x 256 of a padded 1024 x 1024 input"),
)
