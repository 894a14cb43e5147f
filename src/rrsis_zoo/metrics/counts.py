"""From two masks to the two integers that all metrics are made of."""

import torch
from torch import Tensor

from rrsis_zoo.errors import ConfigError


def mask_counts(pred: Tensor, target: Tensor) -> Tensor:
    """Count the pixels of intersection and union of two masks.

    Nothing is read back to the host: on a GPU the call returns before the count is done.

    Args:
        pred: predicted mask, bool (H, W).
        target: true mask, bool (H, W), on the same device.

    Returns:
        int64 (2,) on the masks' device: intersection, union, in pixels.

    Raises:
        ConfigError: masks that are not bool, not two-dimensional, or of different shapes.
    """
    for role, mask in (("predicted", pred), ("true", target)):
        if mask.dtype != torch.bool or mask.ndim != 2:
            given = f"{str(mask.dtype).removeprefix('torch.')} {tuple(mask.shape)}"
            raise ConfigError(f"a {role} mask must be bool of shape (H, W), got {given}")
    if pred.shape != target.shape:
        raise ConfigError(
            f"a predicted mask of shape {tuple(pred.shape)} cannot be compared with a true mask of shape "
            f"{tuple(target.shape)}: bring the prediction to the size of the target first"
        )
    return torch.stack([(pred & target).sum(), (pred | target).sum()])
