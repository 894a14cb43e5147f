"""BERT (Devlin et al., NAACL 2019) as a reader of sentences: transformers' ``BertModel`` without its pooler.

Parameter names are those of transformers' class. A position that is not read is hidden from the others, so that a
sentence's vectors do not depend on its padding.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers import BertConfig, BertModel

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.models.configuration import Count, Depth, Share


@dataclass(frozen=True)
class BERTConfig:
    """Sizes of a BERT; the defaults are BERT base, uncased.

    Attributes:
        width, depth, heads, mlp_width: of the transformer; the width is a multiple of the heads.
        vocabulary: rows of the token table.
        positions: rows of the position table.
        types: rows of the table of segment types, of which only the first is read.
        dropout: of embeddings, attention and layers, in training mode.
    """

    width: Count = 768
    depth: Depth = 12
    heads: Count = 12
    mlp_width: Count = 3072
    vocabulary: Count = 30522
    positions: Count = 512
    types: Count = 2
    dropout: Share = 0.1

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError(f"bert.width {self.width} must be a multiple of bert.heads {self.heads}")


class BERT(BertModel):
    """The encoder; call `words`."""

    def __init__(self, config: BERTConfig) -> None:
        sizes = BertConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            intermediate_size=config.mlp_width,
            max_position_embeddings=config.positions,
            type_vocab_size=config.types,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
            layer_norm_eps=1e-12,
            attn_implementation="sdpa",  # type: ignore[call-arg] - taken by every configuration of transformers
        )
        super().__init__(sizes, add_pooling_layer=False)

    def words(self, ids: Tensor, read: Tensor | None) -> Tensor:
        """Return the last layer's vectors (N, L, width).

        Args:
            ids: (N, L) int64.
            read: bool (N, L), positions that are attended to; the rows of others are computed too, but seen by none.
                None for all of them.
        """
        if read is not None:  # of each pair of positions: given one row a sentence, the class would look into it
            read = read[:, None, None].expand(-1, 1, ids.shape[1], -1)
        return self(input_ids=ids, attention_mask=read).last_hidden_state
