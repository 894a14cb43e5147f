"""LAVT: a Swin that reads the sentence behind every stage (Yang et al., CVPR 2022). docs/methods/lavt.md is its text.

A *coupled* method: behind the first stage there is no image encoding free of the sentence. The common interface splits
it there; ``localise`` does everything else, and its heat map is the mask seen coarsely, because the method has no
belief about *where* before its mask.

Symbols: M images, N expressions, L tokens, D BERT's width, S side of the square input, C channels, F features, z the
decoder's two maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.lavt.card import CARD
from rrsis_zoo.methods.lavt.layers import Backbone, Decoder, Fusion, Stage, resize_corners
from rrsis_zoo.methods.lavt.losses import class_cross_entropy, class_dice
from rrsis_zoo.methods.lavt.weights import FOUNDATION_FILLERS, official_name
from rrsis_zoo.models.backbones.bert import BERT, BERTConfig
from rrsis_zoo.models.backbones.swin import PIXEL_MEAN, PIXEL_STD, SwinConfig, init_linear
from rrsis_zoo.models.base import ReferringSegmenter, check_images
from rrsis_zoo.models.compiling import Part
from rrsis_zoo.models.configuration import Count, Share, Side, check_choices
from rrsis_zoo.models.layers.geometry import normalise, resize, runs, stretch_mask_centred, stretch_smoothly
from rrsis_zoo.models.layers.host import in_groups
from rrsis_zoo.models.layers.precision import cast
from rrsis_zoo.models.layers.rows import rows
from rrsis_zoo.models.seam import COUPLED, Seam
from rrsis_zoo.models.tokenizers import WordPieceTokenizer
from rrsis_zoo.models.types import ImageState, Prediction, Prompts, Tokens, Views, unread_positions

TEXT_LAYERS = 10
"""Layers of BERT that the published program updates, from the first (Q2)."""


@dataclass(frozen=True)
class LAVTConfig:
    """Configuration of LAVT.

    Attributes:
        image_size: S, side of the square input in pixels.
        swin, bert: sizes of trunk and text encoder.
        max_length: tokens of a sentence that are read (Q1).
        fusion_heads: heads of the fusion behind each stage.
        fusion_drop: dropout in the fusion.
        train_text: ``published``: the first ten layers of BERT (Q2); ``all``: all of it.
        prior: initial log-odds of the object everywhere; 0 as published. A referent covers a few percent of an image,
            and a short training from 0 learns that first.
        dice_share: weight of the Dice loss; the rest is the cross entropy's. 0 as published; the authors also report a
            variant with Dice.
        dice_sum: ``published``: summed over samples and classes, so that its weight grows with the batch of each GPU,
            as in RMSIN; ``per_sample``: the same at a batch of 2 samples, whatever the batch.
    """

    image_size: Side = 480
    swin: SwinConfig = field(default_factory=SwinConfig)
    bert: BERTConfig = field(default_factory=BERTConfig)
    max_length: Count = 20
    fusion_heads: tuple[Count, ...] = (1, 1, 1, 1)
    fusion_drop: Share = 0.0
    train_text: Literal["published", "all"] = "published"
    prior: Annotated[float, Field(ge=-20, le=20)] = 0.0
    dice_share: Share = 0.0
    dice_sum: Literal["published", "per_sample"] = "published"

    def __post_init__(self) -> None:
        check_choices(self, "lavt")
        if len(self.fusion_heads) != 4 or any(
            channels % heads for channels, heads in zip(self.swin.channels, self.fusion_heads, strict=True)
        ):
            raise ConfigError(
                f"fusion_heads must be four numbers that divide the stages' channels {self.swin.channels}, got "
                f"{self.fusion_heads}"
            )
        if self.max_length > self.bert.positions:
            raise ConfigError(f"max_length {self.max_length} exceeds the {self.bert.positions} positions of BERT")
        if self.image_size < 16 * self.swin.patch_size:
            raise ConfigError(f"image_size must be at least {16 * self.swin.patch_size}, got {self.image_size}")

    @property
    def grids(self) -> tuple[int, ...]:
        """Side of every stage's map: an incomplete patch, or pair of cells, counts as one."""
        sides = [-(-self.image_size // self.swin.patch_size)]
        for _ in range(3):
            sides.append(-(-sides[-1] // 2))
        return tuple(sides)


TINY = LAVTConfig(
    image_size=128,
    swin=SwinConfig(width=16, depths=(1, 2, 2, 1), heads=(1, 2, 4, 8), window=4, mlp_ratio=2.0, drop_path=0.0),
    bert=BERTConfig(width=64, depth=1, heads=4, mlp_width=128, vocabulary=512, positions=36, dropout=0.0),
    max_length=36,
    train_text="all",
    prior=-3.0,
    dice_share=0.1,
    dice_sum="per_sample",
)


class LAVT(ReferringSegmenter):
    """Language-aware vision transformer.

    Raises:
        ConfigError: sizes that do not fit each other.
    """

    card = CARD
    foundation_fillers = FOUNDATION_FILLERS
    official_name = staticmethod(official_name)
    tokenizer_kind = WordPieceTokenizer
    segment_only: ClassVar[frozenset[str]] = frozenset({"logits"})
    seam: ClassVar[Seam] = COUPLED
    presets: ClassVar[dict[str, Any]] = {
        "base": LAVTConfig(),
        "tiny": TINY,
        "tiny256": replace(TINY, image_size=256, swin=replace(TINY.swin, window=8)),
    }

    def __init__(self, config: LAVTConfig) -> None:
        super().__init__()
        self.config = config
        self.text_encoder = BERT(config.bert)
        self.backbone = self.make_backbone()
        self.backbone.apply(init_linear)
        self.decoder = self.make_decoder()
        if config.prior and self.decoder.head.bias is not None:
            with torch.no_grad():
                self.decoder.head.bias.copy_(torch.tensor([-config.prior / 2, config.prior / 2]))
        for name, parameter in self.text_encoder.named_parameters():
            parameter.requires_grad_(config.train_text == "all" or updated(name))
        self.freeze_inert_parameters()

    def make_backbone(self) -> Backbone:
        """Return the trunk with its fusions."""
        return Backbone(self.config.swin, lambda i: Stage(self.config.swin, i, self.make_fusion(i)))

    def make_fusion(self, stage: int) -> Fusion:
        """Return the fusion behind a stage."""
        c = self.config
        return Fusion(c.swin.channels[stage], c.bert.width, c.fusion_heads[stage], c.fusion_drop)

    def make_decoder(self) -> Decoder:
        """Return the decoder."""
        return Decoder(self.config.swin.channels)

    # -- from images and sentences to masks --------------------------------------------------------------------------

    @property
    def text_limits(self) -> tuple[int, int]:
        """Rows of BERT's token table, and the tokens of a sentence that are read."""
        return self.config.bert.vocabulary, self.config.max_length

    @property
    def sides(self) -> tuple[int, int]:
        """S and S/4."""
        return self.config.image_size, self.config.grids[0]

    def prepare(self, images: Sequence[Tensor]) -> Views:
        """Stretch every image to the square; ``image``: (M, 3, S, S) in [0, 1]."""
        check_images(images)
        side = self.config.image_size
        return {
            "image": in_groups(lambda image: stretch_smoothly(image, side), [image.to(self.device) for image in images])
        }

    def encode(self, views: Views, sizes: Tensor) -> ImageState:
        """Run the first stage's blocks, the only ones that read no words.

        Returns:
            Feature ``stage1``, X of the first stage (M, S/4, S/4, C); RMSIN also ``unread1`` of the same shape.
        """
        X, unread = self.backbone.begin(normalise(views["image"], PIXEL_MEAN, PIXEL_STD))
        features = {"stage1": X} if unread is None else {"stage1": X, "unread1": unread}
        return ImageState(features, sizes, torch.full_like(sizes, self.config.image_size))

    def localise(self, state: ImageState, tokens: Tokens, image_index: Tensor) -> Prompts:
        """Read the sentences, run the rest of the trunk and the decoder.

        Returns:
            BERT's vector of ``[CLS]`` as the only sparse token (N, 1, D), which nothing reads; the heat map
            (N, 1, S/32, S/32), the object's probability averaged over the coarsest cells; and in ``aux`` ``logits``
            (N, 1, S/4, S/4), the log-odds.
        """
        m = ~unread_positions(tokens.length, tokens.ids.shape[1])
        T = self.text_encoder.words(tokens.ids, None if tokens.complete(self.steady) else m)
        X, unread = state.features["stage1"], state.features.get("unread1")
        z = self.decoder(
            self.backbone(rows(X, image_index), None if unread is None else rows(unread, image_index), T, m)
        )
        logits = z[:, 1:] - z[:, :1]  # the softmax of two classes is the sigmoid of their difference
        g = self.config.grids[3]
        heatmap = F.adaptive_avg_pool2d(logits.float().sigmoid(), (g, g)).clamp(0, 1)
        return Prompts(T[:, :1], None, cast(heatmap, logits), aux={"logits": logits})

    def segment(self, state: ImageState, prompts: Prompts, image_index: Tensor) -> Tensor:
        """Return the decoder's log-odds (N, 1, S/4, S/4)."""
        return prompts.aux["logits"]

    def restore(self, prediction: Prediction) -> list[Tensor]:
        """Resize (N, 1, h, w) to S × S, corners kept, and then to N native maps (H_i, W_i), plainly."""
        side, native = self.config.image_size, [tuple(size) for size in prediction.state.sizes.tolist()]
        return [
            restored
            for size, maps in runs(prediction.mask_logits, prediction.images(), native)
            for restored in resize(resize_corners(maps.float(), (side, side)), size)[:, 0]
        ]

    # -- speed -------------------------------------------------------------------------------------------------------

    def compiled_parts(self) -> dict[str, Part]:
        """Return the text encoder, the trunk's stages and fusions, and the decoder."""
        stages = {f"stage{i}": Part(stage) for i, stage in enumerate(self.backbone.stages)}
        fusions = {
            f"fusion{i}": Part(stage.get_submodule("fusion"), {"1": (1,), "2": (1,)})
            for i, stage in enumerate(self.backbone.stages)
        }
        text = Part(self.text_encoder.encoder, {"0": (1,), "attention_mask": (2, 3)})
        return {"text": text, **stages, **fusions, "decoder": Part(self.decoder)}

    # -- training ----------------------------------------------------------------------------------------------------

    def target(self, masks: Sequence[Tensor]) -> Tensor:
        """Nearest resize of N masks to uint8 (N, 1, S, S), by pixel centres."""
        return in_groups(lambda mask: stretch_mask_centred(mask, self.config.image_size), masks)[:, None]

    def loss_terms(self, prediction: Prediction, target: Tensor) -> dict[str, Tensor]:
        """Return the cross entropy and, if it has a weight, Dice of both classes at S × S."""
        d, share = self.log_odds(prediction, target), self.config.dice_share
        terms = {"loss_ce": (1 - share) * class_cross_entropy(d, target)}
        if share:
            dice = class_dice(d, target)
            total = dice.sum() if self.config.dice_sum == "published" else 2 * dice.sum(1).mean()
            terms["loss_dice"] = share * total
        return terms

    def log_odds(self, prediction: Prediction, target: Tensor) -> Tensor:
        """Return the log-odds at the target's size, float32 (N, 1, S, S)."""
        return resize_corners(prediction.mask_logits.float(), (target.shape[-2], target.shape[-1]))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the trunk without and with weight decay, the decoder, and BERT as far as it is updated (Q13)."""
        groups: dict[str, list[nn.Parameter]] = {"backbone_no_decay": [], "backbone": [], "decoder": [], "text": []}
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:
                continue
            part = name.partition(".")[0]
            if part == "backbone":
                official = type(self).official_name(name)  # type: ignore[misc] - it has one
                spared = any(word in official for word in ("norm", "relative_position_bias_table"))
                groups["backbone_no_decay" if spared else "backbone"].append(parameter)
            else:
                groups[{"decoder": "decoder", "text_encoder": "text"}[part]].append(parameter)
        return groups

    def inert_prefixes(self) -> dict[str, str]:
        """Return the gate behind the last stage."""
        return {"backbone.stages.3.gate.": "nothing reads the sum behind the last stage"}


def updated(name: str) -> bool:
    """Return whether the published program updates a parameter of BERT: its first ten layers (Q2)."""
    parts = name.split(".")
    return parts[:2] == ["encoder", "layer"] and int(parts[2]) < TEXT_LAYERS
