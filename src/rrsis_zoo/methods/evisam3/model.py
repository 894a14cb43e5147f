"""EviSAM3: evidence gathered along SAM 3's trunk corrects the prompts of its decoder.

Duan, Wu, Zhang, Lu, Zhang, Liu, "EviSAM3: Evidence-Driven SAM3 for Referring Remote Sensing Image Segmentation",
NeurIPS 2026. Section numbers (§) and quirks (Q) are those of docs/methods/evisam3.md.
The authors have published neither weights nor their data module, so image statistics and filters are settings here.

Symbols: N expressions over M images, L words, h × w the trunk's map (72 × 72), g × g the union encoder's grid
(14 × 14), C union width, D trunk width, d adapter width, P prompt width (256), E evidence tokens (8); x trunk map,
s text sequence, e evidence memory, m fused mask token, z prompt logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.methods.evisam3.card import CARD
from rrsis_zoo.methods.evisam3.config import MINI, TINY, TINY_256, EviSAM3Config
from rrsis_zoo.methods.evisam3.evidence import EvidenceAdapter, EvidenceStep, MLPAdapter
from rrsis_zoo.methods.evisam3.experts import ExpertAnswer, ExpertPrompting, balance
from rrsis_zoo.methods.evisam3.prior import Prior, PriorAnswer
from rrsis_zoo.methods.evisam3.prompt_generator import PromptGenerator
from rrsis_zoo.methods.evisam3.weights import FOUNDATION_FILLERS, official_name
from rrsis_zoo.models.backbones.beit3 import BEiT3
from rrsis_zoo.models.backbones.sam3 import SAM3
from rrsis_zoo.models.base import ReferringSegmenter, check_images
from rrsis_zoo.models.compiling import Part
from rrsis_zoo.models.layers.geometry import (
    normalise,
    resize,
    restore_each,
    stretch,
    stretch_mask,
    stretch_smoothly,
)
from rrsis_zoo.models.layers.host import in_groups
from rrsis_zoo.models.layers.precision import cast
from rrsis_zoo.models.layers.rows import rows
from rrsis_zoo.models.losses import binary_cross_entropy, dice, heatmap_cross_entropy
from rrsis_zoo.models.tokenizers import BEiT3Tokenizer, PieceTokenizer
from rrsis_zoo.models.types import (
    ImageState,
    Prediction,
    Prompts,
    TextMode,
    Tokenizer,
    Tokens,
    Views,
    unread_positions,
)


class EviSAM3(ReferringSegmenter):
    """EviSAM3 (§1): prior from the union encoder, evidence from SAM 3's trunk, experts, SAM 3's decoder.

    The sentence enters the trunk after its first block and the experts need the evidence of the last one: so ``encode``
    ends after the first block, and ``localise`` runs the rest of the trunk for every expression.
    """

    card = CARD
    foundation_fillers = FOUNDATION_FILLERS
    official_name = staticmethod(official_name)
    tokenizer_kind: ClassVar[type[Tokenizer]] = PieceTokenizer
    segment_only: ClassVar[frozenset[str]] = frozenset({"trunk"})
    needs_referent: ClassVar[frozenset[str]] = frozenset({"loss_dice"})  # 1 for an empty mask, nearly without gradient
    presets: ClassVar[dict[str, EviSAM3Config]] = {
        "large": EviSAM3Config(),
        "tiny": TINY,
        "tiny256": TINY_256,
        "mini": MINI,
    }

    def __init__(self, config: EviSAM3Config) -> None:
        super().__init__()
        self.config = config
        if config.text_ids == "beit3":
            self.tokenizer_kind = BEiT3Tokenizer  # type: ignore[misc] - this model's, not the class's
        C, D, P = config.union.width, config.sam.width, config.sam.prompt_width
        self.union = BEiT3(config.union)
        self.prior = Prior(C, P, config.prior_heads)
        self.sam = SAM3(config.sam)
        self.prompt_generator = PromptGenerator(config)
        self.evidence_adapters = nn.ModuleList(EvidenceAdapter(config) for _ in range(config.sam.depth))
        self.mlp_adapters = nn.ModuleList(MLPAdapter(D, int(D * config.adapter_ratio)) for _ in range(config.sam.depth))
        self.experts = ExpertPrompting(config)
        self.dense_projection = nn.Sequential(nn.Conv2d(1, P, 1), nn.GELU(), nn.Conv2d(P, P, 1))
        self.no_mask_embed = nn.Embedding(1, P)
        with torch.no_grad():
            self.prior.mask_product.bias.add_(config.prior)
            self.sam.mask_decoder.get_parameter("output_hypernetworks_mlps.0.proj_out.bias").add_(config.prior)
        if config.adapt == "adapters":
            self.sam.trunk.requires_grad_(False)
            self.sam.neck.requires_grad_(False)
        self.freeze_inert_parameters()

    # -- §2-3 inputs -------------------------------------------------------------------------------------------------

    @property
    def text_limits(self) -> tuple[int, int]:
        """§3: rows of the token table, and L."""
        return self.config.union.vocabulary, self.config.text_length

    def tokenize(self, expressions: Sequence[str], text_mode: TextMode) -> Tokens:
        """§3: always padded to L, so that both text modes are the same and results do not depend on the batch.

        The length is the sentence's own: the union encoder does not attend to pads, while the adapters read them
        (unless ``padding`` is ``hidden``).
        """
        tokens = self.tokenizer(expressions, "independent")
        # the id of the pads does not matter
        ids = F.pad(tokens.ids, (0, self.config.text_length - tokens.ids.shape[1]))
        return Tokens(ids, tokens.length, independent=True).to(self.device)

    @property
    def sides(self) -> tuple[int, int]:
        """§2 and §9: S, and 4h."""
        return self.config.sam.image_size, 4 * self.config.sam.grid

    def prepare(self, images: Sequence[Tensor]) -> Views:
        """§2: stretch the images to two squares, ``image`` (M, 3, S, S) and ``small`` (M, 3, 224, 224); normalise."""
        check_images(images)
        config = self.config
        sides = {
            "image": (config.sam.image_size, config.image_mean, config.image_std),
            "small": (config.union.image_size, config.union_mean, config.union_std),
        }
        square = {"bilinear": stretch, "antialias": stretch_smoothly}[config.image_filter]
        images = [image.to(self.device) for image in images]
        return {
            name: normalise(in_groups(partial(square, side=side), images), mean, std)
            for name, (side, mean, std) in sides.items()
        }

    def encode(self, views: Views, sizes: Tensor) -> ImageState:
        """§6 as far as it does not need text.

        Features: ``x`` (M, h, w, D) after block 0; ``high_pass_0`` … ``_3``, the prompt generator's pictures R;
        ``small`` (M, 3, 224, 224), because the union encoder reads image and words together.
        """
        x, R = self.sam.trunk.embed(views["image"]), self.prompt_generator.pictures(views["image"])
        x = self.sam.trunk.layers[0](self.prompt_generator(x, R[0], block=0))
        pictures = {f"high_pass_{n}": picture for n, picture in enumerate(R)}
        side = self.config.sam.image_size
        return ImageState({"x": x, **pictures, "small": views["small"]}, sizes, torch.full_like(sizes, side))

    # -- §4-9 forward ------------------------------------------------------------------------------------------------

    def localise(self, state: ImageState, tokens: Tokens, image_index: Tensor) -> Prompts:
        """§4-7: prior, trunk, experts.

        ``sparse`` (N, 1 + extra, P). ``dense`` and ``heatmap`` are σ(z), (N, 1, g, g). ``aux``: ``z``, the prior's
        ``z0`` and ``correction`` z - z0 (N, 1, g, g), ``trunk`` (N, D, h, w), ``expert_weights`` (N, 3),
        ``expert_gate`` (N, 1), ``rectifications`` (N, depth, 2).
        """
        features = {name: rows(tensor, image_index) for name, tensor in state.features.items()}
        unread = unread_positions(tokens.length, tokens.ids.shape[1])
        hidden = None if tokens.complete(self.steady) else unread
        prior: PriorAnswer = self.prior(self.union(features["small"], tokens.ids, hidden))
        R = [features[f"high_pass_{n}"] for n in range(len(self.prompt_generator.stages))]
        x, e, rectifications = self._trunk(features["x"], prior.words, R, unread)
        experts: ExpertAnswer = self.experts(prior.base, e, prior.t_cls)

        correction = self.experts.gamma * experts.gate[:, :, None, None] * experts.delta
        z = prior.z0 + correction
        extra = self.experts.gamma_tok * experts.gate[:, :, None] * experts.tokens
        aux = {
            "z": z,
            "z0": prior.z0,
            "correction": correction,
            "trunk": x.permute(0, 3, 1, 2),
            "expert_weights": experts.weights,
            "expert_gate": experts.gate,
            "rectifications": rectifications,
        }
        p = z.sigmoid()
        return Prompts(torch.cat([prior.t_cls.unsqueeze(1), extra], 1), dense=p, heatmap=p, aux=aux)

    def _trunk(self, x: Tensor, words: Tensor, R: Sequence[Tensor], unread: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """§6: from x (N, h, w, D) after block 0 and T (N, L, P) to x after the last block, e (N, E, P) and gates."""
        s, e = words, None
        unread_words = unread if self.config.padding == "hidden" else None
        opened = []
        for i, block in enumerate(self.sam.trunk.layers):
            if i:
                stage = self.prompt_generator.stage_of(i)
                x = block(self.prompt_generator(x, R[stage], block=i))
            step: EvidenceStep = self.evidence_adapters[i](x, s, e, unread_words)
            x, s, e = step.x, step.s, step.e
            norm = block.get_submodule("layer_norm2")  # the block's own, a second time
            x = x + self.config.mlp_step * self.mlp_adapters[i](norm(x))
            opened.append(torch.stack([step.vision_opened, step.text_opened], -1))
        assert e is not None
        return x, e, torch.stack(opened, 1)

    def segment(self, state: ImageState, prompts: Prompts, image_index: Tensor) -> Tensor:
        """§6.3 and §9: return the mask's log-odds (N, 1, 4h, 4w)."""
        return self.decode(prompts)[0]

    def decode(self, prompts: Prompts) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mask (N, 1, 4h, 4w), its predicted IoU (N, 1) and the object score (N, 1), the last two unused."""
        pyramid = self.sam.pyramid(prompts.aux["trunk"])
        return self.sam.mask_decoder(pyramid, self.sam.code(), prompts.sparse, self.dense_embedding(prompts))

    def dense_embedding(self, prompts: Prompts) -> Tensor:
        """§9: σ(z) (N, 1, g, g) as SAM 3's dense prompt (N, P, h, w); SAM's own mask encoder is not used."""
        assert prompts.dense is not None
        side = self.config.sam.grid
        dense = cast(resize(prompts.dense, (side, side)), prompts.dense)
        return self.dense_projection(dense) + self.no_mask_embed.weight[..., None, None]

    # -- §10-11 inference and loss -----------------------------------------------------------------------------------

    def restore(self, prediction: Prediction) -> list[Tensor]:
        """§10: resize (N, 1, 4h, 4w) to S × S and then to N native maps (H_i, W_i), both bilinear."""
        side = self.config.sam.image_size
        return list(restore_each(prediction.mask_logits, prediction.images(), prediction.state.sizes, side))

    def target(self, masks: Sequence[Tensor]) -> Tensor:
        """§2: nearest resize of N masks to uint8 (N, 1, S, S) (the published filter is not known)."""
        return in_groups(lambda mask: stretch_mask(mask, self.config.sam.image_size), masks)[:, None]

    def loss_terms(self, prediction: Prediction, target: Tensor) -> dict[str, Tensor]:
        """§11: return scalars: cross entropy and dice at S × S; the other terms only if they have a weight."""
        config, aux = self.config, prediction.prompts.aux
        side = config.sam.image_size
        logits = resize(prediction.mask_logits.float(), (side, side))
        terms = {
            "loss_ce": config.ce_weight * binary_cross_entropy(logits, target),
            "loss_dice": config.dice_weight * dice(logits, target),
        }
        if config.balance_weight:
            terms["loss_balance"] = config.balance_weight * balance(aux["expert_weights"])
        if config.heatmap_weight:
            terms["loss_heatmap"] = config.heatmap_weight * heatmap_cross_entropy(aux["z"], target)
        return terms

    # -- speed -------------------------------------------------------------------------------------------------------

    def compiled_parts(self) -> dict[str, Part]:
        """Return the union encoder, prior, experts, decoder, and the trunk's blocks with their adapters."""
        parts = {
            "union": Part(self.union, {"1": (1,), "2": (1,)}),
            "prior": Part(self.prior),
            "experts": Part(self.experts),
            "mask_decoder": Part(self.sam.mask_decoder),
        }
        for i, block in enumerate(self.sam.trunk.layers):
            parts[f"block{i}"] = Part(block)
            parts[f"adapter{i}"] = Part(self.evidence_adapters[i])
        return parts

    # -- diagnosis ---------------------------------------------------------------------------------------------------

    def dense_truth(self, prompts: Prompts, truth: Tensor) -> Tensor | None:
        """Return the truth (N, 1, g, g) itself: the dense prompt is a probability."""
        assert prompts.dense is not None
        return truth.to(prompts.dense.dtype)

    # -- §12 what is trained -----------------------------------------------------------------------------------------

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """§12; the program's base rate covers four groups here, two of which start from scratch.

        ``union``, ``mask_decoder`` (with the no-mask embedding), ``dense_projection`` and ``prompt_generator`` at the
        base rate; ``adapters`` (with the prior) and ``experts`` at their own rates; ``trunk`` if everything trains.
        """
        groups: dict[str, list[nn.Parameter]] = {
            "union": list(self.union.parameters()),
            "mask_decoder": [*self.sam.mask_decoder.parameters(), *self.no_mask_embed.parameters()],
            "dense_projection": list(self.dense_projection.parameters()),
            "prompt_generator": list(self.prompt_generator.parameters()),
            "adapters": [
                p for module in (self.evidence_adapters, self.mlp_adapters, self.prior) for p in module.parameters()
            ],
            "experts": list(self.experts.parameters()),
        }
        if self.config.adapt == "full":
            groups["trunk"] = [*self.sam.trunk.parameters(), *self.sam.neck.parameters()]
        return {name: [p for p in group if p.requires_grad] for name, group in groups.items()}

    def inert_prefixes(self) -> dict[str, str]:
        """§12, second to last paragraph."""
        last = f"evidence_adapters.{self.config.sam.depth - 1}."
        reasons = {
            "prior.meo_linear.": "a leftover of the authors' program that nothing calls",
            "prior.text2one_linear.": "a leftover of the authors' program that nothing calls",
            "sam.mask_decoder.iou_prediction_head.": "the predicted IoU is not used",
            "sam.mask_decoder.pred_obj_score_head.": "the object score is not used",
            f"{last}rectify_text.": "the text that leaves the last block is dropped",
            f"{last}text_out.": "the text that leaves the last block is dropped",
            **dict.fromkeys(self.prompt_generator.surplus("prompt_generator."), "each stage owns a layer too many"),
        }
        if self.config.adapt == "full":
            reasons["sam.neck.fpn_layers.3."] = "the pyramid's coarsest level is not used"
        return reasons

    def readings(self, prediction: Prediction) -> dict[str, Tensor]:
        """Return the strength of experts and rectifications (Q6), which start with factors of 2.5e-6.

        ``expert_gate`` g and ``expert_gamma`` (batch means), ``expert_correction`` root mean square of z - z0, with
        ``prior_spread``, the standard deviation of z0; ``extra_token`` norm of the experts' sparse tokens;
        ``rectify_vision``, ``rectify_text``: mean over adapters of gate · |LayerScale|.
        """
        aux = prediction.prompts.aux
        vision, text = aux["rectifications"].detach().float().mean((0, 1)).unbind()
        return {
            "expert_gate": aux["expert_gate"].detach().mean(),
            "expert_gamma": self.experts.gamma.detach().clone(),
            "expert_correction": aux["correction"].detach().float().square().mean().sqrt(),
            "prior_spread": aux["z0"].detach().float().std(),
            "extra_token": prediction.prompts.sparse[:, 1:].detach().float().norm(dim=-1).mean(),
            "rectify_vision": vision,
            "rectify_text": text,
        }
