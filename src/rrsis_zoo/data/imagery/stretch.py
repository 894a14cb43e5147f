"""How values of any depth become 8 bits: the limits that are shown black and white, and what lies between. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.errors import ConfigError, DataFormatError

_SAMPLED = 4_000_000  # values per channel from which percentiles are taken
_BLOCK = 2**22  # pixels converted at once

FORMS = "LOW,HIGH (percentiles), minmax, A:B (values) or none"
"""What an option can say."""


@dataclass(frozen=True)
class Stretch:
    """A rule from values to 0-255, the same for the whole picture, for each channel on its own.

    Attributes:
        kind: ``percentiles``, ``minmax`` (the picture's extremes), ``values`` (fixed), or ``none``.
        low: percentile or value that becomes 0.
        high: percentile or value that becomes 255.
    """

    kind: Literal["percentiles", "minmax", "values", "none"]
    low: float = 0.0
    high: float = 0.0

    @staticmethod
    def parse(text: str) -> Stretch:
        """Read an option.

        Raises:
            ConfigError: none of `FORMS`.

        Example:
            >>> Stretch.parse("2,98")
            Stretch(kind='percentiles', low=2.0, high=98.0)
            >>> Stretch.parse("0:10000")
            Stretch(kind='values', low=0.0, high=10000.0)
        """
        if text == "none":
            return Stretch("none")
        if text == "minmax":
            return Stretch("minmax", 0.0, 100.0)
        number = r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*"
        if percentiles := re.fullmatch(f"{number},{number}", text, re.ASCII):
            low, high = map(float, percentiles.groups())
            if not 0 <= low < high <= 100:
                raise ConfigError(f"--stretch {text}: percentiles must be 0 <= LOW < HIGH <= 100, for instance 2,98")
            return Stretch("percentiles", low, high)
        if values := re.fullmatch(f"{number}:{number}", text, re.ASCII):
            low, high = map(float, values.groups())
            if not (low < high and np.isfinite([low, high]).all()):
                raise ConfigError(f"--stretch {text}: A:B must be two values, A below B, for instance 0:3000")
            return Stretch("values", low, high)
        raise ConfigError(f"--stretch {text!r} is none of {FORMS}")

    def limits(self, values: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Return the values that become 0 and 255 for each channel, (C, 2).

        Percentiles are those of all pixels, or of about four million at equal distances in a larger picture; values
        that are not finite are left out.

        Args:
            values: (H, W, C).
            valid: bool (H, W), pixels that count; None for all.

        Raises:
            DataFormatError: no pixel counts.
        """
        channels = values.shape[2]
        if self.kind == "values":
            return np.tile(np.array([self.low, self.high]), (channels, 1))
        if self.kind == "minmax" and valid is None and values.dtype.kind in "ui":
            return np.stack([values.min(axis=(0, 1)), values.max(axis=(0, 1))], axis=1).astype(np.float64)
        step = 1 if self.kind == "minmax" else _step(values.shape[0], values.shape[1])
        result = np.empty((channels, 2))
        for channel in range(channels):
            some = values[::step, ::step, channel]
            counted = np.isfinite(some) if valid is None else np.isfinite(some) & valid[::step, ::step]
            some = some[counted]
            if not some.size:
                raise DataFormatError("none of its pixels has a value: all are transparent or not finite")
            result[channel] = np.percentile(some, [self.low, self.high])
        return result


def _step(height: int, width: int) -> int:
    """Return the distance of the rows and columns from which percentiles are taken."""
    return max(1, int(np.ceil(np.sqrt(height * width / _SAMPLED))))


def to_8_bits(values: NDArray[Any], limits: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return values as uint8 of the same shape: linear between the limits, clipped outside; 0 where not finite.

    Args:
        values: (H, W, C).
        limits: (C, 2), as from `Stretch.limits`; a channel of a single value becomes 0.
    """
    low, high = limits[:, 0], limits[:, 1]
    spread = np.where(high > low, high - low, np.inf)
    out = np.empty(values.shape, np.uint8)
    rows = max(1, _BLOCK // values.shape[1])
    for top in range(0, len(values), rows):
        part = (values[top : top + rows].astype(np.float64) - low) * 255 / spread
        np.nan_to_num(part, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
        out[top : top + rows] = np.rint(np.clip(part, 0, 255))
    return out
