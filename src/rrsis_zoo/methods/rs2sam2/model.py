"""RS2-SAM2: a union encoder localises, and SAM 2 reads the sentence in every block of its trunk.

F. Rong, M. Lan, Q. Zhang, L. Zhang, "RS2-SAM2: Customized SAM2 for Referring Remote Sensing Image Segmentation", AAAI
2026, arXiv 2503.07266. Implemented from a description of the published program, which is the reference where it differs
from the paper; the differences are noted in place::

    image 224 ─┐
    sentence ──┴─ union encoder ─┬─ class token, patches ─ mask prompt generator ─ pseudo-mask ─ dense prompt
                                 ├─ class token ─ sparse prompt
                                 └─ words T ─┐
    image 1024 ── Hiera with fusion in every block ─ neck ─ × cross-attention with T ─ mask decoder ─ p

Symbols: N pairs, L words, C width of the union encoder, D prompt width, S side of SAM 2's input, g side of its image
embedding; E = [cls | V | X] the union encoder's output, T the words at width D, p the foreground logit, w the weight of
the boundary loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.methods.rs2sam2.card import CARD
from rrsis_zoo.methods.rs2sam2.weights import FOUNDATION_FILLERS, official_name
from rrsis_zoo.models.backbones.beit3 import BEIT3_MINI, BEiT3, BEiT3Config
from rrsis_zoo.models.backbones.sam2 import PIXEL_MEAN, PIXEL_STD, SAM2, SAM2_MINI, Pyramid, SAM2Config, TextTrunk
from rrsis_zoo.models.base import ReferringSegmenter, check_images
from rrsis_zoo.models.compiling import Part
from rrsis_zoo.models.layers.geometry import normalise, resize, restore_each, stretch_mask_centred, stretch_smoothly
from rrsis_zoo.models.layers.host import constant, in_groups
from rrsis_zoo.models.layers.precision import cast
from rrsis_zoo.models.layers.rows import rows
from rrsis_zoo.models.losses import heatmap_cross_entropy
from rrsis_zoo.models.tokenizers import BEiT3Tokenizer
from rrsis_zoo.models.types import ImageState, Prediction, Prompts, Tokens, Views, unread_positions

CE_WEIGHTS = (0.9, 1.1)  # of background and foreground, from RMSIN's program; not in the paper
HEADS = 8  # of the mask prompt generator and of the fusion after the encoder


@dataclass(frozen=True)
class RS2SAM2Config:
    """Configuration of RS2-SAM2.

    Attributes:
        union: sizes of the union encoder.
        sam: sizes of SAM 2.
        adapt: ``adapters`` trains everything except SAM 2's trunk and neck (published); ``full`` trains everything, for
            random weights.
        ce_weight, dice_weight, boundary_weight: weights of the three losses; the published program's. The paper gives
            1 for the first.
        boundary_mask: compared with the truth by the boundary loss: ``hard``, the thresholded mask, is published and
            gives the mask no gradient at all; ``soft``, the probability, does.
        boundary_pairs: ``all``: every sample's weight is combined with every sample's boundaries in a batch, as in the
            published program; ``own``: only with its own. The same for a batch of one, which was published.
        dice_over: ``sum`` over the samples of a batch (published) or their ``mean``. The same for a batch of one.
        pseudo_mask_weight: weight of an auxiliary cross entropy on the pseudo-mask; 0 in the paper, used by the tiny
            presets, whose random union encoder knows nothing about words and locations.
        prior: initial log-odds of the pseudo-mask and initial bias of the mask's channel weights; 0 and PyTorch's
            defaults are published, the tiny presets start close to "nothing".
    """

    union: BEiT3Config = field(default_factory=BEiT3Config)
    sam: SAM2Config = field(default_factory=SAM2Config)
    adapt: Literal["adapters", "full"] = "adapters"
    ce_weight: float = 0.9
    dice_weight: float = 0.1
    boundary_weight: float = 0.2
    boundary_mask: Literal["hard", "soft"] = "hard"
    boundary_pairs: Literal["all", "own"] = "all"
    dice_over: Literal["sum", "mean"] = "sum"
    pseudo_mask_weight: float = 0.0
    prior: float = 0.0


TINY = RS2SAM2Config(
    union=BEiT3Config(
        image_size=96, patch_size=8, width=64, depth=2, heads=4, mlp_width=128, vocabulary=512, text_positions=66
    ),
    sam=SAM2Config(
        image_size=128,
        width=32,
        heads=1,
        stages=(1, 1, 2, 1),
        windows=(8, 4, 8, 4),
        global_blocks=(3,),
        prompt_width=64,
        decoder_mlp_width=128,
        decoder_heads=4,
        iou_width=32,
    ),
    adapt="full",
    boundary_pairs="own",
    dice_over="mean",
    dice_weight=0.5,
    pseudo_mask_weight=5.0,
    prior=-3.0,
)

MINI = RS2SAM2Config(union=BEIT3_MINI, sam=SAM2_MINI, boundary_pairs="own")
"""The paper's recipe in small: miniatures pretrained on synthetic scenes, with a frozen trunk."""

TINY_256 = replace(
    TINY,
    union=replace(TINY.union, image_size=224, patch_size=16),
    sam=replace(TINY.sam, image_size=256, windows=(8, 4, 16, 8)),
)


class RS2SAM2(ReferringSegmenter):
    """RS2-SAM2: localise with the union encoder, segment with a text-conditioned SAM 2."""

    card = CARD
    foundation_fillers = FOUNDATION_FILLERS
    official_name = staticmethod(official_name)
    tokenizer_kind = BEiT3Tokenizer
    needs_referent: ClassVar[frozenset[str]] = frozenset()  # cross entropy and Dice are over the background too
    max_expressions = 8  # each runs the trunk, about half a gigabyte at 1024 px
    presets: ClassVar[dict[str, RS2SAM2Config]] = {
        "l": RS2SAM2Config(),
        "tiny": TINY,
        "tiny256": TINY_256,
        "mini": MINI,
    }

    def __init__(self, config: RS2SAM2Config) -> None:
        super().__init__()
        self.config = config
        C, D = config.union.width, config.sam.prompt_width
        self.union = BEiT3(config.union)
        self.sam = SAM2(config.sam, partial(TextTrunk, text_width=D))
        self.sparse_head = nn.Sequential(nn.Linear(C, C), nn.ReLU(), nn.Linear(C, D))
        self.word_head = nn.Linear(C, D)
        self.boundary_head = nn.Linear(D, 1)
        self.mask_prompt = MaskPromptGenerator(C)
        self.post_fusion = nn.MultiheadAttention(D, HEADS, batch_first=True)
        if config.prior:
            self._begin_near_nothing(config.prior)
        if config.adapt == "adapters":
            self._freeze_trunk()
        self.freeze_inert_parameters()

    def _begin_near_nothing(self, prior: float) -> None:
        nn.init.constant_(self.mask_prompt.product.bias, prior)
        first_mask = self.sam.sam_mask_decoder.get_submodule("output_hypernetworks_mlps.0.layers.2")
        assert isinstance(first_mask, nn.Linear)
        nn.init.constant_(first_mask.bias, prior)

    def _freeze_trunk(self) -> None:
        """Freeze Hiera's own weights and the neck's; fusion layers and adapters are new."""
        for name, parameter in self.sam.image_encoder.named_parameters():
            if not is_new(name):
                parameter.requires_grad_(False)

    # -- inputs ------------------------------------------------------------------------------------------------------

    @property
    def text_limits(self) -> tuple[int, int]:
        """Rows of the token table, and L; the published program sets no limit and fails beyond its position table."""
        return self.config.union.vocabulary, self.config.union.max_length

    @property
    def sides(self) -> tuple[int, int]:
        """1024 and 256 as published."""
        return self.config.sam.image_size, 4 * self.config.sam.grid

    def prepare(self, images: Sequence[Tensor]) -> Views:
        """Resize every native image twice, anti-aliased, without aspect ratio, normalised with ImageNet's statistics.

        (BEiT-3 itself was trained with mean and deviation 0.5.)

        Returns:
            ``image`` (M, 3, S, S) for SAM 2 and ``small`` (M, 3, 224, 224) for the union encoder, normalised.
        """
        check_images(images)
        images = [image.to(self.device) for image in images]
        sides = {"image": self.config.sam.image_size, "small": self.config.union.image_size}
        square = {name: in_groups(partial(stretch_smoothly, side=side), images) for name, side in sides.items()}
        return {name: normalise(image, PIXEL_MEAN, PIXEL_STD) for name, image in square.items()}

    def encode(self, views: Views, sizes: Tensor) -> ImageState:
        """Keep the views: both encoders read the sentence from their first layer on, so nothing precedes it."""
        return ImageState(dict(views), sizes, torch.full_like(sizes, self.config.sam.image_size))

    # -- union encoder and mask prompt generator ---------------------------------------------------------------------

    def localise(self, state: ImageState, tokens: Tokens, image_index: Tensor) -> Prompts:
        """Read image and sentence together.

        Pads and *unknown pieces* share id 3 and are hidden from the union encoder's attention. All later parts see
        unknown pieces, and in text mode ``published`` also pads.

        Returns:
            One sparse token (N, 1, D) from the class token, the pseudo-mask resized to (N, 1, 4g, 4g) as dense prompt –
            a probability, while SAM 2's own convention is a logit – and on the union encoder's grid as heat map
            (N, 1, grid, grid); words T (N, L, D); ``aux``: ``pseudo_mask_logits`` (N, 1, grid, grid), the boundary
            loss's weight ``w`` (N,), and ``unread`` (N, L) bool, words that the segmenter must not read.
        """
        pad = BEiT3Tokenizer.pad_id
        some = (self.steady and tokens.independent) or bool((tokens.on_host().ids == pad).any())
        hidden = tokens.ids == pad if some else None
        E = self.union(rows(state.features["small"], image_index), tokens.ids, hidden)
        words = self.word_head(E.words)  # T
        logits = self.mask_prompt(E.cls, E.patches)
        pseudo_mask = logits.sigmoid()
        side = self.config.sam.mask_size
        aux = {
            "pseudo_mask_logits": logits,
            "w": self.boundary_head(words[:, 0]).squeeze(-1),
            "unread": unread_positions(tokens.length, tokens.ids.shape[1]),
        }
        return Prompts(
            self.sparse_head(E.cls),
            cast(resize(pseudo_mask, (side, side)), pseudo_mask),
            pseudo_mask,
            words,
            aux,
            complete=tokens.complete(self.steady),
        )

    # -- SAM 2 with text ---------------------------------------------------------------------------------------------

    def segment(self, state: ImageState, prompts: Prompts, image_index: Tensor) -> Tensor:
        """Return log-odds 2p − 1 (N, 1, 4g, 4g).

        The program's two channels are [1 − p, p], so that its probability is sigmoid(2p − 1) and its decision p > 0.5.
        """
        p = self.decode(rows(state.features["image"], image_index), prompts, unread_words(prompts))
        return 2 * p - 1

    def decode(self, image: Tensor, prompts: Prompts, unread: Tensor | None) -> Tensor:
        """Return the foreground logit p (N, 1, 4g, 4g), always of the first mask token.

        Args:
            image: (N, 3, S, S), normalised.
            prompts: of N pairs.
            unread: (N, L) bool, words that are not read; None for none.
        """
        return self.prompted(self._embedded(image, prompts, unread), prompts)

    def embed(self, image: Tensor, prompts: Prompts) -> Pyramid:
        """Return the decoder's input for N images (N, 3, S, S) and the words of N expressions."""
        return self._embedded(image, prompts, unread_words(prompts))

    def _embedded(self, image: Tensor, prompts: Prompts, unread: Tensor | None) -> Pyramid:
        assert prompts.words is not None
        encoder = self.sam.image_encoder
        pyramid = self.sam.pyramid(encoder.neck(encoder.trunk(image, prompts.words, unread)))
        return pyramid._replace(embedding=self.fuse_after(pyramid.embedding, prompts.words, unread))

    def prompted(self, pyramid: Pyramid, prompts: Prompts) -> Tensor:
        """Return the foreground logit p (N, 1, 4g, 4g) of the decoder's input with sparse and dense prompts."""
        assert prompts.dense is not None
        dense = self.sam.encode_mask(prompts.dense.to(pyramid.embedding.dtype))
        return self.sam.decode(pyramid, prompts.sparse, dense).masks[:, :1]

    def fuse_after(self, embedding: Tensor, words: Tensor, unread: Tensor | None) -> Tensor:
        """Multiply the image embedding (N, D, g, g) by its attention to the words T; no residual."""
        cells = embedding.flatten(2).transpose(1, 2)
        code = self.sam.code().flatten(2).transpose(1, 2)
        return self.multiply(cells, code, words, unread).transpose(1, 2).unflatten(2, embedding.shape[-2:])

    def multiply(self, cells: Tensor, code: Tensor, words: Tensor, unread: Tensor | None) -> Tensor:
        """Return cells ⊙ attention(cells + code, T, T); cells and code (N, g², D)."""
        read, _ = self.post_fusion(cells + code, words, words, key_padding_mask=unread, need_weights=False)
        return cells * read

    def restore(self, prediction: Prediction) -> list[Tensor]:
        """Resize (N, 1, 4g, 4g) to S × S, as published, and then to N native maps (H_i, W_i), both bilinear."""
        sizes = prediction.state.sizes
        return list(restore_each(prediction.mask_logits, prediction.images(), sizes, self.config.sam.image_size))

    # -- losses ------------------------------------------------------------------------------------------------------

    def target(self, masks: Sequence[Tensor]) -> Tensor:
        """Nearest resize of N masks to uint8 (N, 1, S, S), like Pillow, without keeping the aspect ratio."""
        return in_groups(lambda mask: stretch_mask_centred(mask, self.config.sam.image_size), masks)[:, None]

    def loss_terms(self, prediction: Prediction, target: Tensor) -> dict[str, Tensor]:
        """Return scalars: cross entropy, Dice, boundary loss at S × S; ``loss_pseudo_mask`` only if it has a weight."""
        config = self.config
        logits = resize(prediction.mask_logits.float(), (target.shape[-2], target.shape[-1]))
        aux = prediction.prompts.aux
        terms = self.mask_losses((logits + 1) / 2, aux["w"].float(), target[:, 0])
        if config.pseudo_mask_weight:
            auxiliary = heatmap_cross_entropy(aux["pseudo_mask_logits"], target)
            terms["loss_pseudo_mask"] = config.pseudo_mask_weight * auxiliary
        return terms

    def mask_losses(self, p: Tensor, w: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the three published losses, each times its weight.

        Args:
            p: (N, 1, H, W) foreground logit.
            w: (N,) weight of the boundary loss.
            y: (N, H, W) integers 0 and 1.
        """
        config, y = self.config, y.long()
        o = torch.cat([1 - p, p], 1)
        boundary = boundary_loss(p, w, y, config.boundary_mask, config.boundary_pairs)
        return {
            "loss_ce": config.ce_weight * F.cross_entropy(o, y, weight=constant(CE_WEIGHTS, o)),
            "loss_dice": config.dice_weight * dice_loss(o, y, config.dice_over),
            "loss_boundary": config.boundary_weight * boundary,
        }

    # -- speed -------------------------------------------------------------------------------------------------------

    def compiled_parts(self) -> dict[str, Part]:
        """Return the encoders, prompter and decoder."""
        encoder = self.sam.image_encoder
        return {
            "union_encoder": Part(self.union, {"1": (1,), "2": (1,)}),
            "trunk": Part(encoder.trunk, {"1": (1,), "2": (1,)}),
            "neck": Part(encoder.neck),
            "mask_prompt": Part(self.mask_prompt),
            "mask_decoder": Part(self.sam.sam_mask_decoder.transformer),
        }

    # -- diagnosis ---------------------------------------------------------------------------------------------------

    @classmethod
    def stock(cls, config: RS2SAM2Config) -> SAM2Config:
        """Return SAM 2's sizes."""
        return config.sam

    def dense_truth(self, prompts: Prompts, truth: Tensor) -> Tensor | None:
        """Return the truth (N, 1, 4g, 4g) itself: the pseudo-mask is a probability."""
        assert prompts.dense is not None
        return truth.to(prompts.dense.dtype)

    def segment_again(self, state: ImageState, prompts: Prompts, image_index: Tensor) -> Callable[[Prompts], Tensor]:
        """Run the trunk, which reads the words, once."""
        with torch.no_grad():
            pyramid = self.embed(rows(state.features["image"], image_index), prompts)
        return lambda others: 2 * self.prompted(pyramid, others) - 1

    # -- what is trained ---------------------------------------------------------------------------------------------

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Group by module; the published higher rate is for ``fusion`` and ``mask_prompt``. ``trunk`` if it trains."""
        encoder = dict(self.sam.image_encoder.named_parameters())
        heads = nn.ModuleList([self.sparse_head, self.word_head, self.boundary_head])
        groups: dict[str, list[nn.Parameter]] = {
            "union_encoder": list(self.union.parameters()),
            "fusion": [*(p for name, p in encoder.items() if is_new(name)), *self.post_fusion.parameters()],
            "mask_prompt": list(self.mask_prompt.parameters()),
            "heads": list(heads.parameters()),
            "prompt_encoder": list(self.sam.sam_prompt_encoder.parameters()),
            "mask_decoder": [*self.sam.sam_mask_decoder.parameters(), self.sam.no_mem_embed],
            "trunk": [p for name, p in encoder.items() if not is_new(name)],
        }
        trained = {name: [p for p in group if p.requires_grad] for name, group in groups.items()}
        return {name: group for name, group in trained.items() if group}

    def inert_prefixes(self) -> dict[str, str]:
        """Return parameters that the published program flags as trainable but never gives a gradient.

        Its unused video parts, ``meo_linear`` and BEiT-3's ``mask_token`` do not exist here at all.
        """
        last = f"sam.image_encoder.trunk.blocks.{sum(self.config.sam.stages) - 1}.fusion."
        return {
            f"{last}text_reads.": "the words are not used behind the last block",
            f"{last}text_up.": "the words are not used behind the last block",
            "sam.sam_prompt_encoder.point_embeddings.": "no points or boxes are given",
            "sam.sam_prompt_encoder.not_a_point_embed.": "no points or boxes are given",
            "sam.sam_prompt_encoder.no_mask_embed.": "there always is a mask prompt",
            "sam.sam_mask_decoder.iou_prediction_head.": "the predicted IoU is not used",
            "sam.sam_mask_decoder.pred_obj_score_head.": "the object score is not used",
        }


def unread_words(prompts: Prompts) -> Tensor | None:
    """Return which words of N expressions are not read, bool (N, L); None if all are."""
    unread = prompts.aux["unread"]
    complete = not unread.any() if prompts.complete is None else prompts.complete
    return None if complete else unread


def is_new(name: str) -> bool:
    """Return whether a parameter of the image encoder belongs to a fusion layer or an adapter."""
    return ".fusion." in name or ".adapter." in name


class MaskPromptGenerator(nn.Module):
    """The class token reads the patches and becomes the filter that converts them to a pseudo-mask."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.linear = nn.Linear(width, width)
        self.product = nn.Linear(width, 1)

    def forward(self, cls: Tensor, V: Tensor) -> Tensor:
        """Convert cls (N, 1, C) and V (N, P, C) to the pseudo-mask's logits (N, 1, √P, √P), row-major."""
        m = cls * self.read(cls, V, V, need_weights=False)[0]  # a product, no residual
        logits = self.product(V * self.linear(m))
        side = int(V.shape[1] ** 0.5)
        return logits.transpose(1, 2).unflatten(2, (side, side))


def dice_loss(o: Tensor, y: Tensor, over: Literal["sum", "mean"]) -> Tensor:
    """Σ over samples and both classes of 1 − (2 Σ P·Y + ε) / (Σ (P + Y) + ε); ``mean``: divided by the samples.

    Args:
        o: (N, 2, H, W) logits of background and foreground.
        y: (N, H, W) int64 of 0 and 1.
        over: reduction over the samples.
    """
    P, Y, eps = o.softmax(1).flatten(2), torch.stack([y == 0, y == 1], 1).to(o.dtype).flatten(2), 1e-6
    each = 1 - (2 * (P * Y).sum(2) + eps) / ((P + Y).sum(2) + eps)
    return each.sum() / (len(o) if over == "mean" else 1)


def boundary_loss(
    p: Tensor, w: Tensor, y: Tensor, mask: Literal["hard", "soft"], pairs: Literal["all", "own"]
) -> Tensor:
    """Text-weighted boundary loss: mean of (w · G(m) − w · G(y))².

    With the published thresholded m only w has a gradient, and it goes to 0.

    Args:
        p: (N, 1, H, W) foreground logit.
        w: (N,) weights.
        y: (N, H, W) of 0 and 1.
        mask: ``hard``: m = [sigmoid(p) > 0.5]; ``soft``: m = sigmoid(p).
        pairs: ``all``: the mean over all pairs of a weight and a sample; ``own``: over the samples.
    """
    m = p[:, 0].sigmoid()
    if mask == "hard":
        m = (m > 0.5).to(p.dtype)
    squared = (gradient_map(m) - gradient_map(y.to(p.dtype))).square().mean((1, 2))
    return (w.square().mean() * squared.mean()) if pairs == "all" else (w.square() * squared).mean()


def gradient_map(z: Tensor) -> Tensor:
    """G(z) = |z[i, j] − z[i − 1, j]| + |z[i, j] − z[i, j − 1]| of (N, H, W), without terms that leave the map."""
    down = F.pad((z[:, 1:] - z[:, :-1]).abs(), (0, 0, 1, 0))
    across = F.pad((z[:, :, 1:] - z[:, :, :-1]).abs(), (1, 0))
    return down + across
