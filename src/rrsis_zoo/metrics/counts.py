"""The pixel counts of two masks from which all metrics are computed. Nothing here reads back to the host.

On a GPU every call returns before the device is done: no ``item``, ``tolist`` or indexing by a mask.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rrsis_zoo.errors import ConfigError

BOUNDARY_RATIO = 0.02
"""Width of the boundary as a fraction of the mask's diagonal (the default of Cheng et al., CVPR 2021)."""


def mask_counts(pred: Tensor, target: Tensor) -> Tensor:
    """Count the pixels of two masks.

    Args:
        pred: predicted mask, bool (H, W).
        target: true mask, bool (H, W), on the same device.

    Returns:
        int64 (3,) on the masks' device: intersection, union, predicted, in pixels. The target has
        intersection + union - predicted.

    Raises:
        ConfigError: masks that are not bool, not two-dimensional, or of different shapes.
    """
    _check(pred, target)
    # count_nonzero: half the time of a bool sum on a CPU, and also int64
    intersection, predicted = torch.count_nonzero(pred & target), torch.count_nonzero(pred)
    return torch.stack([intersection, predicted + torch.count_nonzero(target) - intersection, predicted])


def detail_counts(pred: Tensor, target: Tensor) -> Tensor:
    """Measure where a prediction is, and how exactly.

    Args:
        pred: predicted mask, bool (H, W).
        target: true mask, bool (H, W), on the same device.

    Returns:
        int64 (11,) on the masks' device: intersection and union of the two boundaries in pixels; the boxes of
        prediction and target, each as top, left, bottom, right in pixels with the last two exclusive, zeros for an
        empty mask; and whether the centre of the prediction lies inside the target.

    Raises:
        ConfigError: as ``mask_counts``.
    """
    _check(pred, target)
    edge_p, edge_t = boundary(pred), boundary(target)
    both, either = torch.count_nonzero(edge_p & edge_t), torch.count_nonzero(edge_p | edge_t)
    return torch.cat([torch.stack([both, either]), box(pred), box(target), centre_inside(pred, target)[None].long()])


def boundary(mask: Tensor) -> Tensor:
    """Return the pixels of a bool mask (H, W) that lie within d pixels of its contour.

    d is 2 % of the diagonal, at least 1: the mask without its erosion by a square of side 2d + 1 (d erosions by 3 x 3).
    Outside the image is background, so a mask's pixels at the image border belong to its boundary (Cheng et
    al., Boundary IoU, CVPR 2021).
    """
    d = max(1, round(BOUNDARY_RATIO * math.hypot(*mask.shape)))
    eroded = mask
    for axis in (0, 1):
        eroded = _and_window(eroded, d, axis)
    return mask & ~eroded


def _and_window(mask: Tensor, d: int, axis: int) -> Tensor:
    """Return where all of the 2d + 1 pixels around a pixel along an axis are set; outside counts as unset."""
    size = mask.shape[axis]
    if size < 2 * d + 1:
        return torch.zeros_like(mask)
    # windows of 1, 2, 4, ... pixels that start at a pixel, then one of exactly 2d + 1: log(d) passes instead of d
    window, width = mask, 1
    while width < 2 * d + 1:
        step = min(width, 2 * d + 1 - width)
        length = window.shape[axis] - step
        window = window.narrow(axis, 0, length) & window.narrow(axis, step, length)
        width += step
    out = torch.zeros_like(mask)
    out.narrow(axis, d, size - 2 * d).copy_(window)
    return out


def box(mask: Tensor) -> Tensor:
    """Return the box of a bool mask (H, W): int64 top, left, bottom, right in pixels, the last two exclusive.

    An empty mask gives zeros.
    """
    ends = []
    for axis in (1, 0):
        line = mask.any(axis).to(torch.uint8)  # argmax returns the first of equal values
        start, stop = line.argmax(), len(line) - line.flip(0).argmax()
        ends.append(torch.stack([start, stop]))
    rows, columns = ends
    corners = torch.stack([rows[0], columns[0], rows[1], columns[1]])
    return corners * mask.any()


def centre_inside(pred: Tensor, target: Tensor) -> Tensor:
    """Return whether the centre of a predicted mask lies inside the true one, bool () on their device.

    The centre is the predicted pixel nearest to the prediction's centroid (any of several), not the centroid itself:
    that of a bent or ring-shaped referent lies outside it, and a perfect mask must be a hit. An empty
    prediction has no centre.
    """
    height, width = pred.shape
    y = torch.arange(height, device=pred.device, dtype=torch.float64)
    x = torch.arange(width, device=pred.device, dtype=torch.float64)
    area = torch.count_nonzero(pred).clamp(min=1)
    centre_y = (pred.count_nonzero(1) * y).sum() / area
    centre_x = (pred.count_nonzero(0) * x).sum() / area
    distance = ((y - centre_y) ** 2)[:, None] + ((x - centre_x) ** 2)[None]
    distance.masked_fill_(~pred, math.inf)
    return ((distance == distance.amin()) & pred & target).any()


def _check(pred: Tensor, target: Tensor) -> None:
    for role, mask in (("predicted", pred), ("true", target)):
        if mask.dtype != torch.bool or mask.ndim != 2:
            kind = f"{str(mask.dtype).removeprefix('torch.')} {tuple(mask.shape)}"
            raise ConfigError(f"a {role} mask must be bool of shape (H, W), got {kind}")
    if pred.shape != target.shape:
        raise ConfigError(
            f"a predicted mask of shape {tuple(pred.shape)} cannot be compared with a true mask of shape "
            f"{tuple(target.shape)}: bring the prediction to the size of the target first"
        )
