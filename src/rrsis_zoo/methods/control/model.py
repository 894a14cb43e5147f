"""The control: a plain *coupled* network for comparison with the decoupled methods. It has no paper.

A timm backbone reads the image, a small recurrent network reads the sentence, and a U-Net decoder is conditioned on the
sentence at every level with FiLM: scale and shift of every channel (Perez et al., AAAI 2018, arXiv 1709.07871). No
foundation model, no prompts of SAM: a decoupled method should at least beat it.

Its folder is also an example of how to add a method: docs/start/add_a_method.md.

A coupled network has no prompts. The common interface splits it after the deepest level, where the network knows
*where* at the resolution of that level but not yet *where exactly*: its prompts are the sentence vector and the
conditioned level itself. The backbone does not depend on the sentence, so that a scene is encoded once.

Symbols: M images, N expressions, L tokens, D sentence width, S side of the square input, g side of the deepest level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.control.card import CARD
from rrsis_zoo.methods.control.weights import FOUNDATION_FILLERS
from rrsis_zoo.models.base import ReferringSegmenter, check_images
from rrsis_zoo.models.compiling import Part
from rrsis_zoo.models.configuration import Count, Side
from rrsis_zoo.models.layers.geometry import normalise, resize, restore_each, stretch, stretch_mask
from rrsis_zoo.models.layers.host import in_groups, to_device
from rrsis_zoo.models.layers.precision import cast
from rrsis_zoo.models.layers.rows import rows
from rrsis_zoo.models.losses import binary_cross_entropy, heatmap_cross_entropy
from rrsis_zoo.models.seam import COUPLED, Seam
from rrsis_zoo.models.tokenizers import SigLIPTokenizer
from rrsis_zoo.models.types import ImageState, Prediction, Prompts, Tokens, Views


@dataclass(frozen=True)
class ControlConfig:
    """Configuration of the control.

    Attributes:
        backbone: timm's name of a convolutional network with a pyramid of features (``resnet34``, ``convnext_tiny``).
        channels: for a timm ResNet with a deep stem (``resnet10t``): channels of stem and stages, to make it narrow;
            () for the network's own.
        image_size: S, side of the square input in pixels.
        widths: channels of the decoder's levels, the finest first; as many levels of the backbone are used.
        sentence_width: D; even, because two reading directions share it.
        vocabulary: rows of the token table.
        max_length: maximum number of tokens of a sentence.
        bce_weight, dice_weight: weights of the mask losses.
        heatmap_weight: weight of the cross entropy of the heat map and the referent's share of each cell.
    """

    backbone: str = "resnet34"
    channels: tuple[Count, ...] = ()
    image_size: Side = 480
    widths: tuple[Count, ...] = (48, 64, 96, 128, 256)
    sentence_width: Count = 256
    vocabulary: Count = 4096
    max_length: Count = 64
    bce_weight: float = 2.0
    dice_weight: float = 2.0
    heatmap_weight: float = 2.0


PRIOR = -3.0
"""Initial log-odds of both heads: a referent covers about 5 % of an image. From 0 the first hundred steps learn only
that, and the sentence is learned later."""

TINY = ControlConfig(
    backbone="resnet10t",
    channels=(16, 24, 48, 96, 128),
    image_size=128,
    widths=(16, 32, 64, 96),
    sentence_width=64,
    vocabulary=512,
)


class Control(ReferringSegmenter):
    """A text-conditioned U-Net: localisation and segmentation are learned together.

    Raises:
        ConfigError: an unsuitable backbone (`build_backbone`), or an odd sentence width.
    """

    card = CARD
    foundation_fillers = FOUNDATION_FILLERS
    tokenizer_kind = SigLIPTokenizer
    seam: ClassVar[Seam] = COUPLED
    segment_only: ClassVar[frozenset[str]] = frozenset({"fused"})
    needs_referent: ClassVar[frozenset[str]] = frozenset()  # its Dice has 1 in both sums, and so a gradient
    presets: ClassVar[dict[str, ControlConfig]] = {
        "base": ControlConfig(),
        "tiny": TINY,
        "tiny256": replace(TINY, image_size=256, widths=(16, 32, 48, 64, 96)),
    }

    def __init__(self, config: ControlConfig) -> None:
        super().__init__()
        self.config = config
        if config.sentence_width % 2:
            raise ConfigError(f"control.sentence_width must be even, got {config.sentence_width}")
        self.backbone = build_backbone(config)
        self.text = SentenceEncoder(config.vocabulary, config.sentence_width)
        skips, widths, D = self.backbone.feature_info.channels(), config.widths, config.sentence_width
        self.deepest = nn.ModuleList([FiLMBlock(skips[-1], widths[-1], D), FiLMBlock(widths[-1], widths[-1], D)])
        self.decoder = nn.ModuleList(  # from coarse to fine
            FiLMBlock(coarse + skip, fine, D)
            for coarse, skip, fine in reversed([*zip(widths[1:], skips[:-1], widths[:-1], strict=True)])
        )
        self.heat, self.mask = nn.Conv2d(widths[-1], 1, 1), nn.Conv2d(widths[0], 1, 1)
        for head in (self.heat, self.mask):
            assert head.bias is not None
            nn.init.constant_(head.bias, PRIOR)
        self.freeze_inert_parameters()

    # -- from images and sentences to masks --------------------------------------------------------------------------

    @property
    def text_limits(self) -> tuple[int, int]:
        """Rows of the token table and the longest sentence; the vocabulary is learned from the training sentences."""
        return self.config.vocabulary, self.config.max_length

    @property
    def sides(self) -> tuple[int, int]:
        """S, and the side of the backbone's finest level."""
        return self.config.image_size, self.config.image_size // self.backbone.feature_info.reduction()[0]

    def prepare(self, images: Sequence[Tensor]) -> Views:
        """Stretch every image to the square; ``image``: (M, 3, S, S) in [0, 1]."""
        check_images(images)
        side = self.config.image_size
        return {"image": in_groups(lambda image: stretch(image, side), [image.to(self.device) for image in images])}

    def encode(self, views: Views, sizes: Tensor) -> ImageState:
        """Return the backbone's features ``level0`` (M, C, S/2, S/2), ``level1`` (M, C', S/4, S/4), …."""
        like = self.backbone.pretrained_cfg
        levels = self.backbone(normalise(views["image"], like["mean"], like["std"]))
        features = {f"level{i}": level for i, level in enumerate(levels)}
        return ImageState(features, sizes, torch.full_like(sizes, self.config.image_size))

    def localise(self, state: ImageState, tokens: Tokens, image_index: Tensor) -> Prompts:
        """Condition the deepest level on the sentences.

        Returns:
            The sentence vector as the only sparse token (N, 1, D), the heat map (N, 1, g, g), and in ``aux`` the
            conditioned level ``fused`` (N, C, g, g), from which ``segment`` continues, and ``heat`` (N, 1, g, g), the
            log-odds.
        """
        sentence = self.text(tokens)
        fused = rows(state.features[f"level{len(self.decoder)}"], image_index)
        for block in self.deepest:
            fused = block(fused, sentence)
        heat = self.heat(fused)
        return Prompts(sentence[:, None], None, heat.sigmoid(), aux={"fused": fused, "heat": heat})

    def segment(self, state: ImageState, prompts: Prompts, image_index: Tensor) -> Tensor:
        """Decode from the deepest level to the finest, conditioned on the sentence: (N, 1, S/2, S/2) with a ResNet."""
        x, sentence = prompts.aux["fused"], prompts.sparse[:, 0]
        for i, block in enumerate(self.decoder, start=1):
            skip = rows(state.features[f"level{len(self.decoder) - i}"], image_index)
            x = cast(resize(x, (skip.shape[-2], skip.shape[-1])), skip)
            x = block(torch.cat([x, skip], dim=1), sentence)
        return self.mask(x)

    def restore(self, prediction: Prediction) -> list[Tensor]:
        """Resize (N, 1, h, w) to S × S and then to N native maps (H_i, W_i), both bilinear."""
        sizes = prediction.state.sizes
        return list(restore_each(prediction.mask_logits, prediction.images(), sizes, self.config.image_size))

    # -- speed -------------------------------------------------------------------------------------------------------

    def compiled_parts(self) -> dict[str, Part]:
        """Return the backbone and the conditioned blocks; the recurrent layer is one call already."""
        blocks = [*self.deepest, *self.decoder]
        return {"backbone": Part(self.backbone), **{f"block{i}": Part(block) for i, block in enumerate(blocks)}}

    # -- training ----------------------------------------------------------------------------------------------------

    def target(self, masks: Sequence[Tensor]) -> Tensor:
        """Nearest resize of N masks to uint8 (N, 1, S, S), without keeping the aspect ratio."""
        return in_groups(lambda mask: stretch_mask(mask, self.config.image_size), masks)[:, None]

    def loss_terms(self, prediction: Prediction, target: Tensor) -> dict[str, Tensor]:
        """Return scalars: cross entropy and Dice at S × S, and the cross entropy of the heat map at its own g × g."""
        logits = resize(prediction.mask_logits.float(), (target.shape[-2], target.shape[-1]))
        heat = prediction.prompts.aux["heat"]
        return {
            "loss_ce": self.config.bce_weight * binary_cross_entropy(logits, target),
            "loss_dice": self.config.dice_weight * soft_dice(logits, target),
            "loss_heatmap": self.config.heatmap_weight * heatmap_cross_entropy(heat, target),
        }

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return all parameters; a pretrained backbone needs a smaller rate than the rest."""
        decoder = nn.ModuleList([self.deepest, self.heat, self.decoder, self.mask])
        groups = {"backbone": self.backbone, "text": self.text, "decoder": decoder}
        return {name: [p for p in part.parameters() if p.requires_grad] for name, part in groups.items()}

    def inert_prefixes(self) -> dict[str, str]:
        """Return the heat map's head if its loss is off."""
        names = () if self.config.heatmap_weight else ("heat.weight", "heat.bias")
        return dict.fromkeys(names, "heatmap_weight is 0, and nothing else reads the heat map")


class SentenceEncoder(nn.Module):
    """Token table, one recurrent layer in both directions, mean over the positions that are read."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.recurrent = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tokens) -> Tensor:
        """Return sentence vectors (N, D); positions after ``tokens.length`` are ignored."""
        # packed by decreasing length, which only the host knows: torch would copy the order to the device, and wait
        length, order = tokens.on_host().length.sort(descending=True)
        words = self.table(tokens.ids)
        there, back = (to_device(index, words.device) for index in (order, order.argsort()))
        packed = pack_padded_sequence(rows(words, there), length, batch_first=True)
        states, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)  # zeros after the length
        return self.norm(rows(states, back).sum(1) / tokens.length[:, None])


class FiLMBlock(nn.Module):
    """3 × 3 convolution with coordinates, batch norm with scale and shift from the sentence, ReLU."""

    def __init__(self, width_in: int, width_out: int, sentence_width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in + 2, width_out, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width_out, affine=False)
        self.film = nn.Linear(sentence_width, 2 * width_out)

    def forward(self, x: Tensor, sentence: Tensor) -> Tensor:
        """Apply to (N, C, h, w) and (N, D)."""
        n, _, h, w = x.shape
        down = torch.linspace(-1, 1, h, device=x.device, dtype=x.dtype)[:, None].expand(n, 1, h, w)
        across = torch.linspace(-1, 1, w, device=x.device, dtype=x.dtype).expand(n, 1, h, w)
        scale, shift = self.film(sentence)[..., None, None].chunk(2, dim=1)
        return F.relu((1 + scale) * self.norm(self.conv(torch.cat([x, down, across], dim=1))) + shift)


def build_backbone(config: ControlConfig) -> Any:
    """Build timm's network with random weights; it has as many levels as the decoder, the finest first.

    Raises:
        ConfigError: the network does not have these levels, each coarser than the previous one, or these channels.
    """
    name, levels = config.backbone, len(config.widths)
    narrow: dict[str, Any] = {}
    if config.channels:  # a deep stem doubles its width; residual branches that start at 0 learn shapes late
        narrow = {"stem_width": config.channels[0] // 2, "channels": config.channels[1:], "zero_init_last": False}
    if not timm.is_model(name):
        raise ConfigError(f"timm has no backbone {name!r}; timm.list_models() lists them")
    try:
        network: Any = timm.create_model(name, features_only=True, out_indices=tuple(range(levels)), **narrow)
    except (TypeError, IndexError, RuntimeError) as error:
        raise ConfigError(
            f"timm's {name} does not have {levels} levels or does not accept channels: {error}"
        ) from error
    strides, channels = network.feature_info.reduction(), network.feature_info.channels()
    if sorted(set(strides)) != strides:
        raise ConfigError(f"the levels of timm's {name} have strides {strides}; a network with a pyramid is needed")
    if config.channels and channels != [*config.channels[:levels]]:
        raise ConfigError(f"timm's {name} has channels {channels}, not {[*config.channels[:levels]]}: try resnet10t")
    return network


def soft_dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 - 2 Σ p y / (Σ p + Σ y), both sums over the pixels of one expression plus 1; mean over expressions."""
    p, y = logits.sigmoid().flatten(1), target.flatten(1)
    return 1 - ((2 * (p * y).sum(1) + 1) / (p.sum(1) + y.sum(1) + 1)).mean()
