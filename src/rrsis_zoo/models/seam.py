"""What can be asked at the seam between a method's localiser and its segmenter."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Seam:
    """Reasons why a question cannot be asked; empty where it can.

    Attributes:
        heat: why the heat map is not what the segmenter is prompted with.
        dense: why the truth cannot take the dense prompt's place.
        best: why no better prompts can be looked for.
    """

    heat: str = ""
    dense: str = ""
    best: str = ""


COUPLED = Seam(*["a coupled network: nothing but its own layers passes from where to where exactly"] * 3)
"""A network without prompts."""


def truth_as_logits(dense: Tensor, truth: Tensor) -> Tensor:
    """Return the truth as a mask prompt of log-odds: ±c, c the 95th percentile of the own prompt's magnitudes.

    Args:
        dense: (N, 1, h, w) log-odds, the method's own.
        truth: (N, 1, h, w) of 0 and 1.
    """
    c = torch.quantile(dense.detach().float().abs().flatten(1), 0.95, dim=1)[:, None, None, None]
    return ((2 * truth - 1) * c).to(dense.dtype)
