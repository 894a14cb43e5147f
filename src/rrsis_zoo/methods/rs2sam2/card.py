"""RS2-SAM2's card."""

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
from rrsis_zoo.weights.catalogue import BEIT3_FILES, BEIT3_PAGE, SAM2_FILES, TRANSFORMERS_FILES, UNSTATED

SKIPPED: dict[str, str] = dict.fromkeys(
    (
        "visual_model.memory_attention.*",
        "visual_model.memory_encoder.*",
        "visual_model.obj_ptr_proj.*",
        "visual_model.mask_downsample.*",
        "visual_model.maskmem_tpos_enc",
        "visual_model.no_mem_pos_enc",
        "visual_model.no_obj_ptr",
        "meo_linear.*",
        "mm_extractor.beit3.vision_embed.mask_token",
    ),
    "the published program never uses it",
)
"""Entries of the published checkpoints that ours does not have -> reason."""

_PROTOCOL = "1024 x 1024, Pr@t with IoU >= t, an empty union scores 0"


def _release(folder: str, dataset: str) -> Release:
    """Return a release written by transformers' ``save_pretrained``: one of its file names, possibly in shards."""
    files = tuple(f"{folder}/{name}" for name in TRANSFORMERS_FILES)
    return Release(folder, "hub:ReeF2025/RS2-SAM2", files, "l", dataset, UNSTATED)


def _score(dataset: str, split: str, line: str, source: str) -> Score:
    return Score(dataset, split, scores(line), _PROTOCOL, source, "rs2sam2")


CARD = MethodCard(
    name="rs2sam2",
    title="RS2-SAM2: a SAM 2 that reads the sentence in every block",
    paper="Rong et al., AAAI 2026, arXiv 2503.07266",
    code="https://github.com/rongfu-dsb/RS2-SAM2",
    code_licence="none stated",
    weights_licence="SAM 2: Apache-2.0; BEiT-3: MIT; the authors' own weights: none stated",
    presets={
        "l": Preset(
            927_044_715,
            713_668_534,
            {"sam": "hub:facebook/sam2-hiera-large", "beit3": "local:weights/beit3"},
            kind="published",
        ),
        "tiny": Preset(1_789_483, 1_756_646, kind="tiny"),
        "tiny256": Preset(1_829_675, 1_796_838, kind="tiny"),
        "mini": Preset(2_176_107, 935_654, {"sam": "mini:sam2", "beit3": "mini:beit3"}, kind="miniature"),
    },
    default_preset="l",
    foundations={
        "sam": FoundationModel("SAM 2", (*SAM2_FILES, *TRANSFORMERS_FILES), base="sam2"),
        "beit3": FoundationModel(
            f"BEiT-3 large (2.7 GB in float32), published at {BEIT3_PAGE}",
            BEIT3_FILES,
            tokenizer=("beit3.spm",),
            base="beit3",
        ),
    },
    official=Official(
        files=(*TRANSFORMERS_FILES, "mp_rank_00_model_states.pt"),
        tokenizer="beit3",
        prefixes=("module.", "evf_model."),
        wrapper=None,
        skipped=SKIPPED,
    ),
    releases=(
        _release("rrsisd", "RRSIS-D"),
        _release("refseg", "RefSegRS"),
    ),
    published=(
        _score("RefSegRS", "val", "95.36 94.90 92.58 83.76 36.66 88.03 85.21", "the paper, Table 1"),
        _score("RefSegRS", "test", "84.31 79.42 70.89 55.70 21.19 80.87 73.90", "the paper, Table 1"),
        _score("RRSIS-D", "val", "79.25 74.08 63.85 50.57 30.40 80.16 68.81", "the paper, Table 2"),
        _score("RRSIS-D", "test", "77.56 72.34 61.76 47.92 29.73 78.99 66.72", "the paper, Table 2"),
    ),
    text=TextLimit(1022, 2, "1,022 usable text positions of BEiT-3"),
    grid=OutputGrid(1024, 256, False, "SAM 2's mask decoder: 256 x 256 of a stretched 1024 x 1024 input"),
)
