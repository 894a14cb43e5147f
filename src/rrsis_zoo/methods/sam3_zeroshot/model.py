"""SAM 3 with the sentence as its prompt, without any training: the baseline. Its text: docs/methods/sam3_zeroshot.md.

``localise`` reads the sentence and finds instances; ``segment`` draws the kept ones and makes one mask of them by one
of two rules (`rrsis_zoo.methods.sam3_zeroshot.rules`).

Symbols: M images, N expressions, L tokens, S side of the square input, d SAM 3's width, g cells per side of its trunk's
map, Q candidate instances, s_q their scores, p the probability that the image has anything of the kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.sam3_zeroshot.card import CARD
from rrsis_zoo.methods.sam3_zeroshot.phrases import PROMPTS, Prompt
from rrsis_zoo.methods.sam3_zeroshot.rules import (
    EMPTY,
    at_native,
    best,
    box_map,
    instance_scores,
    kept_first,
    margins,
)
from rrsis_zoo.methods.sam3_zeroshot.weights import FOUNDATION_FILLERS
from rrsis_zoo.models.backbones.sam3 import PIXEL_MEAN, PIXEL_STD
from rrsis_zoo.models.backbones.sam3_detector import SAM3Detector, SAM3DetectorConfig
from rrsis_zoo.models.base import check_images
from rrsis_zoo.models.compiling import Part
from rrsis_zoo.models.configuration import Share, check_choices
from rrsis_zoo.models.frozen import TrainingFree
from rrsis_zoo.models.layers.geometry import normalise, runs, stretch_smoothly
from rrsis_zoo.models.layers.host import in_groups, to_device
from rrsis_zoo.models.layers.rows import rows
from rrsis_zoo.models.seam import Seam
from rrsis_zoo.models.tokenizers import CLIPTokenizer
from rrsis_zoo.models.types import ImageState, Prediction, Prompts, TextMode, Tokens, Views


@dataclass(frozen=True)
class SAM3ZeroShotConfig:
    """Configuration; all but the sizes can be changed after loading.

    Attributes:
        sam: sizes of SAM 3.
        prompt: what of a sentence SAM 3 is given: the ``sentence``, its ``noun_phrase`` or its ``head_noun`` (§7).
        rule: ``top``: the mask of the instance with the highest score; ``fused``: everything that is sure enough.
        confidence: c, the score above which an instance is kept.
        mask_threshold: t of rule ``fused``, on probabilities.
        when_absent: answer of rule ``top`` if no instance is kept: ``empty``, or the ``best`` one nevertheless.
        geometry_token: ``published``: a row for "no boxes" is appended to the words, as in Meta's program (§3).
    """

    sam: SAM3DetectorConfig = field(default_factory=SAM3DetectorConfig)
    prompt: Prompt = "sentence"
    rule: Literal["top", "fused"] = "top"
    confidence: Share = 0.5
    mask_threshold: Share = 0.5
    when_absent: Literal["empty", "best"] = "empty"
    geometry_token: Literal["published", "none"] = "published"

    def __post_init__(self) -> None:
        check_choices(self, "sam3_zeroshot")
        if not 0 < self.mask_threshold < 1:
            raise ConfigError(f"mask_threshold must be between 0 and 1, got {self.mask_threshold}")


TINY = SAM3ZeroShotConfig(
    sam=SAM3DetectorConfig(
        image_size=112,
        width=64,
        depth=3,
        heads=4,
        mlp_width=96,
        window=4,
        global_blocks=(1, 2),
        position_size=56,
        detector_width=32,
        detector_mlp_width=48,
        geometry_depth=2,
        encoder_depth=2,
        decoder_depth=2,
        queries=8,
        vocabulary=128,
        text_positions=16,
        text_width=40,
        text_depth=2,
        text_heads=4,
        text_projection=24,
    )
)
"""With random weights: it tests the way and knows nothing."""


class SAM3ZeroShot(TrainingFree):
    """SAM 3 on referring expressions."""

    card = CARD
    foundation_fillers = FOUNDATION_FILLERS
    tokenizer_kind = CLIPTokenizer
    evaluation_settings: ClassVar[frozenset[str]] = frozenset(
        {"prompt", "rule", "confidence", "mask_threshold", "when_absent", "geometry_token"}
    )
    segment_only: ClassVar[frozenset[str]] = frozenset({"encoder", "prompt_mask"})
    seam: ClassVar[Seam] = Seam(
        dense="its prompt is the sentence, not a mask", best="its prompt is the sentence, which no gradient can change"
    )
    presets: ClassVar[dict[str, SAM3ZeroShotConfig]] = {"base": SAM3ZeroShotConfig(), "tiny": TINY}
    max_expressions = 8
    config: SAM3ZeroShotConfig

    def __init__(self, config: SAM3ZeroShotConfig) -> None:
        super().__init__()
        self.config = config
        self.sam = SAM3Detector(config.sam)
        self.freeze()

    # -- from images and sentences to masks --------------------------------------------------------------------------

    @property
    def text_limits(self) -> tuple[int, int]:
        """Rows of the token table and of the position table."""
        return self.config.sam.vocabulary, self.config.sam.text_positions

    @property
    def sides(self) -> tuple[int, int]:
        """S and 4g."""
        return self.config.sam.image_size, 4 * self.config.sam.grid

    def tokenize(self, expressions: Sequence[str], text_mode: TextMode) -> Tokens:
        """Return the token ids of what SAM 3 is given of N expressions, int64 (N, L)."""
        return super().tokenize([PROMPTS[self.config.prompt](e) for e in expressions], text_mode)

    def cut(self, expressions: Sequence[str], whose: str = "") -> str:
        """Return a warning about prompts that are too long."""
        return super().cut([PROMPTS[self.config.prompt](e) for e in expressions], whose)

    def prepare(self, images: Sequence[Tensor]) -> Views:
        """Stretch every image to the square; ``image``: (M, 3, S, S) in [0, 1]."""
        check_images(images)
        side = self.config.sam.image_size
        return {
            "image": in_groups(lambda image: stretch_smoothly(image, side), [image.to(self.device) for image in images])
        }

    def encode(self, views: Views, sizes: Tensor) -> ImageState:
        """Return the pyramid ``fpn0`` (M, d, 4g, 4g), ``fpn1`` (2g), ``fpn2`` (g), and ``geometry`` (M, 1, d)."""
        pyramid = self.sam.pyramid(normalise(views["image"], PIXEL_MEAN, PIXEL_STD))
        features = {f"fpn{i}": level for i, level in enumerate(pyramid)}
        features["geometry"] = self.sam.geometry_token(pyramid[-1])
        return ImageState(features, sizes, torch.full_like(sizes, self.config.sam.image_size))

    def localise(self, state: ImageState, tokens: Tokens, image_index: Tensor) -> Prompts:
        """Find instances of what the prompts name.

        Returns:
            The decoder's states as sparse tokens (N, Q, d), from which the masks are read; the prompt's rows as
            ``words`` (N, L + 1, d); the boxes of the kept instances in native pixels with their ``scores``, and the
            same on a grid as the heat map; ``presence`` p (N,). In ``aux``: ``encoder`` (N, g², d), ``scores`` (N, Q),
            ``boxes`` (N, Q, 4) as shares, ``prompt_mask`` (N, L + 1).
        """
        host, valid = tokens.on_host().ids, tokens.ids != CLIPTokenizer.pad_id
        prompt = self.sam.words(host, host != CLIPTokenizer.pad_id)
        complete = bool((host != CLIPTokenizer.pad_id).all()) and not self.steady
        if self.config.geometry_token == "published":
            prompt = torch.cat([prompt, rows(state.features["geometry"], image_index)], 1)
            valid = torch.cat([valid, torch.ones_like(valid[:, :1])], 1)
        found = self.sam.find(rows(state.features["fpn2"], image_index), prompt, valid, complete)
        s, p = instance_scores(found.logits, found.presence), found.presence.sigmoid()[:, 0]
        order, kept = kept_first(s, self.config.confidence)
        boxes, scores = found.boxes.gather(1, order[..., None].expand(-1, -1, 4)), s.gather(1, order)
        shown = kept.clone()
        shown[:, 0] = True  # without a kept instance the best one
        native = to_device(state.sizes, boxes.device)[image_index].flip(-1).repeat(1, 2)[:, None]  # W, H, W, H
        return Prompts(
            found.queries,
            None,
            box_map(boxes, scores, shown, max(1, self.config.sam.grid // 3)),
            words=prompt,
            aux={"encoder": found.encoded, "scores": s, "boxes": found.boxes, "prompt_mask": valid},
            presence=p,
            boxes=boxes * native,
            scores=scores * kept,
            complete=complete,
        )

    def segment(self, state: ImageState, prompts: Prompts, image_index: Tensor) -> Tensor:
        """Draw the instances that the rule needs and make one mask of them: (N, 1, 4g, 4g)."""
        c, s = self.config, prompts.aux["scores"]
        assert prompts.presence is not None
        if c.rule == "top":
            first = best(s)[:, None]
            masks, _ = self.draw(state, prompts, image_index, first)
            answered = (s.gather(1, first) > c.confidence)[..., None, None]
            return masks if c.when_absent == "best" else torch.where(answered, masks, EMPTY)
        order, kept = kept_first(s, c.confidence)
        masks, semantic = self.draw(state, prompts, image_index, order)
        return margins(masks, semantic, s.gather(1, order), prompts.presence, kept, c.mask_threshold)

    def draw(
        self, state: ImageState, prompts: Prompts, image_index: Tensor, instances: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mask logits of some instances (N, K, 4g, 4g), and of everything of the kind (N, 1, 4g, 4g).

        Args:
            state, prompts, image_index: as in ``segment``.
            instances: int64 (N, K), indices of instances.
        """
        queries = prompts.sparse.gather(1, instances[..., None].expand(-1, -1, prompts.sparse.shape[-1]))
        pyramid = [rows(state.features[f"fpn{i}"], image_index) for i in range(3)]
        assert prompts.words is not None
        valid = prompts.aux["prompt_mask"]
        complete = bool(valid.all()) if prompts.complete is None else prompts.complete
        return self.sam.masks(pyramid, prompts.aux["encoder"], queries, prompts.words, valid, complete)

    def compiled_parts(self) -> dict[str, Part]:
        """Return the image encoder's and the detector's blocks."""
        sam = self.sam
        layers = {"trunk": sam.vision_encoder.backbone, "fusion": sam.detr_encoder, "decoder": sam.detr_decoder}
        words = {
            "prompt_feats": (1,),
            "prompt_cross_attn_mask": (3,),
            "text_features": (1,),
            "text_cross_attn_mask": (3,),
        }
        return {
            f"{name}{i}": Part(layer, words)
            for name, part in layers.items()
            for i, layer in enumerate(part.get_submodule("layers").children())
        }

    def restore(self, prediction: Prediction) -> list[Tensor]:
        """Resize (N, 1, 4g, 4g) straight to N native maps (H_i, W_i), bilinear."""
        native = [tuple(size) for size in prediction.state.sizes.tolist()]
        return [
            restored
            for size, maps in runs(prediction.mask_logits, prediction.images(), native)
            for restored in at_native(maps, size)[:, 0]
        ]
