"""The uncertainty of a score: intervals and tests by *scene*, and the spread over seeds. No torch.

Expressions of one scene share its image, so their errors are correlated; resampling expressions one by one treats them
as independent and gives intervals that are too narrow. Here a draw resamples whole scenes, with replacement.

Every score of an evaluation is a ratio of two sums over its samples: mIoU and Pr@t divide by 1 per sample, oIoU divides
the intersections by the unions. So every function takes values and, for oIoU, weights.

A method that was trained several times has values (S, N), one row per training run. Its score is the mean over the
runs, and a draw resamples scenes *and* runs: another test set and another seed. The variance of a mean over S resampled
runs is (S - 1) / S of what it should be, so their deviations are scaled by the square root of S / (S - 1). Whatever the
method, two or three runs say little about the next one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrsis_zoo.errors import ConfigError

_AT_ONCE = 1 << 20  # scenes drawn at once: 8 MB of indices


@dataclass(frozen=True)
class Interval:
    """A score with its bootstrap interval.

    Attributes:
        mean: over the samples.
        low, high: ends of the expanded percentile interval; nan for a single scene, which says nothing about others.
        level: its nominal coverage.
    """

    mean: float
    low: float
    high: float
    level: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 is outside."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same samples.

    Attributes:
        difference: first minus second, with its interval.
        p_value: how often swapping the two methods at random, scene by scene, gives a difference at least as large;
            in (0, 1].
        samples, scenes: their numbers.
    """

    difference: Interval
    p_value: float
    samples: int
    scenes: int


@dataclass(frozen=True)
class Spread:
    """A score over several training runs with different seeds.

    Attributes:
        mean: over the runs.
        deviation: sample standard deviation (n - 1); nan for one run.
        runs: their number.
    """

    mean: float
    deviation: float
    runs: int

    def text(self, digits: int = 2) -> str:
        """Return ``63.10 ± 0.42 (3 seeds)``, or ``63.10 (1 seed)``."""
        if self.runs == 1:
            return f"{self.mean:.{digits}f} (1 seed)"
        return f"{self.mean:.{digits}f} ± {self.deviation:.{digits}f} ({self.runs} seeds)"


def scene_interval(
    values: ArrayLike,
    scenes: Sequence[str],
    *,
    weights: ArrayLike | None = None,
    level: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
) -> Interval:
    """Return a score and its interval, resampled by scene.

    Args:
        values: (N,) finite numbers, one per sample: its IoU for mIoU, 0 or 1 for Pr@t, its intersection for oIoU; the
            differences of two methods for the paired interval of a mean. Or (S, N), one row per training
            run: the interval then covers scenes and runs.
        scenes: N scene ids.
        weights: numbers >= 0 with the shape of the values, the unions for oIoU; None for a plain mean.
        level: nominal coverage, in (0, 1).
        draws: bootstrap draws.
        seed: the same seed gives the same interval.

    Raises:
        ConfigError: no samples, mismatched lengths, values that are not finite, or weights that are negative or 0 for
            all samples.

    Example:
        >>> iou = [0.9, 0.8, 0.1, 0.2, 0.7, 0.6]
        >>> interval = scene_interval(iou, ["a", "a", "b", "b", "c", "c"])
        >>> f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
        '0.55 [0.15, 0.85]'
    """
    sums = _SceneSums(values, weights, scenes)
    _check_draws(level, draws)
    trainings = _Trainings(sums.trainings, seed, 2)
    means = np.concatenate([trainings.drawn(sums.ratios(drawn)) for drawn in _resampled(sums.n, draws, seed)])
    return interval_of(sums.ratio, means, level, sums.n)


def scene_auc(
    positive: ArrayLike,
    negative: ArrayLike,
    positive_scenes: Sequence[str],
    negative_scenes: Sequence[str],
    *,
    level: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
) -> Interval:
    """Return the area under the ROC curve and its interval, resampled by scene.

    It is the probability that a positive sample has a higher value than a negative one, ties counting half.

    Args:
        positive: (N,) finite numbers, or (S, N), one row per training run: the AUC is then their mean, and the interval
            covers scenes and runs.
        negative: (M,), or (S, M) of the same runs.
        positive_scenes, negative_scenes: N and M scene ids. A draw takes a scene with both kinds of samples.
        level, draws, seed: as in ``scene_interval``.

    Returns:
        Ratios; the mean is that of the samples.

    Raises:
        ConfigError: no positive or no negative samples, mismatched lengths, or values that are not finite.

    Example:
        >>> scene_auc([0.9, 0.8, 0.4], [0.3, 0.5, 0.1], ["a", "b", "c"], ["a", "b", "c"]).mean
        0.8888888888888888
    """
    above, below = (np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in (positive, negative))
    if above.shape != (len(below), len(positive_scenes)) or below.shape[1] != len(negative_scenes):
        raise ConfigError(
            f"{above.shape} positive and {below.shape} negative values do not match {len(positive_scenes)} and "
            f"{len(negative_scenes)} scenes: one of each per sample is needed, and as many training runs"
        )
    if not above.size or not below.size:
        raise ConfigError("an AUC needs positive and negative samples")
    if not (np.isfinite(above).all() and np.isfinite(below).all()):
        raise ConfigError("the values must be finite; leave out samples that have none")
    _check_draws(level, draws)
    names, scene = np.unique([*positive_scenes, *negative_scenes], return_inverse=True)
    curves = [_Ranks(a, b, scene) for a, b in zip(above, below, strict=True)]
    trainings, n = _Trainings(len(curves), seed, 2), len(names)
    once = np.ones((1, n))
    parts = []
    for drawn in _resampled(n, draws, seed, len(scene)):
        rows = np.arange(len(drawn))[:, None] * n
        times = np.bincount((drawn + rows).ravel(), minlength=len(drawn) * n).reshape(len(drawn), n).astype(np.float64)
        parts.append(trainings.drawn(np.stack([curve.area(times) for curve in curves])))
    mean = math.fsum(float(curve.area(once)[0]) for curve in curves) / len(curves)
    return interval_of(mean, np.concatenate(parts), level, n)


class _Ranks:
    """Positive and negative samples of one training run in the order of their values."""

    def __init__(self, positive: NDArray[np.float64], negative: NDArray[np.float64], scene: NDArray[np.intp]) -> None:
        values = np.concatenate([positive, negative])
        order = np.argsort(values, kind="stable")
        self.scene, self.positive = scene[order], order < len(positive)
        self.starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))  # of equal values

    def area(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the AUC (draws,) where scene s counts ``times[:, s]`` times; nan without one of the two kinds."""
        weight = times[:, self.scene]
        above, below = (np.add.reduceat(weight * kind, self.starts, axis=1) for kind in (self.positive, ~self.positive))
        lower = np.cumsum(below, axis=1) - below / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            return (above * lower).sum(1) / (above.sum(1) * below.sum(1))


def paired_test(
    first: ArrayLike,
    second: ArrayLike,
    scenes: Sequence[str],
    *,
    weights: tuple[ArrayLike, ArrayLike] | None = None,
    level: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
) -> Comparison:
    """Compare two methods on the same samples, pair by pair, by scene.

    The interval resamples scenes and takes the difference of the two scores in each draw. The p-value is that of the
    two-sided randomisation test: if the methods were equal, it would not matter which of the two predicted a scene.
    For methods with several training runs the interval covers scenes and runs; the p-value is about the scenes, for
    the existing runs.

    Args:
        first: (N,) values of one method, or (S, N), as in ``scene_interval``.
        second: (N,) or (T, N) values of the other on the same samples in the same order; its runs are not paired with
            those of the first.
        scenes: N scene ids.
        weights: the weights of both methods (their unions for oIoU); None for plain means.
        level, draws, seed: as in ``scene_interval``.

    Raises:
        ConfigError: as ``scene_interval``.

    Example:
        >>> scenes = [f"scene {i}" for i in range(20)]
        >>> first, second = [0.6 + i / 100 for i in range(20)], [0.5 + i / 100 for i in range(20)]
        >>> result = paired_test(first, second, scenes)
        >>> round(result.difference.mean, 3), result.difference.excludes_zero, result.p_value < 0.001
        (0.1, True, True)
    """
    a = _SceneSums(first, None if weights is None else weights[0], scenes)
    b = _SceneSums(second, None if weights is None else weights[1], scenes)
    _check_draws(level, draws)
    observed = a.ratio - b.ratio
    of_a, of_b = _Trainings(a.trainings, seed, 2), _Trainings(b.trainings, seed, 3)
    differences = np.concatenate(
        [of_a.drawn(a.ratios(drawn)) - of_b.drawn(b.ratios(drawn)) for drawn in _resampled(a.n, draws, seed)]
    )
    rng, extreme = np.random.default_rng((seed, 1)), 0
    tolerance = 1e-12 * (abs(a.ratio) + abs(b.ratio))  # swapping equals must not count because of rounding
    pairs = math.lcm(a.trainings, b.trainings)  # every run equally often, so that no score changes
    for rows in _chunks(draws, a.n):
        swap = rng.integers(0, 2, (rows, a.n)).astype(np.float64)
        exchanged = np.zeros(rows)
        for i in range(pairs):
            (x, x_weight), (y, y_weight) = a.of(i), b.of(i)
            moved, moved_weight = swap @ (y - x), swap @ (y_weight - x_weight)
            with np.errstate(divide="ignore", invalid="ignore"):
                up = (x.sum() + moved) / (x_weight.sum() + moved_weight)
                down = (y.sum() - moved) / (y_weight.sum() - moved_weight)
                exchanged += (up - down) / pairs
        # a side without any weight has no score: counting it as extreme can only raise the p-value
        extreme += int(np.count_nonzero(~(np.abs(exchanged) < abs(observed) - tolerance)))
    return Comparison(
        difference=interval_of(observed, differences, level, a.n),
        p_value=(extreme + 1) / (draws + 1),
        samples=len(scenes),
        scenes=a.n,
    )


def over_seeds(values: ArrayLike) -> Spread:
    """Return mean and sample standard deviation of a score over training runs with different seeds.

    This is the variation between runs, not the uncertainty due to the test set, which is the interval.

    Raises:
        ConfigError: no values, or values that are not finite.

    Example:
        >>> over_seeds([63.1, 62.4, 64.0]).text()
        '63.17 ± 0.80 (3 seeds)'
    """
    runs = np.asarray(values, dtype=np.float64)
    if runs.ndim != 1 or not len(runs) or not np.isfinite(runs).all():
        raise ConfigError(f"a spread needs one finite score for each seed, got {values!r}")
    deviation = float(runs.std(ddof=1)) if len(runs) > 1 else math.nan
    return Spread(math.fsum(runs) / len(runs), deviation, len(runs))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down method, in the same order.

    Calling values below 0.05 significant is then wrong in at most 5 % of *families* of comparisons, however they
    depend on each other (Holm, Scandinavian Journal of Statistics 1979).

    Raises:
        ConfigError: a value outside [0, 1].
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ConfigError(f"p-values lie between 0 and 1, got {list(p_values)}")
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


class _SceneSums:
    """Values and weights (S, scenes), summed within each scene; scenes in the order of their names."""

    def __init__(self, values: ArrayLike, weights: ArrayLike | None, scenes: Sequence[str]) -> None:
        sample = np.asarray(values, dtype=np.float64)
        weight = np.ones(sample.shape) if weights is None else np.asarray(weights, dtype=np.float64)
        if (
            sample.ndim not in (1, 2)
            or sample.shape != weight.shape
            or not sample.size
            or sample.shape[-1] != len(scenes)
        ):
            raise ConfigError(
                f"{sample.shape} values and {weight.shape} weights do not match {len(scenes)} scenes: one of each "
                "per sample is needed"
            )
        if not (np.isfinite(sample).all() and np.isfinite(weight).all()):
            raise ConfigError("the values must be finite; leave out samples that have none")
        samples, weights_ = np.atleast_2d(sample), np.atleast_2d(weight)
        if (weight < 0).any() or not weights_.any(axis=1).all():
            raise ConfigError("weights must be 0 or more, and more than 0 for some sample")
        _, scene = np.unique(np.asarray(scenes), return_inverse=True)
        self.values, self.weights = _summed(samples, scene), _summed(weights_, scene)
        self.trainings, self.n = self.values.shape
        scores = [math.fsum(v) / math.fsum(w) for v, w in zip(samples, weights_, strict=True)]
        self.ratio = math.fsum(scores) / len(scores)

    def of(self, training: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return values and weights of a run; the index wraps around."""
        i = training % self.trainings
        return self.values[i], self.weights[i]

    def ratios(self, drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the score of each run in each draw of scenes (draws, n) as (S, draws); nan without weight."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.stack([v[drawn].sum(1) / w[drawn].sum(1) for v, w in zip(self.values, self.weights, strict=True)])


def _summed(rows: NDArray[np.float64], scene: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the sums (S, scenes) of rows (S, N) within each scene."""
    return np.stack([np.bincount(scene, weights=row) for row in rows]).astype(np.float64)


class _Trainings:
    """Draws of S runs with replacement; the same seed gives the same draws, whatever the chunk size."""

    def __init__(self, trainings: int, seed: int, stream: int) -> None:
        self.n = trainings
        self.rng = np.random.default_rng((seed, stream))

    def drawn(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean score of S drawn runs for scores (S, draws), its deviation scaled; (draws,)."""
        if self.n == 1:
            return scores[0]
        centre = scores.mean(0)
        chosen = self.rng.integers(0, self.n, (scores.shape[1], self.n))
        stretch = math.sqrt(self.n / (self.n - 1))
        return centre + stretch * (np.take_along_axis(scores, chosen.T, axis=0).mean(0) - centre)


def _resampled(n: int, draws: int, seed: int, width: int = 0) -> Iterator[NDArray[np.int64]]:
    """Yield draws of n out of n scenes with replacement, in chunks; the chunk size does not change them.

    Args:
        n, draws, seed: scenes, draws, seed.
        width: numbers that the caller needs at once for each draw, if more than n.
    """
    rng = np.random.default_rng(seed)
    for rows in _chunks(draws, max(n, width)):
        yield rng.integers(0, n, (rows, n))


def _chunks(draws: int, n: int) -> Iterator[int]:
    step = max(1, _AT_ONCE // n)
    for start in range(0, draws, step):
        yield min(step, draws - start)


def interval_of(score: float, draws: NDArray[np.float64], level: float, n: int) -> Interval:
    """Return the expanded percentile interval of bootstrap draws of n scenes.

    See Hesterberg, The American Statistician 2015.

    The plain one is too narrow for few scenes, like a normal interval that divides by n instead of n - 1 and does not
    use Student's quantile; the quantiles are widened by these two factors.
    """
    if n == 1:  # nothing is known about other scenes
        return Interval(score, math.nan, math.nan, level)
    from scipy.special import ndtr, stdtrit  # 0.2 s, which a command without intervals need not wait for

    t = stdtrit(n - 1, (1 + level) / 2)  # Student's quantile
    tail = ndtr(-t * math.sqrt(n / (n - 1)))
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return Interval(score, float(low), float(high), level)


def _check_draws(level: float, draws: int) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, got {level}")
    if draws < 1:
        raise ConfigError(f"draws must be at least 1, got {draws}")
