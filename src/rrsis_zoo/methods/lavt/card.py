"""LAVT's card."""

from rrsis_zoo.models.card import FoundationModel, MethodCard, Official, OutputGrid, Preset, Score, TextLimit, scores
from rrsis_zoo.weights.catalogue import SWIN_FILES, TRANSFORMERS_FILES

START = {
    "swin": "hub:timm/swin_base_patch4_window12_384.ms_in22k",
    "bert": "hub:google-bert/bert-base-uncased",
}
"""What LAVT and RMSIN start from."""
FOUNDATIONS = {
    "swin": FoundationModel("Swin-B (window 12, ImageNet-22k at 384 px)", SWIN_FILES),
    "bert": FoundationModel("BERT base uncased", TRANSFORMERS_FILES, tokenizer=("vocab.txt",)),
}
SKIPPED = {"*.relative_position_index": "computed, not learned"}
JOINED = {"bert_model": "text_encoder."}
"""The variant with two models has BERT in a state dict of its own; both have the same mathematics."""
TEXT = TextLimit(20, 2, "the authors' program cuts and pads every sentence to 20 tokens")
GRID = OutputGrid(480, 120, False, "a quarter of a stretched 480 x 480 input")

_PROTOCOL = "lavt480: 480 x 480, Pr@t with IoU >= t, an empty union scores 0"
_RS2SAM2 = "RS2-SAM2 paper (AAAI 2026, arXiv 2503.07266), Table"
_DICOR = "DiCoR paper, Table II (its gIoU column is the overall IoU)"


def score(dataset: str, split: str, line: str) -> Score:
    """Return a result that a later paper prints."""
    source = {"RRSIS-D": f"{_RS2SAM2} 2", "RefSegRS": f"{_RS2SAM2} 1", "RISBench": _DICOR}[dataset]
    return Score(dataset, split, scores(line), _PROTOCOL, source, "lavt480")


CARD = MethodCard(
    name="lavt",
    title="LAVT: a Swin that reads the sentence behind every stage (coupled)",
    paper="Yang et al., CVPR 2022, arXiv 2112.02244",
    code="https://github.com/yz93/LAVT-RIS",
    code_licence="GPL-3.0",
    weights_licence="Swin: MIT; BERT: Apache-2.0; the authors' weights are for everyday photographs (RefCOCO)",
    presets={
        "base": Preset(227_739_514, 187_629_434, START, kind="published"),
        "tiny": Preset(819_943, 787_175, kind="tiny"),
        "tiny256": Preset(823_639, 790_871, kind="tiny"),
    },
    default_preset="base",
    foundations=FOUNDATIONS,
    official=Official(
        files=("model_best_lavt_one.pth", "model_best_lavt.pth"),
        tokenizer="bert",
        wrapper="model",
        skipped=SKIPPED,
        joined=JOINED,
    ),
    published=(
        score("RRSIS-D", "val", "69.54 63.51 53.16 43.97 24.25 77.59 61.46"),
        score("RRSIS-D", "test", "69.52 63.63 53.29 41.60 24.94 77.19 61.04"),
        score("RefSegRS", "val", "80.97 58.70 31.09 15.55 4.64 78.50 61.53"),
        score("RefSegRS", "test", "51.84 30.27 17.34 9.52 2.09 71.86 47.40"),
        score("RISBench", "test", "69.40 63.66 56.10 44.95 25.21 74.15 61.93"),
    ),
    text=TEXT,
    grid=GRID,
)
