"""Measures one prediction against its target on the protocol's grid. The host never waits for the device."""

from __future__ import annotations

import torch
from torch import Tensor

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.counts import detail_counts, mask_counts
from rrsis_zoo.metrics.protocols import EvalSize
from rrsis_zoo.metrics.sizes import decide, eval_shape, resize_mask

CORE_WIDTH, DETAIL_WIDTH = 4, 11
"""Numbers that ``measure`` returns, and further ones with details."""


def measure(
    prediction: Tensor,
    target: Tensor,
    eval_size: EvalSize = "native",
    details: bool = False,
    counted: Tensor | None = None,
) -> Tensor:
    """Return the counts behind every metric of a sample.

    Args:
        prediction: bool mask or floating-point log-odds, (h, w). Log-odds are resized to the grid bilinearly; a bool
            mask with PIL's nearest neighbour, but at ``native`` it must have the target's size.
        target: bool (H, W), native, on the prediction's device.
        eval_size: of the protocol.
        details: whether to measure boundaries, boxes and the centre too.
        counted: bool (H, W), False for pixels to leave out (an ignore label); None for all.

    Returns:
        int64 on the masks' device, (4,): intersection, union, predicted pixels, and 1 if a log-odds value is NaN, else
        0; with details (15,), see ``rrsis_zoo.metrics.counts.detail_counts``.

    Raises:
        ConfigError: neither mask nor log-odds, or masks that cannot be compared.
    """
    if target.dtype != torch.bool or target.ndim != 2 or not target.numel():
        kind = f"{str(target.dtype).removeprefix('torch.')} {tuple(target.shape)}"
        raise ConfigError(f"a true mask must be bool of shape (H, W), got {kind}")
    shape = eval_shape(eval_size, target)
    if prediction.dtype == torch.bool and eval_size == "native":
        pred, is_nan = prediction, torch.zeros((), dtype=torch.int64, device=prediction.device)
    else:
        pred, is_nan = decide(prediction, shape)
    truth = resize_mask(target, shape)
    core = mask_counts(pred, truth)  # refuses mismatched shapes before anything is combined
    if counted is not None:
        kept = resize_mask(counted, shape)
        pred, truth = pred & kept, truth & kept
        core = mask_counts(pred, truth)
    parts = [core, is_nan[None]]
    if details:
        parts.append(detail_counts(pred, truth))
    return torch.cat(parts)
