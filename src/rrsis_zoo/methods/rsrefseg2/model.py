"""RSRefSeg 2: two query sets read the sentence, edit the image in a cascade, and become SAM's prompts.

K. Chen, C. Liu, B. Chen, J. Zhang, Z. Zou, Z. Shi, "RSRefSeg 2: Decoupling Referring Remote Sensing Image Segmentation
with Foundation Models", IEEE TGRS 64, 2026, arXiv 2507.06231. Section numbers (§) and quirks (Q) are those of
docs/methods/rsrefseg2.md. The prompter, which is the method, is in `rrsis_zoo.methods.rsrefseg2.prompter`.

Symbols: M images, N expressions, C SigLIP width, D prompt width, h × w SigLIP grid, m side of SAM's masks, S side of
the square input; V patch features, T word features, g the sentence vector, s and b SigLIP's scale and bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.rsrefseg2.card import CARD
from rrsis_zoo.methods.rsrefseg2.prompter import CascadedPrompter, PrompterConfig
from rrsis_zoo.methods.rsrefseg2.weights import FOUNDATION_FILLERS, official_name
from rrsis_zoo.models.backbones import sam2, siglip
from rrsis_zoo.models.backbones.sam import SAM, SAMConfig
from rrsis_zoo.models.backbones.sam2 import (
    SAM2,
    SAM2_B_PLUS,
    SAM2_L,
    SAM2_MINI,
    SAM2_S,
    SAM2_T,
    DecodedMasks,
    Pyramid,
    SAM2Config,
)
from rrsis_zoo.models.backbones.siglip import SIGLIP2_SO400M_512, SIGLIP_MINI, SigLIP, SigLIPConfig
from rrsis_zoo.models.base import ReferringSegmenter, check_images
from rrsis_zoo.models.compiling import Part
from rrsis_zoo.models.configuration import Count, Share, check_choices
from rrsis_zoo.models.layers.geometry import fit, fit_mask, fitted_size, normalise, resize, restore_each
from rrsis_zoo.models.layers.host import in_groups
from rrsis_zoo.models.layers.lora import LoRA, inject_lora
from rrsis_zoo.models.layers.precision import cast
from rrsis_zoo.models.layers.rows import rows
from rrsis_zoo.models.losses import (
    IGNORED,
    Gather,
    batch_contrastive,
    binary_cross_entropy,
    heatmap_cross_entropy,
    multiple_instance,
    squared_cosine,
    squared_dice,
)
from rrsis_zoo.models.seam import truth_as_logits
from rrsis_zoo.models.tokenizers import SigLIP2Tokenizer
from rrsis_zoo.models.types import ImageState, Prediction, Prompts, Tokens, Views

# §8: layers with adapters: only the attention, neither the MLPs nor the projection of blocks that change width
SAM2_LORA = r"trunk\.blocks\.\d+\.attn\.(qkv|proj)|neck\.convs\.\d+\.conv"
SAM1_LORA = r"blocks\.\d+\.attn\.(qkv|proj)|neck\.[02]"
VISION_LORA = (
    r"head\.(attention\.out_proj|mlp\.fc[12])|encoder\.layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|out_proj)"
)
TEXT_LORA = r"head|encoder\.layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|out_proj)"


_LARGEST_SIDE = 2**12


@dataclass(frozen=True)
class LossConfig:
    """Weights and switches of the losses (§7); a term of weight 0 is not computed.

    Attributes:
        bce, dice: of the mask.
        orthogonal: of the squared cosine between the means of the two query sets.
        contrastive: of the masked image features against the mean of set 2, among all rows of the batch.
        gather: gradient of the contrastive term with several processes (`rrsis_zoo.models.losses.gather_rows`).
            ``published``: 1/W of the joint gradient before the gathered vectors; ``exact``: the joint gradient.
        dense: of BCE and Dice on the mask prompt, times their own weights. Off in the published files.
        mil: of the multiple-instance loss on every image's own similarities. Off in the published files.
        mil_text: vector of these similarities: the sentence vector or the mean of set 2.
        map: the features of contrastive and multiple-instance loss: SigLIP's ``original`` V, which the published
            program uses although it logs them as refined (Q5), or I2.
        side: S of the S x S grid of contrastive and multiple-instance loss, to which both map and label are resized; 0
            for the map's own grid. The published files have 32, which is SigLIP's grid at 512 px.
        padding: treatment of the padding of non-square images in Dice and in the contrastive loss: ``published`` takes
            it for a target of 255 and for foreground (Q6), ``ignored`` leaves it out. Square images have none.
        heatmap: of a cross entropy of the similarities on SigLIP's grid and the referent's share of each cell. Not in
            the paper; used by the tiny presets, whose random SigLIP knows nothing about words and locations.
    """

    bce: float = 5.0
    dice: float = 5.0
    orthogonal: float = 0.5
    contrastive: float = 0.5
    gather: Gather = "published"
    dense: float = 0.0
    mil: float = 0.0
    mil_text: Literal["sentence", "queries"] = "queries"
    map: Literal["original", "refined"] = "original"
    side: int = 0
    padding: Literal["published", "ignored"] = "published"
    heatmap: float = 0.0

    def __post_init__(self) -> None:
        """Refuse unknown choices.

        Raises:
            ConfigError: an unknown choice, or a side out of range.
        """
        check_choices(self, "loss")
        if not 0 <= self.side <= _LARGEST_SIDE:
            raise ConfigError(
                f"loss.side must be at least 1, or 0 for the features' own grid, and at most {_LARGEST_SIDE}, "
                f"got {self.side}"
            )


@dataclass(frozen=True)
class RSRefSeg2Config:
    """Configuration of RSRefSeg 2.

    Attributes:
        backbone: ``sam2`` (released) or ``sam1``, which the published code also accepts.
        sam2, sam1: sizes; only those of the backbone in use have an effect.
        siglip: sizes of SigLIP 2.
        prompter: the cascade.
        loss: weights and switches.
        stability_fallback: in evaluation, return one of SAM 2's other three masks if the first is unstable (Q1). The
            published results use it. Those masks have never been trained: it is meant for the authors' checkpoints, and
            off for your own. A checkpoint can be tested with either setting.
        adapt: ``lora`` trains adapters on frozen encoders (published); ``full`` trains everything, for random weights.
        lora_rank, lora_alpha, lora_dropout: of all adapters.
    """

    backbone: Literal["sam2", "sam1"] = "sam2"
    sam2: SAM2Config = SAM2_L
    sam1: SAMConfig = field(default_factory=SAMConfig)
    siglip: SigLIPConfig = SIGLIP2_SO400M_512
    prompter: PrompterConfig = field(default_factory=PrompterConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    stability_fallback: bool = False
    adapt: Literal["lora", "full"] = "lora"
    lora_rank: Count = 16
    lora_alpha: Count = 16
    lora_dropout: Share = 0.0

    def __post_init__(self) -> None:
        """Refuse contradictory settings.

        Raises:
            ConfigError: an unknown choice, or SAM 2's fallback without SAM 2.
        """
        check_choices(self, "rsrefseg2")
        if self.stability_fallback and self.backbone == "sam1":
            raise ConfigError("rsrefseg2.stability_fallback needs SAM 2: with backbone sam1 it must be false")

    @property
    def mask_model(self) -> SAM2Config | SAMConfig:
        """Sizes of the backbone in use."""
        return self.sam2 if self.backbone == "sam2" else self.sam1


class Decoded(NamedTuple):
    """SAM's output for N expressions.

    Attributes:
        masks: (N, 4, m, m) logits; the first is the single-mask output.
        iou: (N, 4) predicted IoU of each.
        object_score: (N, 1) logit that there is an object; None with SAM 1.
    """

    masks: Tensor
    iou: Tensor
    object_score: Tensor | None


TINY = RSRefSeg2Config(
    sam2=SAM2Config(
        image_size=128,
        width=16,
        heads=1,
        stages=(1, 1, 2, 1),
        windows=(8, 4, 8, 4),
        global_blocks=(3,),
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
    prompter=PrompterConfig(
        heads=2,
        attention_width=64,
        mlp_width=128,
        decomposition_depth=1,
        first_order_depth=1,
        second_order_depth=1,
        image_code_cells=16,
    ),
    loss=LossConfig(padding="ignored", heatmap=5.0),
    adapt="full",
)

MINI = RSRefSeg2Config(
    sam2=SAM2_MINI,
    siglip=SIGLIP_MINI,
    prompter=replace(TINY.prompter, attention_width=96, mlp_width=192),
    loss=LossConfig(padding="ignored"),
)
"""The paper's recipe in small: frozen miniatures pretrained on synthetic scenes, with LoRA."""

TINY_256 = replace(
    TINY,
    sam2=replace(TINY.sam2, image_size=256, width=24, prompt_width=64, decoder_mlp_width=128),
    siglip=replace(TINY.siglip, image_size=256, patch_size=16, width=96, vision_mlp_width=192, text_mlp_width=192),
    loss=replace(TINY.loss, heatmap=1.0),
)


class RSRefSeg2(ReferringSegmenter):
    """RSRefSeg 2 (§1): SigLIP 2 localises, in the form of prompts; SAM 2.1 segments."""

    card = CARD
    foundation_fillers = FOUNDATION_FILLERS
    official_name = staticmethod(official_name)
    tokenizer_kind = SigLIP2Tokenizer
    # for an empty mask squared Dice is 1 without a gradient; no feature to contrast, and no cell to point to
    needs_referent: ClassVar[frozenset[str]] = frozenset(
        {"loss_dice", "loss_dense_dice", "loss_contrastive", "loss_mil"}
    )
    compares_processes: ClassVar[bool] = True  # the contrastive loss gathers the rows of all
    evaluation_settings: ClassVar[frozenset[str]] = frozenset({"stability_fallback"})
    presets: ClassVar[dict[str, RSRefSeg2Config]] = {
        "l": RSRefSeg2Config(),
        "b_plus": RSRefSeg2Config(sam2=SAM2_B_PLUS),
        "s": RSRefSeg2Config(sam2=SAM2_S),
        "t": RSRefSeg2Config(sam2=SAM2_T),
        "tiny": TINY,
        "tiny256": TINY_256,
        "mini": MINI,
    }

    def __init__(self, config: RSRefSeg2Config) -> None:
        super().__init__()
        self.config = config
        self.siglip = SigLIP(config.siglip)
        self.sam: SAM2 | SAM = SAM2(config.sam2) if config.backbone == "sam2" else SAM(config.sam1)
        self.prompter = CascadedPrompter(config.prompter, config.siglip.width, config.mask_model.prompt_width)
        # §6, head: scale and bias of the per-image (1) and of the contrastive loss (2)
        self.logit_scale1, self.logit_scale2 = (nn.Parameter(torch.tensor(1 / 0.07).log()) for _ in range(2))
        self.logit_bias1, self.logit_bias2 = (nn.Parameter(torch.tensor(0.5).log()) for _ in range(2))
        if config.adapt == "lora":
            size = {"rank": config.lora_rank, "alpha": config.lora_alpha, "dropout": config.lora_dropout}
            inject_lora(self.sam.image_encoder, LoRA(SAM2_LORA if config.backbone == "sam2" else SAM1_LORA, **size))
            inject_lora(self.siglip.vision_model, LoRA(VISION_LORA, **size))
            inject_lora(self.siglip.text_model, LoRA(TEXT_LORA, **size))
        self.freeze_inert_parameters()

    # -- §3 inputs ---------------------------------------------------------------------------------------------------

    @property
    def text_limits(self) -> tuple[int, int]:
        """§3; the reference allows 128 tokens but fails beyond the 64 rows of its position table (Q3)."""
        return self.config.siglip.vocabulary, self.config.siglip.max_length

    @property
    def sides(self) -> tuple[int, int]:
        """§3 and §6: S, and m."""
        return self.side, 4 * self.config.mask_model.grid

    @property
    def side(self) -> int:
        """S, side of the square input in pixels."""
        return self.config.mask_model.image_size

    def prepare(self, images: Sequence[Tensor]) -> Views:
        """§3: fit every image into the square, padded with black; ``image``: (M, 3, S, S) in [0, 1]."""
        check_images(images)
        return {"image": in_groups(lambda image: fit(image, self.side), [image.to(self.device) for image in images])}

    def encode(self, views: Views, sizes: Tensor) -> ImageState:
        """§3 and §6.3: features ``siglip`` V (M, C, h, w) and ``sam`` (M, D, g, g); with SAM 2 ``sam_s1``, ``sam_s0``.

        ``sam_s1``: (M, D/4, 2g, 2g), ``sam_s0``: (M, D/8, 4g, 4g), further levels for its decoder.
        """
        image = views["image"]
        features = {"siglip": self.siglip.vision_features(self.siglip_input(image))}
        large = normalise(image, sam2.PIXEL_MEAN, sam2.PIXEL_STD)  # both SAMs have the same
        if isinstance(self.sam, SAM2):
            pyramid = self.sam.encode(large)
            features |= {"sam": pyramid.embedding, "sam_s1": pyramid.s1, "sam_s0": pyramid.s0}
        else:
            features["sam"] = self.sam.image_encoder(large)
        fitted = [fitted_size(height, width, self.side) for height, width in sizes.tolist()]
        return ImageState(features, sizes, torch.tensor(fitted, dtype=torch.int64).reshape(-1, 2))

    def siglip_input(self, image: Tensor) -> Tensor:
        """§3: normalise first, then shrink, without anti-aliasing; (M, 3, S, S) -> (M, 3, 512, 512)."""
        side = self.config.siglip.image_size
        return cast(resize(normalise(image, siglip.PIXEL_MEAN, siglip.PIXEL_STD), (side, side)), image)

    # -- §5 localise -------------------------------------------------------------------------------------------------

    def localise(self, state: ImageState, tokens: Tokens, image_index: Tensor) -> Prompts:
        """§5: the cascade: sparse (N, n, D), dense (N, 1, m, m) or None, heat map (N, 1, h, w).

        ``aux``: means ``q1`` and ``q2`` (N, C) of the query sets, the ``sentence`` vector (N, C), and ``belief``
        (N, 1, h, w), the log-odds of the heat map; ``refined`` I2 (N, C, h, w) if a loss reads it.
        """
        text = self.siglip.text_features(tokens)
        scale, bias = self.siglip.logit_scale, self.siglip.logit_bias
        cascade = self.prompter(rows(state.features["siglip"], image_index), text)
        belief = self.prompter.belief(cascade, text.pooled, scale, bias)
        aux = {
            "q1": _mean(cascade.q1, cascade.hidden),
            "q2": _mean(cascade.q2, cascade.hidden),
            "sentence": text.pooled,
            "belief": belief,
        }
        if self.config.loss.map == "refined":
            aux["refined"] = cascade.I2
        side = 4 * self.config.mask_model.grid
        dense = self.prompter.dense_prompt(cascade, side, scale, bias)
        return Prompts(cascade.sparse, dense, heatmap=belief.sigmoid(), aux=aux)

    # -- §6 segment --------------------------------------------------------------------------------------------------

    def segment(self, state: ImageState, prompts: Prompts, image_index: Tensor) -> Tensor:
        """§6.5-6: SAM's first mask (N, 1, m, m); in evaluation with ``stability_fallback`` possibly another one.

        The fallback only affects masks that SAM 2 considers unstable.
        """
        decoded = self.decode(state, prompts, image_index)
        if self.config.stability_fallback and not self.training:
            return self.stable(decoded)
        return decoded.masks[:, :1]

    def decode(self, state: ImageState, prompts: Prompts, image_index: Tensor) -> Decoded:
        """§6.4-5: the mask decoder with one prompt set per image."""
        n, features = len(image_index), {k: rows(v, image_index) for k, v in state.features.items() if k != "siglip"}
        dense = (
            self.sam.no_mask(n) if prompts.dense is None else self.sam.encode_mask(cast(prompts.dense, features["sam"]))
        )
        if isinstance(self.sam, SAM2):
            pyramid = Pyramid(features["sam"], features["sam_s1"], features["sam_s0"])
            masks, iou, _, object_score = self.sam.decode(pyramid, prompts.sparse, dense)
            return Decoded(masks, iou, object_score)
        code = self.sam.code(self.config.sam1.grid)
        masks, iou = self.sam.mask_decoder(features["sam"], code, prompts.sparse, dense)
        return Decoded(masks, iou, None)

    def stable(self, decoded: Decoded) -> Tensor:
        """§6.6: the first mask (N, 1, m, m), or the best of the others if it is unstable. SAM 2 only."""
        assert isinstance(self.sam, SAM2)
        assert decoded.object_score is not None
        everything = DecodedMasks(decoded.masks, decoded.iou, decoded.masks.new_empty(0), decoded.object_score)
        return self.sam.stable_mask(everything)

    def restore(self, prediction: Prediction) -> list[Tensor]:
        """§6, head: resize (N, 1, m, m) to S × S, remove the padding, resize to N native maps (H_i, W_i), bilinear."""
        state = prediction.state
        return list(restore_each(prediction.mask_logits, prediction.images(), state.sizes, self.side, state.fitted))

    # -- §7 losses ---------------------------------------------------------------------------------------------------

    def target(self, masks: Sequence[Tensor]) -> Tensor:
        """§3: nearest resize of N masks with the image's aspect ratio to uint8 (N, 1, S, S), padded with 255."""
        return in_groups(lambda mask: fit_mask(mask, self.side, padding=IGNORED), masks)[:, None]

    def loss_terms(self, prediction: Prediction, target: Tensor) -> dict[str, Tensor]:
        """§7: return scalars: the terms with a weight other than 0, by name."""
        V = rows(prediction.state.features["siglip"], prediction.image_index)
        return self.losses(prediction.mask_logits, prediction.prompts, V, target)

    def losses(self, Z: Tensor, prompts: Prompts, V: Tensor, Y: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms.

        Args:
            Z: (N, 1, m, m) mask logits.
            prompts: of the N expressions.
            V: (N, C, h, w) SigLIP's features of their images.
            Y: uint8 (N, 1, S, S) of 0, 1, 255.
        """
        weight, aux = self.config.loss, prompts.aux
        as_value = weight.padding == "published"
        terms = {}
        if weight.bce:
            terms["loss_ce"] = weight.bce * binary_cross_entropy(Z, Y)
        if weight.dice:
            terms["loss_dice"] = weight.dice * squared_dice(Z, Y, as_value)
        if weight.dense and prompts.dense is not None:
            terms["loss_dense_ce"] = weight.dense * weight.bce * binary_cross_entropy(prompts.dense, Y)
            terms["loss_dense_dice"] = weight.dense * weight.dice * squared_dice(prompts.dense, Y, as_value)
        if weight.orthogonal:
            terms["loss_orthogonal"] = weight.orthogonal * squared_cosine(aux["q1"], aux["q2"])
        features, inside = self.compared(aux["refined"] if weight.map == "refined" else V, Y)
        if weight.contrastive:
            v, t = self.contrastive_vectors(features, inside, aux["q2"])
            term = batch_contrastive(v, t, self.logit_scale2, self.logit_bias2, weight.gather)
            terms["loss_contrastive"] = weight.contrastive * term
        if weight.mil:
            w = aux["sentence"] if weight.mil_text == "sentence" else aux["q2"]
            terms["loss_mil"] = weight.mil * multiple_instance(self.image_similarity(features, w), inside)
        if weight.heatmap:
            terms["loss_heatmap"] = weight.heatmap * heatmap_cross_entropy(aux["belief"], Y)
        return terms

    def compared(self, features: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
        """§7: resize features and label to the grid of contrastive and multiple-instance loss.

        Args:
            features: (N, C, h, w) of the N expressions.
            Y: uint8 (N, 1, S, S) of 0, 1, 255.

        Returns:
            The features (N, C, s, s) and the referent's cells, bool (N, 1, s, s), where s is ``loss.side``.
        """
        loss = self.config.loss
        grid = (loss.side, loss.side) if loss.side else features.shape[-2:]
        y = (Y if loss.padding == "published" else Y == 1).float()
        inside = F.interpolate(y, size=grid, mode="bilinear", align_corners=True) > 0.5
        if features.shape[-2:] != grid:
            features = F.interpolate(features, size=grid, mode="bilinear", align_corners=True)
        return features, inside

    @staticmethod
    def contrastive_vectors(features: Tensor, inside: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        """Return v and t (N, C), normalised: the referent's mean feature, 0 without a referent, and set 2's mean."""
        return F.normalize((features.float() * inside).mean((2, 3))), F.normalize(q2.float())

    def image_similarity(self, features: Tensor, w: Tensor) -> Tensor:
        """Return exp(s1) cos(feature, w) + b1, (N, 1, h, w), of features (N, C, h, w) and vectors (N, C)."""
        cosine = F.cosine_similarity(features.float(), w.float()[..., None, None], dim=1)
        return (self.logit_scale1.exp() * cosine + self.logit_bias1).unsqueeze(1)

    # -- speed -------------------------------------------------------------------------------------------------------

    def compiled_parts(self) -> dict[str, Part]:
        """Return the encoders, prompter and decoder."""
        parts = {
            "siglip_vision": Part(self.siglip.vision_model.encoder),
            "siglip_text": Part(self.siglip.text_model.encoder, {"0": (1,), "1": (2, 3)}),
            "sam_encoder": Part(self.sam.image_encoder),
            "prompter": Part(self.prompter, {"1.tokens": (1,)}),
        }
        if isinstance(self.sam, SAM2):
            return {**parts, "mask_decoder": Part(self.sam.sam_mask_decoder.transformer)}
        return {**parts, "mask_decoder": Part(self.sam.mask_decoder)}

    # -- diagnosis ---------------------------------------------------------------------------------------------------

    @classmethod
    def stock(cls, config: RSRefSeg2Config) -> SAM2Config | SAMConfig:
        """Return the backbone's sizes."""
        return config.mask_model

    def dense_truth(self, prompts: Prompts, truth: Tensor) -> Tensor | None:
        """Return the truth (N, 1, m, m) as log-odds; None if there is no dense prompt."""
        return None if prompts.dense is None else truth_as_logits(prompts.dense, truth)

    # -- §8 what is trained ------------------------------------------------------------------------------------------

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the encoders (only their adapters with LoRA), SAM's two small parts, all new parts."""
        scalars = [self.logit_scale1, self.logit_bias1, self.logit_scale2, self.logit_bias2]
        if isinstance(self.sam, SAM2):
            prompt_encoder, decoder = self.sam.sam_prompt_encoder, self.sam.sam_mask_decoder
            rest = [self.sam.no_mem_embed]
        else:
            prompt_encoder, decoder, rest = self.sam.prompt_encoder, self.sam.mask_decoder, []
        groups: dict[str, list[nn.Parameter]] = {
            "sam_encoder": list(self.sam.image_encoder.parameters()),
            "siglip_vision": list(self.siglip.vision_model.parameters()),
            "siglip_text": [*self.siglip.text_model.parameters(), self.siglip.logit_scale, self.siglip.logit_bias],
            "prompter": [*self.prompter.parameters(), *scalars],
            "prompt_encoder": list(prompt_encoder.parameters()),
            "mask_decoder": [*decoder.parameters(), *rest],
        }
        return {name: [p for p in group if p.requires_grad] for name, group in groups.items()}

    def inert_prefixes(self) -> dict[str, str]:
        """§8, last paragraph, and parameters that are unused with these settings."""
        prompter, loss = self.config.prompter, self.config.loss
        has_dense = prompter.dense_from != "none"
        by_sentence = prompter.dense_from == "sentence" or (not has_dense and loss.heatmap)
        prefix = "sam.sam_" if self.config.backbone == "sam2" else "sam."
        unused = "mask_downscaling" if not has_dense else "no_mask_embed"
        reasons = {
            "siglip.vision_model.head.": "the vision tower's pooling head feeds nothing",
            f"{prefix}prompt_encoder.point_embeddings.": "no points or boxes are given",
            f"{prefix}prompt_encoder.not_a_point_embed.": "no points or boxes are given",
            f"{prefix}prompt_encoder.{unused}.": "there is a mask prompt" if has_dense else "there is no mask prompt",
            f"{prefix}mask_decoder.iou_prediction_head.": "no loss reads the predicted IoU",
            f"{prefix}mask_decoder.pred_obj_score_head.": "no loss reads the object score",
        }
        if not loss.mil:
            reasons |= dict.fromkeys(("logit_scale1", "logit_bias1"), "the per-image loss is off")
        if not loss.contrastive:
            reasons |= dict.fromkeys(("logit_scale2", "logit_bias2"), "the contrastive loss is off")
        if not has_dense and not loss.heatmap:
            reasons |= dict.fromkeys(("siglip.logit_scale", "siglip.logit_bias"), "there is no mask prompt")
        if not by_sentence and not (loss.mil and loss.mil_text == "sentence"):
            reasons["siglip.text_model.head."] = "nothing reads the sentence vector"
        if not prompter.decomposition_depth:
            own = ("prompter.p1", "prompter.p2", "prompter.q1", "prompter.q2")
            reasons |= dict.fromkeys(own, "the words themselves are the queries")
        return reasons

    def adapted_parts(self) -> tuple[str, ...]:
        """§8: SigLIP's towers, which have inert parameters."""
        return ("siglip.vision_model.", "siglip.text_model.") if self.config.adapt == "lora" else ()


def _mean(queries: Tensor, hidden: Tensor | None) -> Tensor:
    """Mean (N, C) over the queries (N, K, C) that are not hidden (N, K)."""
    if hidden is None:
        return queries.mean(1)
    seen = (~hidden).to(queries.dtype)[..., None]
    return (queries * seen).sum(1) / seen.sum(1)
