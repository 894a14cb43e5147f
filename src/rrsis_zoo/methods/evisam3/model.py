"""EviSAM3: evidence gathered along SAM 3's trunk corrects the prompts of its decoder.

Duan, Wu, Zhang, Lu, Zhang, Liu, "EviSAM3: Evidence-Driven SAM3 for Referring Remote Sensing Image Segmentation",
NeurIPS 2026. Section numbers (§) and quirks (Q) are those of docs/methods/evisam3.md.
They have published neither weights nor their data module, so image statistics and filters are settings here.

Symbols: N expressions over M images, L words, h × w the trunk's map (72 × 72), g × g the union encoder's grid
(14 × 14), C union width, D trunk width, d adapter width, P prompt width (256), E evidence tokens (8); x trunk map,
s text sequence, e evidence memory, m fused mask token, z prompt logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.errors import unknown_name
from rrsis_zoo.methods.evisam3.card import CARD
from rrsis_zoo.methods.evisam3.weights import FOUNDATION_FILLERS, official_name
from rrsis_zoo.models.backbones import sam3
from rrsis_zoo.models.backbones.beit3 import BEIT3_MINI, BEiT3, BEiT3Config, UnionFeatures
from rrsis_zoo.models.backbones.sam3 import SAM3, SAM3_MINI, SAM3Config
from rrsis_zoo.models.base import ReferringSegmenter, check_images
from rrsis_zoo.models.configuration import Count, Natural, Share
from rrsis_zoo.models.layers.geometry import (
    normalise,
    resize,
    restore_each,
    stretch,
    stretch_mask,
    stretch_smoothly,
)
from rrsis_zoo.models.layers.norm import ChannelNorm
from rrsis_zoo.models.layers.precision import cast
from rrsis_zoo.models.layers.rotated import RotatedConv
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

HighPassLayout = Literal["published", "map"]
TextIds = Literal["published", "beit3"]
Padding = Literal["published", "hidden"]
ExpertStart = Literal["published", "open"]
Neck = Literal["detector", "tracker"]
Filter = Literal["bilinear", "antialias"]
Adapt = Literal["adapters", "full"]


@dataclass(frozen=True)
class EviSAM3Config:
    """Configuration of EviSAM3. Where a choice is named ``published``, the other one is recommended for own training.

    Attributes:
        sam, union: sizes of SAM 3 and of the union encoder.
        text_length: L, to which every sentence is cut and padded.
        text_ids: ``published`` reads piece k of the vocabulary from row k of BEiT-3's table, which pretraining filled
            for piece k - 1, without sentence marks, pads of id 0; ``beit3`` reads it as pretrained (Q1).
        padding: ``published`` lets the adapters and the evidence read padded words; ``hidden`` masks them (Q2).
        prior_heads: attention heads of the fused mask token.
        adapter_ratio: d / D, of evidence and MLP adapters.
        adapter_heads, evidence_tokens, evidence_heads: of the evidence adapters.
        momentum: share of the old evidence in the memory.
        pool: cells a side of the pooled map that the evidence is gathered from.
        text_step: share of an adapter's text in the text that it hands on.
        mlp_step: factor on the MLP adapters.
        high_pass: share of the spectrum's area that is cut out of the middle.
        high_pass_layout: ``published`` resizes the list of high-pass tokens as a picture of pixels × channels;
            ``map`` resizes the map itself (Q3).
        generator_ratio: D over the width of the prompt generator.
        extra_tokens: sparse tokens of the experts.
        temperature: of the router's softmax.
        groups: of the clutter expert's group norm.
        max_angle: bound of the rotated convolution's angle in degrees.
        router_dropout: of the rotated convolution's router, in training mode.
        expert_start: ``published`` starts gate and factors of the experts so near to 0 (2.5e-6) that they may never
            act; ``open`` starts the factors at 1 and the gate at 1/2 (Q6). The heads start at 0 either way.
        balance_weight: weight of the experts' balance value in the loss; computed and not used as published (Q7).
        prior: added to the initial biases of the prompt logits and of the mask's channel weights. 0 as published, which
            begins with "half of the image"; the tiny preset begins near "nothing".
        ce_weight, dice_weight: of the mask loss.
        heatmap_weight: weight of an auxiliary cross entropy on the prompt logits z; 0 in the paper, used by the tiny
            preset, whose random union encoder knows nothing of words and places.
        adapt: ``adapters`` freezes SAM 3's trunk and neck (published); ``full`` trains everything, for random weights.
        neck: which of SAM 3's two pyramids is loaded; the published program loads the detector's, the decoder was
            trained on the tracker's (Q11).
        sam_mask_tokens: load the first two rows of SAM 3's mask tokens, which the published program leaves random
            (Q10).
        image_mean, image_std: of the trunk's image. Not published; SAM 3's own.
        union_mean, union_std: of the union encoder's image. Not published; BEiT-3's own.
        image_filter: ``bilinear`` as OpenCV, ``antialias`` as Pillow. Not published.
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


# Every expression runs the whole trunk, so cells are few: 8 × 8, and masks of stride 4.
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
"""The paper's recipe in small: miniatures that were pretrained on synthetic scenes, SAM 3's trunk and neck frozen.

Where the program's choice is a defect (text ids, pads, high-pass layout, experts' start, neck, mask tokens), the other
one.
"""

TINY_256 = replace(
    TINY,
    sam=replace(TINY.sam, image_size=256, position_size=256, window=8),
    union=replace(TINY.union, image_size=256),
    text_length=48,
)


class EviSAM3(ReferringSegmenter):
    """EviSAM3 (§1): prior of the union encoder, evidence from SAM 3's trunk, experts, SAM 3's decoder.

    The sentence enters the trunk behind its first block and the experts need the evidence of its last one: hence
    ``encode`` ends at the first block and ``localise`` holds the rest of the trunk, once for every expression.
    """

    card = CARD
    foundation_fillers = FOUNDATION_FILLERS
    official_name = staticmethod(official_name)
    tokenizer_kind: ClassVar[type[Tokenizer]] = PieceTokenizer
    segment_only: ClassVar[frozenset[str]] = frozenset({"trunk"})
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
        """§3."""
        return self.config.union.vocabulary, self.config.text_length

    def tokenize(self, expressions: Sequence[str], text_mode: TextMode) -> Tokens:
        """§3: always padded to L, so that both text modes are one and no result depends on batch mates.

        The length is the sentence's own: nobody attends to pads in the union encoder, while the adapters read them
        (unless ``padding`` is ``hidden``).
        """
        tokens = self.tokenizer(expressions, "independent")
        ids = F.pad(tokens.ids, (0, self.config.text_length - tokens.ids.shape[1]))  # pads of any id are wiped out
        return Tokens(ids, tokens.length).to(self.device)

    @property
    def sides(self) -> tuple[int, int]:
        """§2 and §9."""
        return self.config.sam.image_size, 4 * self.config.sam.grid

    def prepare(self, images: Sequence[Tensor]) -> Views:
        """§2: the native image stretched to two squares, ``image`` (M, 3, S, S) and ``small``, normalised."""
        check_images(images)
        given = self.config
        sides = {
            "image": (given.sam.image_size, given.image_mean, given.image_std),
            "small": (given.union.image_size, given.union_mean, given.union_std),
        }
        square = {"bilinear": stretch, "antialias": stretch_smoothly}[given.image_filter]
        return {
            name: torch.stack([normalise(square(image.to(self.device), side), mean, std) for image in images])
            for name, (side, mean, std) in sides.items()
        }

    def encode(self, views: Views, sizes: Tensor) -> ImageState:
        """§6 as far as it is free of text.

        Features: ``x`` (M, h, w, D) behind block 0; ``high_pass_0`` … ``_3``, the prompt generator's pictures R;
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

        ``dense`` and ``heatmap`` are σ(z). ``aux``: ``z`` and the prior's ``z0`` (N, 1, g, g), ``correction`` z - z0,
        ``trunk`` (N, D, h, w), ``expert_weights`` (N, 3), ``expert_gate`` (N, 1), ``rectifications`` (N, depth, 2).
        """
        features = {name: rows(tensor, image_index) for name, tensor in state.features.items()}
        unread = unread_positions(tokens.length, tokens.ids.shape[1])
        prior: PriorAnswer = self.prior(self.union(features["small"], tokens.ids, unread))
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
        """§6: x (N, h, w, D) behind block 0 and T (N, L, P) -> x behind the last block, e (N, E, P), what is let in."""
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
        """§6.3 and §9: (N, 1, 4h, 4w)."""
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
        """§10: 4h × 4w -> S × S -> native, bilinear both times, aspect ratio not kept."""
        side = self.config.sam.image_size
        return list(restore_each(prediction.mask_logits, prediction.image_index, prediction.state.sizes, side))

    def target(self, masks: Sequence[Tensor]) -> Tensor:
        """§2: nearest resize to S × S (the published filter is not known)."""
        return torch.stack([stretch_mask(mask, self.config.sam.image_size)[None] for mask in masks])

    def loss_terms(self, prediction: Prediction, target: Tensor) -> dict[str, Tensor]:
        """§11: cross entropy and dice at S × S; the other terms only where the configuration gives them a weight."""
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

    # -- §12 what is trained -----------------------------------------------------------------------------------------

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """§12; what the program trains at its base rate is four groups here, two of which start from scratch.

        ``union``, ``mask_decoder`` (with the no-mask embedding), ``dense_projection`` and ``prompt_generator`` at the
        base rate; ``adapters`` (with the prior) and ``experts`` at theirs; ``trunk`` where everything trains.
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
        """§12, last paragraph but one."""
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
        """How far experts and rectifications act (Q6): they start at factors of 2.5e-6.

        ``expert_gate`` g and ``expert_gamma`` (batch means), ``expert_correction`` root mean square of z - z0 beside
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


# -- §5 prior ----------------------------------------------------------------------------------------------------------


@dataclass
class PriorAnswer:
    """§5: where the union encoder points.

    Attributes:
        m: (N, 1, C) fused mask token.
        base: (N, C, g, g) patch features weighed by it.
        z0: (N, 1, g, g) prompt logits.
        t_cls: (N, P) first sparse prompt.
        words: T (N, L, P), padded rows too.
    """

    m: Tensor
    base: Tensor
    z0: Tensor
    t_cls: Tensor
    words: Tensor


class Prior(nn.Module):
    """§5: the class token attends to the patches and weighs them."""

    def __init__(self, width: int, prompt_width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.mask_linear = nn.Linear(width, width)
        self.mask_product = nn.Linear(width, 1)
        self.text_hidden = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, prompt_width))
        self.text_feat_linear = nn.Linear(width, prompt_width)
        self.meo_linear = nn.Linear(width, prompt_width)  # these two are in the authors' checkpoints and never called
        self.text2one_linear = nn.Linear(prompt_width, 1)

    def forward(self, E: UnionFeatures) -> PriorAnswer:
        """Read the union encoder's output."""
        m = E.cls * self.attention(E.cls, E.patches)
        base = E.patches * self.mask_linear(m)
        z0 = self.mask_product(base)
        side = int(base.shape[1] ** 0.5)
        base, z0 = (tensor.transpose(1, 2).unflatten(2, (side, side)) for tensor in (base, z0))
        return PriorAnswer(m, base, z0, self.text_hidden(m).squeeze(1), self.text_feat_linear(E.words))


class Attention(nn.MultiheadAttention):
    """Multi-head attention on (N, ·, width) without maps of its weights."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, batch_first=True)

    def forward(self, q: Tensor, kv: Tensor, unread: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Let q attend to kv; ``unread`` (N, keys) bool marks keys that nobody attends to."""
        return super().forward(q, kv, kv, key_padding_mask=unread, need_weights=False)[0]


# -- §6 image encoder --------------------------------------------------------------------------------------------------


class PromptGenerator(nn.Module):
    """§6.1: high frequencies of the image and the tokens themselves become a prompt in front of every block.

    It comes with the SAM3-Adapter trunk that the authors start from, is trained, and the paper does not name it
    (Q4). The blocks are split into four stages; a remainder goes to the last one.
    """

    def __init__(self, config: EviSAM3Config) -> None:
        super().__init__()
        depth, grid, D = config.sam.depth, config.sam.grid, config.sam.width
        stages = min(4, depth)
        self.per_stage = depth // stages
        self.grid = grid
        self.layout = config.high_pass_layout
        width = D // config.generator_ratio
        self.high_pass = HighPass(config.high_pass)
        blocks = [self.per_stage] * (stages - 1) + [depth - self.per_stage * (stages - 1)]
        self.stages = nn.ModuleList(GeneratorStage(D, width, n, first=i == 0) for i, n in enumerate(blocks))

    def stage_of(self, block: int) -> int:
        """Return the stage of a block."""
        return min(block // self.per_stage, len(self.stages) - 1)

    def pictures(self, image: Tensor) -> list[Tensor]:
        """Return R_n of every stage for images (M, 3, S, S).

        Each (M, h, w, 1) as published: the list of tokens, a picture of pixels × channels, resized to h × w (Q3).
        With layout ``map`` (M, h, w, c).
        """
        size = (self.grid, self.grid)
        H, R = self.high_pass(image), []
        for stage in self.stages:
            H = stage.get_submodule("picture")(H)
            as_picture = H.flatten(2).transpose(1, 2).unsqueeze(1) if self.layout == "published" else H
            R.append(cast(resize(as_picture, size), as_picture).permute(0, 2, 3, 1))
        return R

    def forward(self, x: Tensor, R: Tensor, block: int) -> Tensor:
        """Return x + P(x) for the map (B, h, w, D) that enters a block."""
        stage = self.stages[self.stage_of(block)]
        return x + stage(x, R, block - self.stage_of(block) * self.per_stage)

    def surplus(self, prefix: str) -> list[str]:
        """Return the names of the lightweight layers that no block uses."""
        return [f"{prefix}stages.{i}.lightweight.{stage.blocks}." for i, stage in enumerate(self.stages)]


class HighPass(nn.Module):
    """Cut a square of ``share`` of the spectrum out of its middle and take the absolute value."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, image: Tensor) -> Tensor:
        """Filter (M, 3, S, S), in float32."""
        side = image.shape[-1]
        middle, half = side // 2, int((side * side * self.share) ** 0.5 // 2)
        spectrum = torch.fft.fftshift(torch.fft.fft2(image.float()), dim=(-2, -1))
        spectrum[..., middle - half : middle + half, middle - half : middle + half] = 0
        return torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1))).real.abs().to(image.dtype)


class GeneratorStage(nn.Module):
    """The layers that the blocks of one stage share, and a small one for each of them."""

    def __init__(self, width: int, small: int, blocks: int, first: bool) -> None:
        super().__init__()
        shrink = nn.Conv2d(3, small, 7, 4, 3) if first else nn.Conv2d(small, small, 3, 2, 1)
        self.picture = nn.Sequential(shrink, ChannelNorm(small))
        self.embedding = nn.Linear(width, small)
        self.lightweight = nn.ModuleList(nn.Linear(small, small) for _ in range(blocks + 1))  # one too many
        self.shared = nn.Linear(small, width)
        self.blocks = blocks
        nn.init.kaiming_normal_(shrink.weight, mode="fan_out", nonlinearity="relu")
        for layer in (self.embedding, *self.lightweight, self.shared):
            nn.init.trunc_normal_(layer.weight, std=0.02)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.zeros_(shrink.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, R: Tensor, r: int) -> Tensor:
        """Return P(x) of the stage's block r."""
        return self.shared(F.gelu(self.lightweight[r](R + self.embedding(x))))


class MLPAdapter(nn.Module):
    """Two linear layers with GELU between them, no skip."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (…, D)."""
        return self.up(F.gelu(self.down(x)))


@dataclass
class EvidenceStep:
    """§6.2: what an adapter hands on.

    Attributes:
        x: (N, h, w, D) trunk map.
        s: (N, L, P) text.
        e: (N, E, P) evidence memory.
        vision_opened, text_opened: (N,) gate times mean |LayerScale| of the two rectifications.
    """

    x: Tensor
    s: Tensor
    e: Tensor
    vision_opened: Tensor
    text_opened: Tensor


class EvidenceAdapter(nn.Module):
    """§6.2: vision and text read each other, evidence is gathered from both, and rectifies both."""

    def __init__(self, config: EviSAM3Config) -> None:
        super().__init__()
        D, P, heads = config.sam.width, config.sam.prompt_width, config.adapter_heads
        d = int(D * config.adapter_ratio)
        self.down, self.up = nn.Linear(D, d), nn.Linear(d, D)
        self.text_in, self.text_out = nn.Linear(P, d), nn.Linear(d, P)
        self.vision_from_text = Attention(d, heads)
        self.text_from_vision = Attention(d, heads)
        self.evidence_queries = nn.Parameter(torch.empty(config.evidence_tokens, 1, P))
        self.gather = Attention(P, config.evidence_heads)
        self.text_to_evidence = nn.Linear(d, P)
        self.vision_to_evidence = nn.Linear(d, P)
        self.evidence_to_hidden = nn.Linear(P, d)
        self.rectify_vision = Rectification(d, heads)
        self.rectify_text = Rectification(d, heads)
        self.momentum, self.pool, self.text_step = config.momentum, config.pool, config.text_step
        nn.init.normal_(self.evidence_queries, std=0.02)

    def forward(self, x: Tensor, s: Tensor, e: Tensor | None, unread: Tensor | None = None) -> EvidenceStep:
        """Apply to x (N, h, w, D), s (N, L, P), e (N, E, P); ``unread`` (N, L) marks words that are not read."""
        n, size = len(x), x.shape[1:3]
        a = F.gelu(self.down(x)).flatten(1, 2)
        u = self.text_in(s)
        a = a + self.vision_from_text(a, u, unread)
        u = u + self.text_from_vision(u, a)

        pooled = F.adaptive_avg_pool2d(a.transpose(1, 2).unflatten(2, size), self.pool).flatten(2).transpose(1, 2)
        M = torch.cat([s, self.text_to_evidence(u), self.vision_to_evidence(pooled)], 1)
        not_read = None if unread is None else F.pad(torch.cat([unread, unread], 1), (0, pooled.shape[1]))
        now = self.gather(self.evidence_queries.transpose(0, 1).expand(n, -1, -1), M, not_read)
        memory = now if e is None else self.momentum * e + (1 - self.momentum) * now

        v = self.evidence_to_hidden(memory)
        a, vision_opened = self.rectify_vision(a, v)
        u, text_opened = self.rectify_text(u, v)
        s = (1 - self.text_step) * s + self.text_step * self.text_out(u)
        return EvidenceStep(x + self.up(a).unflatten(1, size), s, memory, vision_opened, text_opened)


class Rectification(nn.Module):
    """a + gate · LayerScale ⊙ norm(a attends to the evidence); gate and scale start near 0 (2.5e-6 together)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 1)
        self.scale = nn.Parameter(torch.full((width,), 1e-3))
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, -6.0)

    def forward(self, a: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Rectify a (N, ·, d) with the evidence v (N, E, d); also return how far it acts, (N,)."""
        gate = self.gate(v.mean(1)).sigmoid()  # (N, 1)
        a = a + gate[:, None] * self.scale * self.norm(self.attention(a, v))
        return a, gate.squeeze(1) * self.scale.abs().mean()


# -- §7 experts --------------------------------------------------------------------------------------------------------


@dataclass
class ExpertAnswer:
    """§7: what the experts add to the prior, before gate and factors.

    Attributes:
        delta: δ (N, 1, g, g), for the prompt logits.
        tokens: τ (N, extra, P), sparse prompts.
        weights: w (N, 3), the router's mixture of detail, elongated, clutter.
        gate: g (N, 1).
    """

    delta: Tensor
    tokens: Tensor
    weights: Tensor
    gate: Tensor


class ExpertPrompting(nn.Module):
    """§7: the evidence chooses among three experts, which correct the prior's prompts."""

    def __init__(self, config: EviSAM3Config) -> None:
        super().__init__()
        C, P = config.union.width, config.sam.prompt_width
        self.temperature = config.temperature
        self.extra = config.extra_tokens
        self.router = nn.Sequential(nn.Linear(2 * P, P), nn.GELU(), nn.Linear(P, 3))
        self.gate_fc = nn.Linear(2 * P, 1)
        self.beta_text = nn.Parameter(torch.tensor(0.0))
        self.gamma, self.gamma_tok = nn.Parameter(torch.tensor(1e-3)), nn.Parameter(torch.tensor(1e-3))
        detail = nn.Sequential(nn.Conv2d(C, C, 3, padding=1, groups=C), nn.GELU(), nn.Conv2d(C, C, 1), nn.GELU())
        self.experts = nn.ModuleList(
            [
                detail,
                ElongatedExpert(C, config.max_angle, config.router_dropout),
                nn.Sequential(nn.Conv2d(C, C, 1), nn.GELU()),
            ]
        )
        self.clutter_norm = nn.GroupNorm(config.groups, C)
        self.dense_heads = nn.ModuleList(nn.Conv2d(C, 1, 1) for _ in self.experts)
        self.token_heads = nn.ModuleList(nn.Linear(C, self.extra * P) for _ in self.experts)
        for head in (*self.dense_heads, *self.token_heads):
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.gate_fc.weight)
        nn.init.constant_(self.gate_fc.bias, -6.0)
        if config.expert_start == "open":
            nn.init.zeros_(self.gate_fc.bias)
            nn.init.ones_(self.gamma)
            nn.init.ones_(self.gamma_tok)

    def forward(self, base: Tensor, e: Tensor, t_cls: Tensor) -> ExpertAnswer:
        """Answer base (N, C, g, g), the last evidence (N, E, P) and t_cls (N, P)."""
        r = torch.cat([e.mean(1), self.beta_text * t_cls], 1)
        w = (self.router(r) / self.temperature).softmax(1)
        gate = self.gate_fc(r).sigmoid()
        seen = (base, base, self.clutter_norm(base))
        answers = [expert(x) for expert, x in zip(self.experts, seen, strict=True)]
        dense = torch.stack([head(x) for head, x in zip(self.dense_heads, answers, strict=True)], 1)
        tokens = torch.stack([head(x.mean((-2, -1))) for head, x in zip(self.token_heads, answers, strict=True)], 1)
        delta = torch.einsum("nk,nkchw->nchw", w, dense)
        return ExpertAnswer(delta, torch.einsum("nk,nkp->np", w, tokens).unflatten(1, (self.extra, -1)), w, gate)


class ElongatedExpert(nn.Module):
    """x + 0.1 of two rotated convolutions between two 1 × 1 convolutions."""

    step = 0.1

    def __init__(self, width: int, max_angle: float, dropout: float) -> None:
        super().__init__()
        self.pre = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.GELU())
        self.arc1 = RotatedConv(width, width, max_angle=max_angle, dropout=dropout)
        self.arc2 = RotatedConv(width, width, max_angle=max_angle, dropout=dropout)
        self.post = nn.Sequential(nn.GELU(), nn.Conv2d(width, width, 1, bias=False), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (N, C, g, g)."""
        return x + self.step * self.post(self.arc2(F.gelu(self.arc1(self.pre(x)))))


def balance(weights: Tensor) -> Tensor:
    """3 Σ_k (mean over the batch of w_k)² for weights (N, 3): 1 when all experts are used alike, at most 3 (§7)."""
    return weights.shape[1] * weights.mean(0).square().sum()
