"""The scores of the field from per-sample pixel counts. No torch.

One sample is one (image, expression) pair with intersection I and union U of the predicted and the true mask:

    Pr@t = share of samples with I / U >= t        oIoU = sum of I / sum of U        mIoU = mean of I / U

"gIoU" is mIoU in most papers and oIoU in a few, so the name is not used here; "cIoU" is oIoU.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.protocols import Protocol

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""IoU thresholds t of Pr@t."""

NanPolicy = Literal["propagate", "omit"]
"""How the mean treats a sample without an IoU (empty pair, protocol ``rsrefseg``): become nan, or leave it out."""


def sample_iou(intersection: ArrayLike, union: ArrayLike, protocol: Protocol) -> NDArray[np.float64]:
    """Return the IoU of every sample as a ratio.

    Args:
        intersection: (N,) integers, pixels.
        union: (N,) integers, pixels.
        protocol: decides the score of an empty pair (union 0).

    Returns:
        float64 (N,), in [0, 1] except where the protocol scores an empty pair as nan.

    Raises:
        ConfigError: counts that are not integers, of different lengths, or impossible (not 0 <= I <= U).

    Example:
        >>> from rrsis_zoo.metrics.protocols import get_protocol
        >>> sample_iou([7, 0, 0], [10, 4, 0], get_protocol("canonical"))
        array([0.7, 0. , 0. ])
        >>> sample_iou([7, 0, 0], [10, 4, 0], get_protocol("rsrefseg"))
        array([0.7, 0. , nan])
    """
    i, u = _counts("intersection", intersection), _counts("union", union)
    if i.shape != u.shape:
        raise ConfigError(f"{len(i)} intersections do not match {len(u)} unions: one of each per sample is needed")
    impossible = np.flatnonzero((i < 0) | (i > u))
    if impossible.size:
        at = impossible[0]
        raise ConfigError(
            f"sample {at} has intersection {i[at]} and union {u[at]}; 0 <= intersection <= union is needed"
        )
    # One correctly rounded float64 division of exact integers: 7/10 is exactly the double of the literal 0.7.
    empty = np.full(i.shape, protocol.both_empty, dtype=np.float64)
    return np.divide(i, u + protocol.union_epsilon, out=empty, where=u > 0)


def score(
    intersection: ArrayLike,
    union: ArrayLike,
    protocol: Protocol,
    thresholds: Sequence[float] = THRESHOLDS,
    nan_policy: NanPolicy = "propagate",
) -> dict[str, float]:
    """Return oIoU, mIoU and Pr@t of a set of samples under a protocol.

    Sums are exact (integers, and ``math.fsum`` for the mean), so the numbers depend on the samples alone and not on how
    they were batched or spread over processes.

    Args:
        intersection: (N,) integers, pixels.
        union: (N,) integers, pixels.
        protocol: the conventions to follow.
        thresholds: t of Pr@t.
        nan_policy: ``omit`` leaves samples without an IoU out of mIoU. They stay in n and are misses of every Pr@t, as
            under ``propagate``.

    Returns:
        ``n`` (number of samples) and, in percent, ``oiou``, ``miou``, ``pr@0.5`` ... ``pr@0.9``. oIoU is nan, with a
        warning, if all masks of all samples are empty.

    Raises:
        ConfigError: no samples, or counts as in ``sample_iou``.

    Example:
        >>> from rrsis_zoo.metrics.protocols import get_protocol
        >>> score([7, 2], [10, 8], get_protocol("canonical"), thresholds=[0.5, 0.7])
        {'n': 2, 'oiou': 50.0, 'miou': 47.5, 'pr@0.5': 50.0, 'pr@0.7': 50.0}
        >>> score([7, 2], [10, 8], get_protocol("rsrefseg"), thresholds=[0.5, 0.7])["pr@0.7"]  # > and not >=
        0.0
    """
    iou = sample_iou(intersection, union, protocol)
    n = len(iou)
    if n == 0:
        raise ConfigError("no samples to score: the metrics of an empty set are undefined")
    i_sum, u_sum = int(np.sum(intersection, dtype=np.int64)), int(np.sum(union, dtype=np.int64))
    if u_sum == 0:
        warnings.warn(f"oIoU is undefined: all masks of all {n} samples are empty", stacklevel=2)
    result = {
        "n": n,
        "oiou": 100.0 * i_sum / u_sum if u_sum else math.nan,
        "miou": 100.0 * mean(iou, nan_policy),
    }
    for t in thresholds:
        result[f"pr@{t}"] = 100.0 * int(np.count_nonzero(reaches(iou, t, protocol))) / n
    return result


def mean(values: NDArray[np.float64], nan_policy: NanPolicy = "propagate") -> float:
    """Return the exactly summed mean; nan if there is nothing to average."""
    kept = values[~np.isnan(values)] if nan_policy == "omit" else values
    return math.fsum(kept) / len(kept) if len(kept) else math.nan


def reaches(iou: NDArray[np.float64], t: float, protocol: Protocol) -> NDArray[np.bool_]:
    """Return which samples count as found at threshold t; a nan never does."""
    dtype = np.dtype(protocol.comparison_dtype)
    values, threshold = iou.astype(dtype), dtype.type(t)
    return values >= threshold if protocol.comparison == ">=" else values > threshold


def _counts(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Return pixel counts as an int64 vector, refusing anything that is not a vector of integers."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ConfigError(f"{name} must be a vector of integers (pixels), got {array.dtype} of shape {array.shape}")
    return array.astype(np.int64)
