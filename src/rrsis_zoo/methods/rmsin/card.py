"""RMSIN's card."""

from rrsis_zoo.methods.lavt.card import FOUNDATIONS, GRID, JOINED, SKIPPED, START, TEXT, score
from rrsis_zoo.models.card import MethodCard, Official, Preset, Release
from rrsis_zoo.weights.catalogue import UNSTATED

CARD = MethodCard(
    name="rmsin",
    title="RMSIN: LAVT with a second branch, a mixer of all scales and rotated convolutions (coupled)",
    paper="Liu et al., CVPR 2024, arXiv 2312.12470",
    code="https://github.com/Lsan2401/RMSIN",
    code_licence="none stated; built on LAVT (GPL-3.0)",
    weights_licence="Swin: MIT; BERT: Apache-2.0; the authors publish no trained weights; RemoteSAM's, of the same "
    "architecture: none stated",
    presets={
        "base": Preset(240_037_163, 197_829_893, START, kind="published"),
        "remotesam": Preset(241_590_421, 199_383_151, START, kind="other"),
        "tiny": Preset(1_026_606, 961_032, kind="tiny"),
        "tiny256": Preset(1_041_022, 975_448, kind="tiny"),
    },
    default_preset="base",
    foundations=FOUNDATIONS,
    official=Official(
        files=("model_best_RMSIN.pth", "model_last_RMSIN.pth", "RemoteSAMv1.pth"),
        tokenizer="bert",
        wrapper="model",
        skipped=SKIPPED,
        joined=JOINED,
    ),
    releases=(
        Release(
            "remotesam",
            "hub:1e12Leon/RemoteSAM",
            ("RemoteSAMv1.pth",),
            "remotesam",
            "RemoteSAM-270K",
            UNSTATED,
        ),
    ),
    published=(
        score("RRSIS-D", "val", "74.66 68.22 57.41 45.29 24.43 78.27 65.10"),
        score("RRSIS-D", "test", "74.26 67.25 55.93 42.55 24.53 77.79 64.20"),
        score("RefSegRS", "val", "93.97 89.33 74.25 29.70 7.89 82.41 73.84"),
        score("RefSegRS", "test", "79.20 65.99 42.98 16.51 3.25 75.72 62.58"),
        score("RISBench", "test", "71.01 65.46 57.69 45.50 25.92 74.09 63.07"),
    ),
    text=TEXT,
    grid=GRID,
)
