"""EviSAM3's configuration and presets.

Section numbers (§) and quirks (Q) are those of docs/methods/evisam3.md, symbols those of ``model.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from rrsis_zoo.errors import unknown_name
from rrsis_zoo.models.backbones import sam3
from rrsis_zoo.models.backbones.beit3 import BEIT3_MINI, BEiT3Config
from rrsis_zoo.models.backbones.sam3 import SAM3_MINI, SAM3Config
from rrsis_zoo.models.configuration import Count, Natural, Share

HighPassLayout = Literal["published", "map"]
TextIds = Literal["published", "beit3"]
Padding = Literal["published", "hidden"]
ExpertStart = Literal["published", "open"]
Neck = Literal["detector", "tracker"]
Filter = Literal["bilinear", "antialias"]
Adapt = Literal["adapters", "full"]


@dataclass(frozen=True)
class EviSAM3Config:
    """Configuration of EviSAM3. Of choices with ``published``, the other one is recommended for your own training.

    Attributes:
        sam, union: sizes of SAM 3 and of the union encoder.
        text_length: L, to which every sentence is truncated and padded.
        text_ids: ``published`` reads piece k of the vocabulary from row k of BEiT-3's table, which pretraining filled
            for piece k - 1, without sentence marks, pads of id 0; ``beit3`` reads it as pretrained (Q1).
        padding: ``published`` lets the adapters and the evidence read padded words; ``hidden`` masks them (Q2).
        prior_heads: attention heads of the fused mask token.
        adapter_ratio: d / D, of evidence and MLP adapters.
        adapter_heads, evidence_tokens, evidence_heads: of the evidence adapters.
        momentum: share of the old evidence in the memory.
        pool: cells per side of the pooled map that the evidence is gathered from.
        text_step: share of an adapter's own text in its output text.
        mlp_step: factor on the MLP adapters.
        high_pass: share of the spectrum's area that is removed in the middle.
        high_pass_layout: ``published`` resizes the list of high-pass tokens as a picture of pixels × channels;
            ``map`` resizes the map itself (Q3).
        generator_ratio: D over the width of the prompt generator.
        extra_tokens: sparse tokens of the experts.
        temperature: of the router's softmax.
        groups: of the clutter expert's group norm.
        max_angle: bound of the rotated convolution's angle in degrees.
        router_dropout: of the rotated convolution's router, in training mode.
        expert_start: ``published`` starts gate and factors of the experts so close to 0 (2.5e-6) that they may never
            have an effect; ``open`` starts the factors at 1 and the gate at 1/2 (Q6). The heads always start at 0.
        balance_weight: weight of the experts' balance value in the loss; the published program computes it without
            using it (Q7).
        prior: added to the initial biases of the prompt logits and of the mask's channel weights. 0 as published, which
            starts with "half of the image"; the tiny preset starts close to "nothing".
        ce_weight, dice_weight: of the mask loss.
        heatmap_weight: weight of an auxiliary cross entropy on the prompt logits z; 0 in the paper, used by the tiny
            preset, whose random union encoder knows nothing about words and locations.
        adapt: ``adapters`` freezes SAM 3's trunk and neck (published); ``full`` trains everything, for random weights.
        neck: which of SAM 3's two pyramids is loaded; the published program loads the detector's, the decoder was
            trained on the tracker's (Q11).
        sam_mask_tokens: load the first two rows of SAM 3's mask tokens, which the published program leaves random
            (Q10).
        image_mean, image_std: of the trunk's image. Not published; SAM 3's own.
        union_mean, union_std: of the union encoder's image. Not published; BEiT-3's own.
        image_filter: ``bilinear`` like OpenCV, ``antialias`` like Pillow. Not published.
    """

    sam: SAM3Config = field(default_factory=SAM3Config)
    union: BEiT3Config = field(default_factory=BEiT3Config)
    text_length: Count = 64
    text_ids: TextIds = "published"
    padding: Padding = "published"
    prior_heads: Count = 8
    adapter_ratio: float = 0.25
    adapter_heads: Count = 4
    evidence_tokens: Count = 8
    evidence_heads: Count = 4
    momentum: Share = 0.6
    pool: Count = 8
    text_step: Share = 0.2
    mlp_step: float = 0.5
    high_pass: Share = 0.25
    high_pass_layout: HighPassLayout = "published"
    generator_ratio: Count = 32
    extra_tokens: Natural = 1
    temperature: float = 1.5
    groups: Count = 32
    max_angle: float = 40.0
    router_dropout: Share = 0.2
    expert_start: ExpertStart = "published"
    balance_weight: float = 0.0
    prior: float = 0.0
    ce_weight: float = 0.9
    dice_weight: float = 0.1
    heatmap_weight: float = 0.0
    adapt: Adapt = "adapters"
    neck: Neck = "detector"
    sam_mask_tokens: bool = False
    image_mean: tuple[float, float, float] = sam3.PIXEL_MEAN
    image_std: tuple[float, float, float] = sam3.PIXEL_STD
    union_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    union_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_filter: Filter = "bilinear"

    def __post_init__(self) -> None:
        choices = {
            "text_ids": TextIds,
            "padding": Padding,
            "high_pass_layout": HighPassLayout,
            "expert_start": ExpertStart,
            "adapt": Adapt,
            "neck": Neck,
            "image_filter": Filter,
        }
        for name, kind in choices.items():
            if getattr(self, name) not in get_args(kind):
                raise unknown_name(name, str(getattr(self, name)), get_args(kind))


# Every expression runs the whole trunk, so there are few cells: 8 × 8, and masks of stride 4.
TINY = EviSAM3Config(
    sam=SAM3Config(
        image_size=128,
        patch_size=16,
        width=64,
        depth=4,
        heads=4,
        mlp_width=128,
        window=4,
        global_blocks=(1, 3),
        position_size=128,
        prompt_width=48,
        decoder_mlp_width=96,
        decoder_heads=2,
        iou_width=48,
        drop_path=0.0,
    ),
    union=BEiT3Config(
        image_size=128,
        patch_size=16,
        width=64,
        depth=2,
        heads=4,
        mlp_width=128,
        vocabulary=512,
        text_positions=66,
    ),
    text_length=36,
    prior_heads=4,
    adapter_ratio=0.5,
    pool=4,
    generator_ratio=8,
    groups=8,
    router_dropout=0.0,
    prior=-2.0,
    heatmap_weight=2.0,
    adapt="full",
)

MINI = replace(
    TINY,
    sam=SAM3_MINI,
    union=BEIT3_MINI,
    text_ids="beit3",
    padding="hidden",
    high_pass_layout="map",
    expert_start="open",
    prior=0.0,
    heatmap_weight=0.0,
    adapt="adapters",
    neck="tracker",
    sam_mask_tokens=True,
)
"""The paper's recipe in small: miniatures pretrained on synthetic scenes, with SAM 3's trunk and neck frozen.

It uses the alternative if the program's choice is a defect (text ids, pads, high-pass layout, experts' start, neck,
mask tokens).
"""

TINY_256 = replace(
    TINY,
    sam=replace(TINY.sam, image_size=256, position_size=256, window=8),
    union=replace(TINY.union, image_size=256),
    text_length=48,
)
