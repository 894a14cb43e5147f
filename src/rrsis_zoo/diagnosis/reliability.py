"""Is a probability of 0.9 right nine times in ten? Bins, calibration error, thresholds, expected-IoU masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.metrics.statistics import Interval, interval_of

BINS = 15
THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(1, 20))
"""Thresholds that are tried, 0.05 to 0.95."""

EDGES = np.round(np.linspace(-12, 12, 241), 1)
"""Log-odds between the 242 fine bins that every sample keeps, a tenth wide each, so that bins of equal mass can
be made for any set of samples."""


def histogram(logits: NDArray[np.floating], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Count the pixels of an answer by their log-odds.

    Args:
        logits: (H, W) log-odds.
        truth: bool (H, W).

    Returns:
        (242, 3): pixels, those on the referent, and the sum of their probabilities, in every fine bin.
    """
    values = np.asarray(logits, np.float64).ravel()
    place = np.digitize(values, EDGES)
    p = 0.5 * (1 + np.tanh(0.5 * values))
    columns = (None, truth.ravel().astype(np.float64), p)
    return np.stack([np.bincount(place, weight, len(EDGES) + 1) for weight in columns], 1).astype(np.float64)


@dataclass(frozen=True)
class Reliability:
    """How often pixels of a probability are on the referent.

    Attributes:
        pixels: (B,) pixels in each bin of nearly equal mass; B is at most 15.
        predicted: (B,) their mean probability.
        found: (B,) share of them on the referent.
        error: expected calibration error: mean of |found - predicted| over all pixels, with its interval by scene.
    """

    pixels: NDArray[np.float64]
    predicted: NDArray[np.float64]
    found: NDArray[np.float64]
    error: Interval


def reliability(
    histograms: Sequence[NDArray[np.float64]], scenes: Sequence[str], draws: int = 1000, seed: int = 0
) -> Reliability:
    """Return the reliability of N answers, with an interval of its error by scene.

    Args:
        histograms: N, from `histogram`.
        scenes: N scene ids.
        draws, seed: of the bootstrap, which keeps the bins.
    """
    names, scene = np.unique(np.asarray(scenes), return_inverse=True)
    by_scene = np.zeros((len(names), *histograms[0].shape))
    for place, one in zip(scene, histograms, strict=True):
        by_scene[place] += one
    groups = equal_mass(by_scene.sum(0)[:, 0])
    merged = np.stack([np.add.reduceat(one, groups) for one in by_scene])
    total = merged.sum(0)
    rng = np.random.default_rng(seed)
    drawn = np.array([_error(merged[rng.integers(0, len(names), len(names))].sum(0)) for _ in range(draws)])
    pixels = total[:, 0]
    error = interval_of(_error(total), drawn, 0.95, len(names))
    return Reliability(pixels, total[:, 2] / pixels, total[:, 1] / pixels, error)


def equal_mass(pixels: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the first fine bin of each of up to 15 groups with nearly equally many pixels, none of them empty."""
    starts = np.concatenate([[0.0], np.cumsum(pixels)[:-1]]) / pixels.sum()
    group = np.minimum((starts * BINS + 1e-9).astype(np.int64), BINS - 1)
    filled = np.flatnonzero(pixels)
    first = {int(group[i]): int(i) for i in reversed(filled)}
    found = sorted(first.values())
    return np.array([0, *found[1:]], np.int64)


def _error(bins: NDArray[np.float64]) -> float:
    return float(np.abs(bins[:, 1] - bins[:, 2]).sum() / bins[:, 0].sum())


def at_thresholds(probabilities: NDArray[np.floating], truth: NDArray[np.bool_]) -> list[list[int]]:
    """Return intersection and predicted pixels of [p > t] for each of ``THRESHOLDS``."""
    p = probabilities.ravel()
    place = np.searchsorted(np.array(THRESHOLDS, p.dtype), p, side="left")  # number of thresholds below p
    counts = [np.bincount(place, weight, len(THRESHOLDS) + 1) for weight in (truth.ravel().astype(np.float64), None)]
    above = [np.cumsum(c[::-1])[::-1][1:] for c in counts]
    return [[int(i), int(n)] for i, n in zip(*above, strict=True)]


def best_threshold(counts: Sequence[Sequence[Sequence[int]]], truth: Sequence[int]) -> float:
    """Return the threshold of ``THRESHOLDS`` with the highest mIoU, the one nearest to 0.5 of several.

    Args:
        counts: N, from `at_thresholds`.
        truth: N pixels of the referents, none 0.
    """
    numbers = np.array(counts, np.float64)
    iou = numbers[..., 0] / (numbers[..., 1] + np.array(truth, np.float64)[:, None] - numbers[..., 0])
    means = iou.mean(0)
    return max(zip(means, THRESHOLDS, strict=True), key=lambda one: (one[0], -abs(one[1] - 0.5)))[1]
