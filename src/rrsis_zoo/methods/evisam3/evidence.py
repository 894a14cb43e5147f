"""§6: adapters that gather evidence along the trunk and correct image and text with it.

Section numbers (§) and quirks (Q) are those of docs/methods/evisam3.md, symbols those of ``model.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.methods.evisam3.config import EviSAM3Config
from rrsis_zoo.methods.evisam3.layers import Attention


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
    """§6.2: output of an adapter.

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
    """a + gate · LayerScale ⊙ norm(a attends to the evidence); gate and scale start close to 0 (2.5e-6 together)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 1)
        self.scale = nn.Parameter(torch.full((width,), 1e-3))
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, -6.0)

    def forward(self, a: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Rectify a (N, ·, d) with the evidence v (N, E, d); also return the strength of its effect, (N,)."""
        gate = self.gate(v.mean(1)).sigmoid()  # (N, 1)
        a = a + gate[:, None] * self.scale * self.norm(self.attention(a, v))
        return a, gate.squeeze(1) * self.scale.abs().mean()
