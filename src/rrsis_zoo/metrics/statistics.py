"""How sure a number is: intervals from resampled *scenes*. No torch.

Expressions of one scene share its image, so they fail together; resampling expressions one by one takes them for
independent evidence and gives intervals that are too narrow. Here a draw takes whole scenes, with replacement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrsis_zoo.errors import ConfigError


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval.

    Attributes:
        mean: over the samples.
        low, high: ends of the percentile interval.
        level: its nominal coverage.
    """

    mean: float
    low: float
    high: float
    level: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside."""
        return self.low > 0 or self.high < 0


def scene_interval(
    values: ArrayLike, scenes: Sequence[str], *, level: float = 0.95, draws: int = 4000, seed: int = 0
) -> Interval:
    """Return the mean of per-sample values and its interval, resampled by scene.

    For two methods on the same samples, give the differences: the interval is then the paired one.

    Args:
        values: (N,) finite numbers, one a sample, such as its IoU.
        scenes: N scene ids.
        level: nominal coverage, in (0, 1).
        draws: bootstrap draws.
        seed: the same seed gives the same interval.

    Raises:
        ConfigError: no samples, different numbers of values and scenes, or values that are not finite.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or len(sample) != len(scenes) or not len(sample):
        raise ConfigError(
            f"{sample.shape} values do not go with {len(scenes)} scenes: one of each per sample is needed"
        )
    if not np.isfinite(sample).all():
        raise ConfigError("the values must be finite; leave out samples that have none")
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, got {level}")
    _, scene = np.unique(np.asarray(scenes), return_inverse=True)
    sums = np.bincount(scene, weights=sample).astype(np.float64)
    counts = np.bincount(scene).astype(np.float64)
    means = _draw(sums, counts, draws, seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sample.mean()), float(low), float(high), level)


def _draw(sums: NDArray[np.float64], counts: NDArray[np.float64], draws: int, seed: int) -> NDArray[np.float64]:
    rng, n = np.random.default_rng(seed), len(sums)
    means = np.empty(draws)
    for i in range(draws):
        times = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        means[i] = (times @ sums) / (times @ counts)
    return means
