"""Resizes masks and log-odds to the pixel grid on which a protocol compares them."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.protocols import EvalSize


def eval_shape(size: EvalSize, target: Tensor) -> tuple[int, int]:
    """Return (height, width) of the grid on which a prediction is compared with a target (H, W)."""
    return (target.shape[-2], target.shape[-1]) if size == "native" else (size, size)


def resize_mask(mask: Tensor, shape: tuple[int, int]) -> Tensor:
    """Resize a mask or label map (H, W) of any dtype like PIL's nearest neighbour, on its device, without waiting.

    PIL samples at pixel centres, like torch's ``nearest-exact``; but it accumulates its steps in double precision, so
    the two disagree where a centre falls between two pixels (800 to 1008, 512 to 1008, 128 to 480). The source indices
    are therefore PIL's own.
    """
    if tuple(mask.shape) == shape:
        return mask
    rows = _pil_nearest(mask.shape[0], shape[0], mask.device)
    columns = _pil_nearest(mask.shape[1], shape[1], mask.device)
    return mask.index_select(0, rows).index_select(1, columns)


_KINDS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def resize_log_odds(log_odds: Tensor, shape: tuple[int, int]) -> Tensor:
    """Resize log-odds (H, W) bilinearly (``align_corners=False``, no anti-aliasing).

    Half precision is converted to float32, also in the result.
    Infinities, which are the log-odds of probabilities of exactly 0 and 1, count as the largest power of two of the
    precision (2^127 or 2^1023), so that their mean behaves like that of any two values of equal size. Otherwise the
    mean of opposite infinities, or an infinity times a weight of 0, would be nan. A nan stays nan.
    """
    if tuple(log_odds.shape) == shape:
        return log_odds
    wide = log_odds if log_odds.dtype == torch.float64 else log_odds.float()
    largest = 2.0**1023 if wide.dtype == torch.float64 else 2.0**127  # twice as much would overflow when weighted
    wide = wide.clamp(-largest, largest)
    return F.interpolate(wide[None, None], size=shape, mode="bilinear", align_corners=False)[0, 0]


def decide(prediction: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Resize a prediction to a grid and threshold it.

    Foreground is log-odds > 0, that is probability > 0.5: a tie is background. Log-odds are resized first.

    Args:
        prediction: bool mask or log-odds, (H, W).
        shape: (height, width) of the grid.

    Returns:
        bool (height, width); and int64 (), 1 if a log-odds value is nan before or after resizing, else 0: a nan
        silently becomes background.

    Raises:
        ConfigError: neither of them, not two-dimensional, or without pixels.
    """
    if prediction.ndim != 2 or not prediction.numel() or prediction.dtype not in (torch.bool, *_KINDS):
        kind = f"{str(prediction.dtype).removeprefix('torch.')} {tuple(prediction.shape)}"
        raise ConfigError(f"a prediction must be a bool mask or floating-point log-odds of shape (H, W), got {kind}")
    if prediction.dtype == torch.bool:
        return resize_mask(prediction, shape), torch.zeros((), dtype=torch.int64, device=prediction.device)
    resized = resize_log_odds(prediction, shape)
    is_nan = prediction.detach().amax().isnan()  # the maximum propagates a nan, in one pass
    if resized is not prediction:
        is_nan = is_nan | resized.detach().amax().isnan()
    return resized > 0, is_nan.long()


@lru_cache(maxsize=256)
def _pil_nearest(source: int, target: int, device: torch.device) -> Tensor:
    """Return the source index of each of ``target`` pixels along an axis of ``source`` pixels, int64 (target,)."""
    ramp = Image.fromarray(np.arange(source, dtype=np.int32)[None])
    index = np.array(ramp.resize((target, 1), Image.Resampling.NEAREST), dtype=np.int64)[0]
    return torch.from_numpy(index).to(device, non_blocking=device.type != "cpu")
