"""One prediction against one truth: to the protocol's grid, decided, counted. The host never waits for the device."""

from __future__ import annotations

import torch
from torch import Tensor

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.counts import detail_counts, mask_counts
from rrsis_zoo.metrics.protocols import EvalSize
from rrsis_zoo.metrics.sizes import decide, eval_shape, resize_mask

CORE_WIDTH, DETAIL_WIDTH = 4, 11
"""Numbers that ``measure`` returns, and those that details add."""


def measure(
    prediction: Tensor,
    target: Tensor,
    eval_size: EvalSize = "native",
    details: bool = False,
    counted: Tensor | None = None,
) -> Tensor:
    """Count what every metric of a sample is made of.

    Args:
        prediction: bool mask or floating-point log-odds, (h, w). Log-odds are brought to the grid bilinearly; a bool
            mask with PIL's nearest, but at ``native`` it must have the size of the target.
        target: bool (H, W), native, on the prediction's device.
        eval_size: of the protocol.
        details: whether boundaries, boxes and the centre are measured too.
        counted: bool (H, W), False where a pixel is left out (an ignore label); None for all.

    Returns:
        int64 on the masks' device, (4,): intersection, union, predicted pixels, and 1 if a log-odds value is not a
        number, else 0; with details (15,), see ``rrsis_zoo.metrics.counts.detail_counts``.

    Raises:
        ConfigError: what is neither mask nor log-odds, or masks that cannot be compared.
    """
    if target.dtype != torch.bool or target.ndim != 2 or not target.numel():
        given = f"{str(target.dtype).removeprefix('torch.')} {tuple(target.shape)}"
        raise ConfigError(f"a true mask must be bool of shape (H, W), got {given}")
    shape = eval_shape(eval_size, target)
    if prediction.dtype == torch.bool and eval_size == "native":
        pred, is_nan = prediction, torch.zeros((), dtype=torch.int64, device=prediction.device)
    else:
        pred, is_nan = decide(prediction, shape)
    truth = resize_mask(target, shape)
    core = mask_counts(pred, truth)  # refuses other shapes before anything is combined
    if counted is not None:
        kept = resize_mask(counted, shape)
        pred, truth = pred & kept, truth & kept
        core = mask_counts(pred, truth)
    parts = [core, is_nan[None]]
    if details:
        parts.append(detail_counts(pred, truth))
    return torch.cat(parts)
