"""mIoU as hits and misses, and the difference of two methods as *where* and *how exactly*. Exact; no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.statistics import Interval, interval_of


@dataclass(frozen=True)
class Parts:
    """mIoU = hit · given_hit + (1 - hit) · given_miss.

    Attributes:
        hit: share of hits, in [0, 1].
        given_hit, given_miss: mean IoU of the hits and of the misses; nan where there are none.
    """

    hit: float
    given_hit: float
    given_miss: float

    @property
    def miou(self) -> float:
        """The sum of the two parts."""
        return sum(w * x for w, x in ((self.hit, self.given_hit), (1 - self.hit, self.given_miss)) if w)


def parts(iou: ArrayLike, hit: ArrayLike) -> Parts:
    """Decompose the mIoU of N samples; a sample with several equally hot cells is a hit in part.

    Args:
        iou: (N,) in [0, 1], or (S, N) for S training runs, which count alike.
        hit: of the same shape, in [0, 1].

    Raises:
        ConfigError: no samples, or different shapes.
    """
    values, hits = np.asarray(iou, np.float64), np.asarray(hit, np.float64)
    if values.shape != hits.shape or not values.size:
        raise ConfigError(f"{values.shape} IoUs and {hits.shape} hits: one of each per sample is needed")
    share = math.fsum(hits.ravel()) / hits.size
    misses = 1 - hits
    given_hit = math.fsum((values * hits).ravel()) / math.fsum(hits.ravel()) if hits.any() else math.nan
    given_miss = math.fsum((values * misses).ravel()) / math.fsum(misses.ravel()) if misses.any() else math.nan
    return Parts(share, given_hit, given_miss)


def split(first: Parts, second: Parts) -> tuple[float, float]:
    """Split the difference of two mIoUs into *where* and *how exactly*, whose sum it is.

    Each part is averaged over the two orders in which one method's hits and masks could be exchanged for the other's. A
    method without hits (or misses) has no IoU there: the other's is taken, so that nothing is attributed to it.

    Returns:
        The part due to the hits, and the part due to the masks.
    """
    a1, a2 = _filled(first.given_hit, second.given_hit)
    b1, b2 = _filled(first.given_miss, second.given_miss)
    where = 0.5 * (first.hit - second.hit) * ((a1 - b1) + (a2 - b2))
    exactly = 0.5 * ((first.hit + second.hit) * (a1 - a2) + ((1 - first.hit) + (1 - second.hit)) * (b1 - b2))
    return where, exactly


def _filled(one: float, other: float) -> tuple[float, float]:
    if math.isnan(one) and math.isnan(other):
        return 0.0, 0.0
    return (other if math.isnan(one) else one), (one if math.isnan(other) else other)


@dataclass(frozen=True)
class Difference:
    """The difference of two methods on the same samples, first minus second, with its two parts.

    Attributes:
        total, where, exactly: each with its interval by scene, and by training where there are several.
    """

    total: Interval
    where: Interval
    exactly: Interval


DRAWS = 2000


def difference(
    first: tuple[ArrayLike, ArrayLike],
    second: tuple[ArrayLike, ArrayLike],
    scenes: Sequence[str],
    *,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Difference:
    """Split the difference of two methods, with bootstrap intervals by scene and training.

    Args:
        first, second: IoUs and hits of a method, (N,) or (S, N) each.
        scenes: N scene ids.
        level, draws, seed: as in `rrsis_zoo.metrics.statistics.scene_interval`.

    Raises:
        ConfigError: shapes that do not match.
    """
    sides = [[np.atleast_2d(np.asarray(x, np.float64)) for x in side] for side in (first, second)]
    for side in sides:
        if any(x.shape != side[0].shape or x.shape[1] != len(scenes) for x in side):
            raise ConfigError(f"IoUs and hits of {side[0].shape} do not match {len(scenes)} scenes")
    _, scene = np.unique(np.asarray(scenes), return_inverse=True)
    n = int(scene.max()) + 1
    sums = [_sums(side[0], side[1], scene, n) for side in sides]
    where, exactly = split(*(parts(side[0], side[1]) for side in sides))
    drawn = np.array([_draw(sums, n, np.random.default_rng((seed, i))) for i in range(draws)])
    values = (where + exactly, where, exactly)
    return Difference(*(interval_of(value, drawn[:, k], level, n) for k, value in enumerate(values)))


def _sums(iou: NDArray[np.float64], hit: NDArray[np.float64], scene: NDArray[np.intp], n: int) -> NDArray[np.float64]:
    """Return (S, n, 4): per scene the sums of hits, of IoU of hits, of misses, of IoU of misses."""
    columns = (hit, hit * iou, 1 - hit, (1 - hit) * iou)
    return np.stack([[np.bincount(scene, row, n) for row in column] for column in columns], -1).astype(np.float64)


def _draw(sums: Sequence[NDArray[np.float64]], n: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw scenes and, of each method with several, training runs.

    The effect of drawing runs is stretched by √(S / (S - 1)), as in `rrsis_zoo.metrics.statistics`: the variance of a
    mean over S drawn runs is too small by that.
    """
    chosen = rng.integers(0, n, n)
    whole = [side[:, chosen].sum((0, 1)) for side in sums]
    centre = np.array(split(_parts_of(whole[0]), _parts_of(whole[1])))
    moved = centre.copy()
    for k, side in enumerate(sums):
        if (trainings := len(side)) == 1:
            continue
        drawn = [*whole]
        drawn[k] = side[rng.integers(0, trainings, trainings)][:, chosen].sum((0, 1))
        there = np.array(split(_parts_of(drawn[0]), _parts_of(drawn[1])))
        moved += math.sqrt(trainings / (trainings - 1)) * (there - centre)
    where, exactly = moved.tolist()
    return where + exactly, where, exactly


def _parts_of(sums: NDArray[np.float64]) -> Parts:
    """Return the parts of sums (4,) of hits, IoU of hits, misses, IoU of misses."""
    h, ha, m, mb = sums.tolist()
    return Parts(h / (h + m), ha / h if h else math.nan, mb / m if m else math.nan)
