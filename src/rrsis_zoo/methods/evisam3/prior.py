"""§5: the union encoder's localisation.

Section numbers (§) and quirks (Q) are those of docs/methods/evisam3.md, symbols those of ``model.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from rrsis_zoo.methods.evisam3.layers import Attention
from rrsis_zoo.models.backbones.beit3 import UnionFeatures


@dataclass
class PriorAnswer:
    """§5: the union encoder's localisation.

    Attributes:
        m: (N, 1, C) fused mask token.
        base: (N, C, g, g) patch features weighted by it.
        z0: (N, 1, g, g) prompt logits.
        t_cls: (N, P) first sparse prompt.
        words: T (N, L, P), including padded rows.
    """

    m: Tensor
    base: Tensor
    z0: Tensor
    t_cls: Tensor
    words: Tensor


class Prior(nn.Module):
    """§5: the class token attends to the patches and weights them."""

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
