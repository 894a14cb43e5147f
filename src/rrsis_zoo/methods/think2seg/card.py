"""Think2Seg-RS's card."""

from rrsis_zoo.models.card import FoundationModel, MethodCard, OutputGrid, Preset, Score, TextLimit
from rrsis_zoo.weights.catalogue import SAM21_FILES, TRANSFORMERS_FILES

_SAM = "hub:facebook/sam2.1-hiera-small"

CARD = MethodCard(
    name="think2seg",
    title="Think2Seg-RS: a language model writes boxes and points, a frozen SAM 2.1 draws them",
    paper="Zhang et al., ISPRS J. 2026, arXiv 2512.19302",
    code="https://github.com/Ricardo-XZ/Think2Seg-RS",
    code_licence="none stated",
    weights_licence="SAM 2.1: Apache-2.0; the authors' language models, fine-tuned Qwen2.5-VL: none stated that we "
    "know of (Qwen2.5-VL 3B itself: research only; 7B: Apache-2.0)",
    presets={
        "3b": Preset(38_538_577, 0, {"sam": _SAM, "writer": "hub:RicardoString/Think2Seg-RS-3B"}, kind="published"),
        "7b": Preset(38_538_577, 0, {"sam": _SAM, "writer": "hub:RicardoString/Think2Seg-RS-7B"}, kind="other"),
        "mini": Preset(1_372_449, 0, {"sam": "mini:sam2", "writer": "none"}, kind="miniature"),
        "tiny": Preset(343_449, 0, kind="tiny"),
    },
    default_preset="3b",
    foundations={
        "sam": FoundationModel("SAM 2.1", (*TRANSFORMERS_FILES, *SAM21_FILES)),
        "writer": FoundationModel(
            "the language model, a folder of transformers' save_pretrained",
            TRANSFORMERS_FILES,
            ("tokenizer.json",),
            # what else AutoProcessor and the model's class cannot do without; older and newer names
            (("config.json",), ("tokenizer_config.json",), ("preprocessor_config.json", "processor_config.json")),
            whole=True,
        ),
    },
    published=(
        Score(
            "EarthReason",
            "test",
            {"oiou": 75.60, "miou": 73.36},
            "840 x 840, one question drawn for each image; an empty pair scores 1, and wrong pixels on an image "
            "without a target are not in oIoU",
            "the abstract of its paper, as quoted by a public survey that does not say whether 3B or 7B",
        ),
    ),
    text=TextLimit(1024, 0, "this project's choice, in bytes; the language model reads the text itself"),
    grid=OutputGrid(1024, 840, False, "the square of 840 pixels in which the language model writes coordinates"),
    readable=("boxes", "points"),
)
