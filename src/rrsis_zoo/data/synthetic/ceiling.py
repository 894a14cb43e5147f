"""How much a mask loses by being predicted at a fraction of the resolution."""

from collections.abc import Iterable

import numpy as np

from rrsis_zoo.errors import ConfigError


def stride_iou(mask: np.ndarray, stride: int = 4) -> float:
    """Return the IoU of a mask with its own best copy at 1/stride of the resolution.

    The copy is what a decoder with a perfect answer gives: the mean of every stride x stride cell as its probability,
    brought back by bilinear interpolation (pixel centres, as ``align_corners=False``), foreground above 0.5.

    Args:
        mask: bool (H, W) with at least one pixel; H and W are multiples of the stride.
        stride: side of a cell in pixels.

    Raises:
        ConfigError: empty mask, or sides that the stride does not divide.
    """
    height, width = mask.shape
    if stride < 1 or height % stride or width % stride:
        raise ConfigError(f"the sides of a mask must be multiples of stride={stride}, got {height} x {width}")
    if not mask.any():
        raise ConfigError("an empty mask has no IoU ceiling; leave empty masks out")
    cells = mask.reshape(height // stride, stride, width // stride, stride).mean(axis=(1, 3))
    copy = _enlarge(_enlarge(cells, stride).T, stride).T > 0.5
    return float((mask & copy).sum() / (mask | copy).sum())


def mask_ceiling(masks: Iterable[np.ndarray], stride: int = 4) -> float:
    """Return the mean of `stride_iou` over masks: the mIoU that no decoder of this stride should be asked to pass.

    Args:
        masks: bool (H, W) each, none empty.
        stride: side of a cell in pixels.

    Raises:
        ConfigError: no mask, an empty mask, or sides that the stride does not divide.
    """
    values = [stride_iou(mask, stride) for mask in masks]
    if not values:
        raise ConfigError("mask_ceiling needs at least one mask")
    return float(np.mean(values))


def _enlarge(values: np.ndarray, factor: int) -> np.ndarray:
    """Enlarge axis 0 by linear interpolation between cell centres; beyond the outer centres the value stays."""
    n = len(values)
    position = np.clip((np.arange(n * factor) + 0.5) / factor - 0.5, 0, n - 1)
    low = np.floor(position).astype(int)
    part = (position - low)[:, None]
    return values[low] * (1 - part) + values[np.minimum(low + 1, n - 1)] * part
