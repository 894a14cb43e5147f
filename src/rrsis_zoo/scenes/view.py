"""A raster at the pixel size at which the model looks at it, as 8-bit RGB."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.errors import ConfigError, DataFormatError
from rrsis_zoo.imagery.picture import DEEP
from rrsis_zoo.imagery.stretch import Stretch, to_8_bits
from rrsis_zoo.scenes.raster import Raster, Source
from rrsis_zoo.scenes.windows import Window

_SAMPLED = 4_000_000  # pixels from which percentiles are taken
_BLOCK = 2**22  # pixels read at once for the extremes

Limits = NDArray[np.float64] | None
"""Values that are shown as 0 and 255 of each band, (bands, 2); None for values that are 8 bits already."""


@dataclass(frozen=True)
class View:
    """A grid of pixels over the whole raster.

    Attributes:
        source: the raster.
        height, width: of the grid.
        limits: see `Limits`.
    """

    source: Source
    height: int
    width: int
    limits: Limits

    @staticmethod
    def at(source: Source, factors: tuple[float, float], limits: Limits) -> View:
        """Return the grid whose pixels are so many pixels of the raster high and wide (nearly, to fit its size)."""
        height, width = source.raster.height, source.raster.width
        return View(source, max(1, round(height / factors[0])), max(1, round(width / factors[1])), limits)

    @property
    def factors(self) -> tuple[float, float]:
        """Pixels of the raster in one of the grid, along both axes."""
        return self.source.raster.height / self.height, self.source.raster.width / self.width

    @property
    def native(self) -> bool:
        """Whether the grid is the raster's own."""
        return (self.height, self.width) == (self.source.raster.height, self.source.raster.width)

    @property
    def gsd(self) -> float | None:
        """Metres on the ground of a pixel, the geometric mean of both sides; None if it cannot be told."""
        if self.source.raster.gsd is None:
            return None
        (down, right), (y, x) = self.source.raster.gsd, self.factors
        return math.sqrt(down * y * right * x)

    def read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
        """Return the pixels of a window.

        Returns:
            uint8 RGB (3, H, W), and bool (H, W), which of them have a value; None if all do.

        Raises:
            DataFormatError: damaged.
        """
        y, x = self.factors
        shape = (window.height, window.width)
        values, valid = self.source.values(window.top * y, window.left * x, window.height * y, window.width * x, shape)
        if self.limits is not None:
            values = to_8_bits(values.transpose(1, 2, 0), self.limits).transpose(2, 0, 1)
        if len(values) == 1:
            values = np.repeat(values, 3, axis=0)
        return np.ascontiguousarray(values), valid


def factors_for(raster: Raster, gsd: float | None) -> tuple[float, float]:
    """Return how many pixels of the raster are one of the model's, along both axes.

    Raises:
        ConfigError: a size in metres for a raster whose pixels have none.
    """
    if gsd is None:
        return 1.0, 1.0
    if raster.gsd is None:
        raise ConfigError(f"{raster.path}: has no CRS, so nobody knows how large its pixels are: leave --gsd out")
    factors = gsd / raster.gsd[0], gsd / raster.gsd[1]
    if min(raster.height / factors[0], raster.width / factors[1]) < 1:
        raise ConfigError(f"{raster.path}: is smaller than one pixel of --gsd {gsd:g}")
    if min(factors) < 1 / 32:
        raise ConfigError(
            f"{raster.path}: has pixels of {math.sqrt(raster.gsd[0] * raster.gsd[1]):.3g} m, and --gsd {gsd:g} would "
            "make more than 1,000 of each"
        )
    return factors


def limits_of(source: Source, stretch: Stretch | None) -> Limits:
    """Return which values of the whole raster become 0 and 255.

    Raises:
        DataFormatError: no pixel has a value, or a deep raster with stretch ``none``.
    """
    raster = source.raster
    if stretch is None:
        stretch = DEEP if raster.deep else Stretch("none")
    if stretch.kind == "none":
        if raster.deep:
            raise DataFormatError(
                f"{raster.path}: has values of more than 8 bits, and --stretch none keeps 8-bit values only: leave it "
                "out, or say --stretch 2,98, minmax or A:B"
            )
        return None
    bands = 3 if raster.palette is not None else len(raster.bands)
    if stretch.kind == "values":
        return np.tile(np.array([stretch.low, stretch.high]), (bands, 1))
    if stretch.kind == "minmax":
        return _extremes(source, stretch)
    values, valid = source.sample(_SAMPLED)
    return _limits(raster, stretch, values, valid)


def _extremes(source: Source, stretch: Stretch) -> NDArray[np.float64]:
    raster = source.raster
    rows = max(1, _BLOCK // raster.width)
    found = []
    for top in range(0, raster.height, rows):
        count = min(rows, raster.height - top)
        values, valid = source.values(top, 0, count, raster.width, (count, raster.width))
        if valid is None or valid.any():
            found.append(_limits(raster, stretch, values, valid))
    if not found:
        raise DataFormatError(f"{raster.path}: none of its pixels has a value")
    each = np.stack(found)
    return np.stack([each[..., 0].min(axis=0), each[..., 1].max(axis=0)], axis=1)


def _limits(raster: Raster, stretch: Stretch, values: NDArray, valid: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    try:
        return stretch.limits(values.transpose(1, 2, 0), valid)
    except DataFormatError as error:
        raise DataFormatError(f"{raster.path}: none of its pixels has a value") from error


def limits_text(limits: Sequence[Sequence[float]] | NDArray[np.float64]) -> str:
    """Return the limits in words, for a remark."""
    return ", ".join(f"{low:g}-{high:g}" for low, high in limits)
