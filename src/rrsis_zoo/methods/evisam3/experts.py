"""§7: experts that correct the prompts.

Section numbers (§) and quirks (Q) are those of docs/methods/evisam3.md, symbols those of ``model.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rrsis_zoo.methods.evisam3.config import EviSAM3Config
from rrsis_zoo.models.layers.rotated import RotatedConv


@dataclass
class ExpertAnswer:
    """§7: the experts' addition to the prior, before gate and factors.

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
        """Return the experts' answer for base (N, C, g, g), the last evidence (N, E, P) and t_cls (N, P)."""
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
    """3 Σ_k (mean over the batch of w_k)² for weights (N, 3): 1 if all experts are used equally, at most 3 (§7)."""
    return weights.shape[1] * weights.mean(0).square().sum()
