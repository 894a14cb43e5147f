"""Spotter: the mean of the words weighs the channels of a small convolutional network.

Symbols: M images, N expressions, L tokens, C channels, S side of the square input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.models.base import ReferringSegmenter
from rrsis_zoo.models.layers.geometry import resize, restore_each, stretch, stretch_mask
from rrsis_zoo.models.losses import binary_cross_entropy, dice, heatmap_cross_entropy
from rrsis_zoo.models.tokenizers import SigLIPTokenizer
from rrsis_zoo.models.types import ImageState, Prediction, Prompts, Tokens, Views, unread_positions
from spotter.card import CARD


@dataclass(frozen=True)
class SpotterConfig:
    """Configuration: side of the square input, channels, rows of the token table, tokens read of a sentence."""

    image_size: int = 64
    width: int = 32
    vocabulary: int = 256
    max_length: int = 16


class Spotter(ReferringSegmenter):
    """Words weigh channels."""

    card = CARD
    tokenizer_kind = SigLIPTokenizer
    presets: ClassVar[dict[str, SpotterConfig]] = {"tiny": SpotterConfig()}

    def __init__(self, config: SpotterConfig) -> None:
        super().__init__()
        self.config = config
        C = config.width
        self.look = nn.Sequential(
            *(nn.Conv2d(3, C, 5, padding=2), nn.GroupNorm(4, C), nn.ReLU()),
            *(nn.Conv2d(C, C, 3, padding=1, stride=2), nn.GroupNorm(4, C), nn.ReLU()),
        )
        self.words = nn.Embedding(config.vocabulary, C)
        self.point = nn.Conv2d(C, 1, 1)
        self.draw = nn.Sequential(nn.Conv2d(C, C, 3, padding=1), nn.GroupNorm(4, C), nn.ReLU(), nn.Conv2d(C, 1, 1))

    # -- from images and sentences to masks --------------------------------------------------------------------------

    @property
    def text_limits(self) -> tuple[int, int]:
        """Rows of the token table, tokens that are read of a sentence."""
        return self.config.vocabulary, self.config.max_length

    @property
    def sides(self) -> tuple[int, int]:
        """S of the square input, S/2 of the mask."""
        return self.config.image_size, self.config.image_size // 2

    def prepare(self, images: Sequence[Tensor]) -> Views:
        """Stretch to the square; (M, 3, S, S) in [-1, 1]."""
        S = self.config.image_size
        return {"image": 2 * torch.stack([stretch(image.to(self.device), S) for image in images]) - 1}

    def encode(self, views: Views, sizes: Tensor) -> ImageState:
        """See, without any sentence: (M, C, S/2, S/2)."""
        return ImageState({"seen": self.look(views["image"])}, sizes, torch.full_like(sizes, self.config.image_size))

    def localise(self, state: ImageState, tokens: Tokens, image_index: Tensor) -> Prompts:
        """Weigh the channels with the mean of the words that are read, and point on a grid of S/8 cells."""
        read = ~unread_positions(tokens.length, tokens.ids.shape[1])  # (N, L)
        sentence = (self.words(tokens.ids) * read[..., None]).sum(1) / tokens.length[:, None]  # (N, C)
        steered = state.features["seen"][image_index] * sentence[..., None, None]
        heat = self.point(F.avg_pool2d(steered, 4))
        return Prompts(sentence[:, None], None, heat.sigmoid(), aux={"steered": steered, "heat": heat})

    def segment(self, state: ImageState, prompts: Prompts, image_index: Tensor) -> Tensor:
        """Draw: log-odds (N, 1, S/2, S/2)."""
        return self.draw(prompts.aux["steered"])

    def restore(self, prediction: Prediction) -> list[Tensor]:
        """S/2 -> S -> native, bilinear both times."""
        S = self.config.image_size
        return list(restore_each(prediction.mask_logits, prediction.image_index, prediction.state.sizes, S))

    # -- training ----------------------------------------------------------------------------------------------------

    def target(self, masks: Sequence[Tensor]) -> Tensor:
        """Nearest resize to S × S."""
        return torch.stack([stretch_mask(mask, self.config.image_size)[None] for mask in masks])

    def loss_terms(self, prediction: Prediction, target: Tensor) -> dict[str, Tensor]:
        """Cross entropy and Dice of the mask, cross entropy of the heat map with the referent's share of each cell."""
        logits = resize(prediction.mask_logits.float(), (target.shape[-2], target.shape[-1]))
        return {
            "loss_ce": binary_cross_entropy(logits, target),
            "loss_dice": dice(logits, target),
            "loss_heatmap": heatmap_cross_entropy(prediction.prompts.aux["heat"], target),
        }

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Everything trains, with one rate."""
        return {"all": list(self.parameters())}
