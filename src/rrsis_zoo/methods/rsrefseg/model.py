"""RSRefSeg: CLIP activations become SAM's prompts.

K. Chen, J. Zhang, C. Liu, Z. Zou, Z. Shi, "RSRefSeg: Referring Remote Sensing Image Segmentation with Foundation
Models", IGARSS 2025, arXiv 2501.06809. Section numbers (§) and quirks (Q) are those of
docs/methods/rsrefseg.md.

Symbols: N expressions, L words, C SigLIP width, D prompt width, h × w SigLIP grid, g × g SAM grid;
V patch features, T word features, g the sentence vector, F SAM's image embedding, s and b SigLIP's scale and bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.methods.rsrefseg.card import CARD
from rrsis_zoo.methods.rsrefseg.weights import FOUNDATION_FILLERS, official_name
from rrsis_zoo.models.backbones import sam, siglip
from rrsis_zoo.models.backbones.sam import SAM, SAM_B, SAM_L, SAM_MINI, SAMConfig
from rrsis_zoo.models.backbones.siglip import SIGLIP_MINI, SigLIP, SigLIPConfig, TextFeatures
from rrsis_zoo.models.base import ReferringSegmenter, check_images
from rrsis_zoo.models.compiling import Part
from rrsis_zoo.models.configuration import Depth
from rrsis_zoo.models.layers.geometry import normalise, resize, restore_each, stretch, stretch_mask
from rrsis_zoo.models.layers.host import in_groups
from rrsis_zoo.models.layers.lora import LoRA, inject_lora
from rrsis_zoo.models.layers.precision import cast
from rrsis_zoo.models.layers.rows import rows
from rrsis_zoo.models.losses import binary_cross_entropy, heatmap_cross_entropy, squared_dice
from rrsis_zoo.models.seam import truth_as_logits
from rrsis_zoo.models.tokenizers import SigLIPTokenizer
from rrsis_zoo.models.types import ImageState, Prediction, Prompts, Tokens, Views, unread_positions

# §6: layers with adapters. The suffix rule "proj" of the reference means SAM's attention only; in
# segment-anything's names it would also match the patch embedding.
SAM_LORA = LoRA(r"blocks\.\d+\.(attn\.(qkv|proj)|mlp\.lin[12])|neck\.[02]")
VISION_LORA = LoRA(r".*\.(q_proj|k_proj|v_proj|out_proj)")
TEXT_LORA = LoRA(r"encoder\.layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|out_proj)|head")


@dataclass(frozen=True)
class RSRefSegConfig:
    """Configuration of RSRefSeg.

    Attributes:
        sam, siglip: sizes of the foundation models.
        down_spatial_times: halvings of the SigLIP grid before it becomes prompt tokens.
        dense_prompt: whether the sentence's similarity map is SAM's mask prompt.
        adapt: ``lora`` trains adapters on frozen encoders (published); ``full`` trains everything, for random weights.
        sam_lora, vision_lora, text_lora: the adapters of the three encoders.
        bce_weight: weight of the mask loss.
        heatmap_weight: weight of an auxiliary cross entropy on the similarity map; 0 in the paper, used by the tiny
            presets, whose random SigLIP knows nothing about words and locations.
        dice_weight: weight of RSRefSeg 2's Dice loss on the mask; 0 in the paper. With cross entropy alone, masks with
            an uncertain localisation stay below 0.5, which costs the tiny preset a third of its mIoU.
    """

    sam: SAMConfig = field(default_factory=SAMConfig)
    siglip: SigLIPConfig = field(default_factory=SigLIPConfig)
    down_spatial_times: Depth = 2
    dense_prompt: bool = True
    adapt: Literal["lora", "full"] = "lora"
    sam_lora: LoRA = SAM_LORA
    vision_lora: LoRA = VISION_LORA
    text_lora: LoRA = TEXT_LORA
    bce_weight: float = 5.0
    heatmap_weight: float = 0.0
    dice_weight: float = 0.0


# Small, because random weights need many steps: in minutes on a CPU half the width learns more than the full one.
TINY = RSRefSegConfig(
    sam=SAMConfig(
        image_size=128,
        patch_size=8,
        width=48,
        depth=2,
        heads=2,
        mlp_width=96,
        window=4,
        global_blocks=(),
        prompt_width=48,
        decoder_mlp_width=96,
        decoder_heads=2,
        iou_width=48,
    ),
    siglip=SigLIPConfig(
        image_size=128,
        patch_size=8,
        width=64,
        vision_depth=2,
        vision_heads=2,
        vision_mlp_width=128,
        text_depth=1,
        text_heads=2,
        text_mlp_width=128,
        vocabulary=512,
        max_length=64,
        logit_scale=2.3,
        logit_bias=-2.5,  # a referent covers a few cells only
    ),
    adapt="full",
    heatmap_weight=5.0,
    dice_weight=5.0,
)

MINI = RSRefSegConfig(sam=SAM_MINI, siglip=SIGLIP_MINI)
"""The paper's recipe in small: frozen miniatures pretrained on synthetic scenes, with LoRA."""

TINY_256 = RSRefSegConfig(
    sam=SAMConfig(
        image_size=256,
        patch_size=16,
        width=96,
        depth=4,
        heads=4,
        mlp_width=192,
        window=8,
        global_blocks=(1, 3),
        prompt_width=64,
        decoder_mlp_width=128,
        decoder_heads=4,
        iou_width=64,
    ),
    siglip=SigLIPConfig(
        image_size=256,
        patch_size=16,
        width=96,
        vision_depth=4,
        vision_heads=4,
        vision_mlp_width=192,
        text_depth=2,
        text_heads=4,
        text_mlp_width=192,
        vocabulary=512,
        max_length=64,
        logit_scale=2.3,
    ),
    adapt="full",
    heatmap_weight=1.0,
)


class RSRefSeg(ReferringSegmenter):
    """RSRefSeg (§1): SigLIP's similarity maps filter its own patch features into SAM's sparse and dense prompts."""

    card = CARD
    foundation_fillers = FOUNDATION_FILLERS
    official_name = staticmethod(official_name)
    tokenizer_kind = SigLIPTokenizer
    needs_referent: ClassVar[frozenset[str]] = frozenset({"loss_dice"})  # 1 for an empty mask, without a gradient
    presets: ClassVar[dict[str, RSRefSegConfig]] = {
        "l": RSRefSegConfig(sam=SAM_L),
        "b": RSRefSegConfig(sam=SAM_B),
        "tiny": TINY,
        "tiny256": TINY_256,
        "mini": MINI,
    }

    def __init__(self, config: RSRefSegConfig) -> None:
        super().__init__()
        self.config = config
        self.siglip = SigLIP(config.siglip)
        self.sam = SAM(config.sam)
        self.prompter = ActivationPrompter(config.siglip.width, config.sam.prompt_width, config.down_spatial_times)
        if config.adapt == "lora":
            inject_lora(self.sam.image_encoder, config.sam_lora)
            inject_lora(self.siglip.vision_model, config.vision_lora)
            inject_lora(self.siglip.text_model, config.text_lora)
            self.siglip.logit_scale.requires_grad_(False)
            self.siglip.logit_bias.requires_grad_(False)
        self.freeze_inert_parameters()

    # -- §3 inputs ---------------------------------------------------------------------------------------------------

    @property
    def text_limits(self) -> tuple[int, int]:
        """§3.3; the reference allows 128 tokens but fails beyond the 64 rows of its position table (Q2)."""
        return self.config.siglip.vocabulary, self.config.siglip.max_length

    @property
    def sides(self) -> tuple[int, int]:
        """§3.1 and §4.6: S, and 4g."""
        return self.config.sam.image_size, 4 * self.config.sam.grid

    def prepare(self, images: Sequence[Tensor]) -> Views:
        """§3.1: stretch every image to SAM's square; ``image``: (M, 3, S, S) in [0, 1]."""
        check_images(images)
        side = self.config.sam.image_size
        return {"image": in_groups(lambda image: stretch(image, side), [image.to(self.device) for image in images])}

    def encode(self, views: Views, sizes: Tensor) -> ImageState:
        """§3.2 and §4.1: features ``siglip`` V (M, C, h, w) and ``sam`` F (M, D, g, g)."""
        image = views["image"]
        small = self.siglip_input(image)
        features = {
            "siglip": self.siglip.vision_features(small),
            "sam": self.sam.image_encoder(normalise(image, sam.PIXEL_MEAN, sam.PIXEL_STD)),
        }
        return ImageState(features, sizes, torch.full_like(sizes, self.config.sam.image_size))

    def siglip_input(self, image: Tensor) -> Tensor:
        """§3.2: normalise first, then shrink, without anti-aliasing; (M, 3, S, S) -> (M, 3, 384, 384)."""
        side = self.config.siglip.image_size
        return cast(resize(normalise(image, siglip.PIXEL_MEAN, siglip.PIXEL_STD), (side, side)), image)

    # -- §4 forward --------------------------------------------------------------------------------------------------

    def localise(self, state: ImageState, tokens: Tokens, image_index: Tensor) -> Prompts:
        """§4.2-4.4: filters, sparse prompts, dense prompt.

        ``sparse`` (N, K, D), ``dense`` (N, 1, 4g, 4g) or None, ``heatmap`` (N, 1, h, w); ``aux``: ``similarity`` A_g
        (N, 1, h, w).
        """
        text = self.siglip.text_features(tokens)
        filtered = self.prompter.filter(
            rows(state.features["siglip"], image_index), text, self.siglip.logit_scale, self.siglip.logit_bias
        )
        sparse = self.prompter(filtered, self.sam.code(filtered.V.shape[-1])).sparse
        similarity = filtered.A_g.unsqueeze(1)
        dense = self.dense_prompt(similarity)
        return Prompts(sparse, dense, heatmap=similarity.sigmoid(), aux={"similarity": similarity})

    def dense_prompt(self, similarity: Tensor) -> Tensor | None:
        """§4.4: A_g (N, 1, h, w) before the sigmoid, enlarged to SAM's mask prompt (N, 1, 4g, 4g); None if off."""
        side = 4 * self.config.sam.grid
        return cast(resize(similarity, (side, side)), similarity) if self.config.dense_prompt else None

    def segment(self, state: ImageState, prompts: Prompts, image_index: Tensor) -> Tensor:
        """§4.4-4.6: SAM's decoder with one prompt set per image; the first mask token's log-odds (N, 1, 4g, 4g)."""
        masks, _ = self.decode(state, prompts, image_index)
        return masks[:, :1]

    def decode(self, state: ImageState, prompts: Prompts, image_index: Tensor) -> tuple[Tensor, Tensor]:
        """Return all four masks (N, 4, 4g, 4g) and their predicted IoU (N, 4); the method only uses the first mask."""
        n, grid = len(image_index), self.config.sam.grid
        dense = self.sam.no_mask(n) if prompts.dense is None else self.sam.encode_mask(prompts.dense)
        return self.sam.mask_decoder(
            rows(state.features["sam"], image_index), self.sam.code(grid), prompts.sparse, dense
        )

    # -- §5 inference and loss ---------------------------------------------------------------------------------------

    def restore(self, prediction: Prediction) -> list[Tensor]:
        """§5: resize (N, 1, 4g, 4g) to S × S and then to N native maps (H_i, W_i), both bilinear."""
        side = self.config.sam.image_size
        return list(restore_each(prediction.mask_logits, prediction.images(), prediction.state.sizes, side))

    def target(self, masks: Sequence[Tensor]) -> Tensor:
        """§3.1: nearest resize of N masks to uint8 (N, 1, S, S), without keeping the aspect ratio."""
        return in_groups(lambda mask: stretch_mask(mask, self.config.sam.image_size), masks)[:, None]

    def loss_terms(self, prediction: Prediction, target: Tensor) -> dict[str, Tensor]:
        """§5: scalars: weighted cross entropy at S × S; ``loss_dice``, ``loss_heatmap`` only if they have a weight."""
        terms = {"loss_ce": self.config.bce_weight * binary_cross_entropy(prediction.mask_logits, target)}
        if self.config.dice_weight:
            terms["loss_dice"] = self.config.dice_weight * squared_dice(prediction.mask_logits, target)
        if self.config.heatmap_weight:
            similarity = prediction.prompts.aux["similarity"]
            terms["loss_heatmap"] = self.config.heatmap_weight * heatmap_cross_entropy(similarity, target)
        return terms

    # -- speed -------------------------------------------------------------------------------------------------------

    def compiled_parts(self) -> dict[str, Part]:
        """Return the encoders, prompter and decoder."""
        return {
            "siglip_vision": Part(self.siglip.vision_model.encoder),
            "siglip_text": Part(self.siglip.text_model.encoder, {"0": (1,), "1": (2, 3)}),
            "sam_encoder": Part(self.sam.image_encoder),
            "prompter": Part(self.prompter),
            "mask_decoder": Part(self.sam.mask_decoder),
        }

    # -- diagnosis ---------------------------------------------------------------------------------------------------

    @classmethod
    def stock(cls, config: RSRefSegConfig) -> SAMConfig:
        """Return SAM's sizes."""
        return config.sam

    def dense_truth(self, prompts: Prompts, truth: Tensor) -> Tensor | None:
        """Return the truth (N, 1, 4g, 4g) as log-odds; None if the dense prompt is off."""
        return None if prompts.dense is None else truth_as_logits(prompts.dense, truth)

    # -- §6 what is trained ------------------------------------------------------------------------------------------

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the encoders (only their adapters with LoRA), SAM's two small parts, the prompter."""
        scalars = [self.siglip.logit_scale, self.siglip.logit_bias]
        groups: dict[str, list[nn.Parameter]] = {
            "sam_encoder": list(self.sam.image_encoder.parameters()),
            "siglip_vision": list(self.siglip.vision_model.parameters()),
            "siglip_text": [*self.siglip.text_model.parameters(), *scalars],
            "prompter": list(self.prompter.parameters()),
            "prompt_encoder": list(self.sam.prompt_encoder.parameters()),
            "mask_decoder": list(self.sam.mask_decoder.parameters()),
        }
        return {name: [p for p in group if p.requires_grad] for name, group in groups.items()}

    def inert_prefixes(self) -> dict[str, str]:
        """§6, last paragraph, and Q4."""
        dense = self.config.dense_prompt
        unused_prompt, why = (
            ("no_mask_embed", "the dense prompt is on") if dense else ("mask_downscaling", "the dense prompt is off")
        )
        return {
            "siglip.vision_model.head.": "the vision tower's pooling head feeds nothing",
            "sam.prompt_encoder.point_embeddings.": "no points or boxes are given",
            "sam.prompt_encoder.not_a_point_embed.": "no points or boxes are given",
            f"sam.prompt_encoder.{unused_prompt}.": why,
            "sam.mask_decoder.iou_prediction_head.": "the predicted IoU is not used",
        }

    def adapted_parts(self) -> tuple[str, ...]:
        """§6: SigLIP, which has inert parameters."""
        return ("siglip.",) if self.config.adapt == "lora" else ()


@dataclass
class Filtered:
    """§4.2: the filters and the filtered features.

    Attributes:
        V: (N, C, h, w) patch features.
        A_l: (N, L, h, w) word-wise similarity, before the sigmoid.
        A_g: (N, h, w) sentence-wise similarity, before the sigmoid.
        V_l, V_g: (N, C, h, w) filtered features.
    """

    V: Tensor
    A_l: Tensor
    A_g: Tensor
    V_l: Tensor
    V_g: Tensor


@dataclass
class SparsePrompts:
    """§4.3: the way from filtered features to prompt tokens.

    Attributes:
        code: (1, D, h, w) added position code.
        reduced: (N, D, h, w) after the 1 × 1 reduction.
        shrunk: (N, D, h2, w2) after the strided convolutions.
        sparse: (N, h2 · w2, D), row-major.
    """

    code: Tensor
    reduced: Tensor
    shrunk: Tensor
    sparse: Tensor


class ActivationPrompter(nn.Module):
    """§4.2-4.3: text as a filter on the image, and the filtered image as prompt tokens."""

    def __init__(self, clip_width: int, prompt_width: int, down_spatial_times: int) -> None:
        super().__init__()
        D = prompt_width
        self.down_channel = ConvBlock(3 * clip_width, D, kernel=1)
        shrink = [ConvBlock(D, D, kernel=3, stride=2) for _ in range(down_spatial_times)]
        self.down_spatial = nn.Sequential(*shrink, ConvBlock(D, D, kernel=1, plain=True))

    def filter(self, V: Tensor, text: TextFeatures, scale: Tensor, bias: Tensor) -> Filtered:
        """Weight the patches by their scaled cosine similarity with every word and with the sentence.

        The norms have no epsilon (Q14). The mean over words includes every position that is read, with pads in text
        mode ``published`` (Q3).
        """
        V_hat = V / V.norm(dim=1, keepdim=True)
        T_norm = text.tokens.norm(dim=-1, keepdim=True)
        L = text.tokens.shape[1]
        read = ~unread_positions(text.length, L)  # (N, L)
        T_hat = text.tokens / T_norm.masked_fill(~read[..., None], 1)  # unread positions contain zeros
        g_hat = text.pooled / text.pooled.norm(dim=-1, keepdim=True)

        A_l = scale.exp() * torch.einsum("nlc,nchw->nlhw", T_hat, V_hat) + bias
        A_g = scale.exp() * torch.einsum("nc,nchw->nhw", g_hat, V_hat) + bias
        # the same V for every word: the mean of (weight · V) is (mean weight) · V
        weight = (A_l.sigmoid() * read[..., None, None]).sum(1, keepdim=True) / text.length[:, None, None, None]
        V_l = (V + weight * V) / 2
        V_g = A_g.sigmoid().unsqueeze(1) * V
        return Filtered(V, A_l, A_g, V_l, V_g)

    def forward(self, filtered: Filtered, code: Tensor) -> SparsePrompts:
        """Reduce, add the position code, shrink, flatten."""
        reduced = self.down_channel(torch.cat([filtered.V_l, filtered.V_g, filtered.V], dim=1))
        shrunk = self.down_spatial(reduced + code)
        return SparsePrompts(code, reduced, shrunk, shrunk.flatten(2).transpose(1, 2))


class ConvBlock(nn.Module):
    """Convolution without bias, batch norm, exact GELU; with ``plain`` only a convolution with bias."""

    def __init__(self, width_in: int, width_out: int, kernel: int, stride: int = 1, plain: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, kernel, stride, padding=kernel // 2, bias=plain)
        self.bn = None if plain else nn.BatchNorm2d(width_out)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (N, C, h, w)."""
        x = self.conv(x)
        return x if self.bn is None else F.gelu(self.bn(x))
