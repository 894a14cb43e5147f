"""Bringing masks and log-odds to the pixel grid on which a protocol compares them."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.protocols import EvalSize


def eval_shape(size: EvalSize, target: Tensor) -> tuple[int, int]:
    """Return (height, width) of the grid on which a prediction meets a target (H, W)."""
    return (target.shape[-2], target.shape[-1]) if size == "native" else (size, size)


def resize_mask(mask: Tensor, shape: tuple[int, int]) -> Tensor:
    """Resize a mask or label map (H, W) of any dtype as PIL's nearest does; on its device, without waiting for it.

    PIL samples at pixel centres, as torch's ``nearest-exact`` means to; but it adds up its steps in double precision,
    so that where a centre falls between two pixels the two disagree (800 to 1008, 512 to 1008, 128 to 480). The source
    indices are therefore PIL's own.
    """
    if tuple(mask.shape) == shape:
        return mask
    rows = _pil_nearest(mask.shape[0], shape[0], mask.device)
    columns = _pil_nearest(mask.shape[1], shape[1], mask.device)
    return mask.index_select(0, rows).index_select(1, columns)


def resize_log_odds(log_odds: Tensor, shape: tuple[int, int]) -> Tensor:
    """Resize log-odds (H, W) bilinearly (``align_corners=False``, no anti-aliasing); float32 inside and out of half."""
    if tuple(log_odds.shape) == shape:
        return log_odds
    wide = log_odds if log_odds.dtype == torch.float64 else log_odds.float()
    return F.interpolate(wide[None, None], size=shape, mode="bilinear", align_corners=False)[0, 0]


def decide(prediction: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return a prediction (H, W), bool mask or log-odds, as a bool mask of the shape.

    The decision is log-odds > 0, that is probability > 0.5: a tie is background. Log-odds are resized before it.

    Raises:
        ConfigError: a prediction that is neither, or not two-dimensional.
    """
    if prediction.ndim != 2 or not (prediction.dtype == torch.bool or prediction.is_floating_point()):
        given = f"{str(prediction.dtype).removeprefix('torch.')} {tuple(prediction.shape)}"
        raise ConfigError(f"a prediction must be a bool mask or floating-point log-odds of shape (H, W), got {given}")
    if prediction.dtype == torch.bool:
        return resize_mask(prediction, shape)
    return resize_log_odds(prediction, shape) > 0


@lru_cache(maxsize=256)
def _pil_nearest(given: int, wanted: int, device: torch.device) -> Tensor:
    """Return the source index of each of ``wanted`` pixels along an axis of ``given`` pixels, int64 (wanted,)."""
    ramp = Image.fromarray(np.arange(given, dtype=np.int32)[None])
    index = np.array(ramp.resize((wanted, 1), Image.Resampling.NEAREST), dtype=np.int64)[0]
    return torch.from_numpy(index).to(device, non_blocking=device.type != "cpu")
