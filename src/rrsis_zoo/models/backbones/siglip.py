"""SigLIP and SigLIP 2 from transformers: a vision tower, a text tower, their scalar similarity scale and bias.

SigLIP 2 at a fixed resolution is the same network with other weights, vocabulary and sizes.

Parameter names are those of the released files (``vision_model.…``, ``text_model.…``, ``logit_scale``,
``logit_bias``). Both towers return features after their final layer norm; text is read without a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from transformers import SiglipConfig, SiglipModel

from rrsis_zoo.models.configuration import Count, Depth, Side
from rrsis_zoo.models.types import Tokens

PIXEL_MEAN = (0.5, 0.5, 0.5)
PIXEL_STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class SigLIPConfig:
    """Sizes of a SigLIP; the defaults are ``siglip-so400m-patch14-384``.

    Attributes:
        image_size, patch_size: in pixels; the grid has ``image_size // patch_size`` cells per side.
        width: C, of both towers.
        vision_depth, vision_heads, vision_mlp_width: of the vision tower.
        text_depth, text_heads, text_mlp_width: of the text tower.
        vocabulary: rows of the token table.
        max_length: rows of the text position table.
        logit_scale, logit_bias: initial values (log domain for the scale) if no weights are loaded.
    """

    image_size: Side = 384
    patch_size: Side = 14
    width: Count = 1152
    vision_depth: Depth = 27
    vision_heads: Count = 16
    vision_mlp_width: Count = 4304
    text_depth: Depth = 27
    text_heads: Count = 16
    text_mlp_width: Count = 4304
    vocabulary: Count = 32000
    max_length: Count = 64
    logit_scale: float = 0.0
    logit_bias: float = 0.0

    @property
    def grid(self) -> int:
        """Cells per side of the patch grid."""
        return self.image_size // self.patch_size


SIGLIP2_SO400M_512 = SigLIPConfig(image_size=512, patch_size=16, vocabulary=256_000)
"""``siglip2-so400m-patch16-512``."""
SIGLIP_MINI = SigLIPConfig(
    image_size=128,
    patch_size=8,
    width=128,
    vision_depth=4,
    vision_heads=4,
    vision_mlp_width=256,
    text_depth=2,
    text_heads=4,
    text_mlp_width=256,
    vocabulary=512,
    max_length=64,
    logit_scale=2.3,  # SigLIP begins with log 10 ...
    logit_bias=-4.0,  # ... and -10; batches are smaller here
)
"""The miniature that benchmarks/miniatures pretrains."""


@dataclass
class TextFeatures:
    """The text tower's output for N expressions.

    Attributes:
        tokens: T (N, L, C), zero where a position is not read.
        pooled: g (N, C), from the linear head at the last position that is read.
        length: (N,) int64, positions that are read.
    """

    tokens: Tensor
    pooled: Tensor
    length: Tensor


class SigLIP(SiglipModel):
    """SigLIP's two towers, called one at a time."""

    def __init__(self, config: SigLIPConfig) -> None:
        super().__init__(
            SiglipConfig(
                text_config={
                    "hidden_size": config.width,
                    "num_hidden_layers": config.text_depth,
                    "num_attention_heads": config.text_heads,
                    "intermediate_size": config.text_mlp_width,
                    "vocab_size": config.vocabulary,
                    "max_position_embeddings": config.max_length,
                    "projection_size": config.width,
                    "bos_token_id": None,
                    "eos_token_id": 1,
                    "pad_token_id": 1,
                },
                vision_config={
                    "hidden_size": config.width,
                    "num_hidden_layers": config.vision_depth,
                    "num_attention_heads": config.vision_heads,
                    "intermediate_size": config.vision_mlp_width,
                    "image_size": config.image_size,
                    "patch_size": config.patch_size,
                },
            )
        )
        nn.init.constant_(self.logit_scale, config.logit_scale)
        nn.init.constant_(self.logit_bias, config.logit_bias)

    def vision_features(self, image: Tensor) -> Tensor:
        """Encode normalised images.

        The attention-pooling head after the last norm is not run: no method here uses its output.

        Args:
            image: (M, 3, S, S), normalised.

        Returns:
            V (M, C, h, w), the patch tokens after the final norm as a row-major map.
        """
        tower = self.vision_model
        hidden = tower.encoder(inputs_embeds=tower.embeddings(image)).last_hidden_state
        hidden = tower.post_layernorm(hidden)
        side = int(hidden.shape[1] ** 0.5)
        return hidden.transpose(1, 2).unflatten(2, (side, side))

    def text_features(self, tokens: Tokens) -> TextFeatures:
        """Encode N tokenised expressions.

        Rows of equal length are read together, without any mask: in text mode ``published`` that is one group with
        its pads, in ``independent`` each row is read as if alone.
        """
        n, longest = tokens.ids.shape
        features = pooled = None
        for length in tokens.length.unique().tolist():
            rows = (tokens.length == length).nonzero().squeeze(1)
            out = self.text_model(input_ids=tokens.ids[rows, :length])
            if features is None or pooled is None:
                features = out.last_hidden_state.new_zeros(n, longest, out.last_hidden_state.shape[-1])
                pooled = out.pooler_output.new_zeros(n, out.pooler_output.shape[-1])
            padded = nn.functional.pad(out.last_hidden_state, (0, 0, 0, longest - length))
            features = features.index_copy(0, rows, padded)
            pooled = pooled.index_copy(0, rows, out.pooler_output)
        if features is None or pooled is None:
            raise ValueError("no expression given")
        return TextFeatures(features, pooled, tokens.length)
