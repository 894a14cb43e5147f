"""Breakdowns: scores by category, size and sentence, and *where* separately from *how exactly*. No torch.

All values are computed from per-sample results under the protocol of the run, in percent except counts.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.expressions import KINDS, LENGTHS, length_class, word_kinds
from rrsis_zoo.metrics.protocols import Protocol
from rrsis_zoo.metrics.samples import Samples
from rrsis_zoo.metrics.scores import NanPolicy, mean, sample_iou, score

NO_CATEGORY = "none"
"""Category of samples that have none."""

SIZES = (("0.1 % or less", 0.001), ("0.1-1 %", 0.01), ("1-5 %", 0.05), ("5-20 %", 0.2), ("more than 20 %", 1.0))
"""Classes of target size: name, and largest share of the image. Empty targets are a separate class."""

_EMPTY, _PLAIN = "empty", "no such word"


def evaluate(samples: Samples, protocol: Protocol, nan_policy: NanPolicy = "propagate") -> dict[str, float]:
    """Return ``n``, ``oiou``, ``miou`` and ``pr@t`` of an evaluation; see ``rrsis_zoo.metrics.scores.score``.

    Raises:
        ConfigError: no samples.
    """
    counts = samples.counted(protocol).counts
    return score(counts.intersection, counts.union, protocol, nan_policy=nan_policy)


def breakdown(samples: Samples, protocol: Protocol) -> dict[str, Any]:
    """Return everything about an evaluation besides its totals.

    Args:
        samples: of the whole split.
        protocol: the conventions to follow. Classes leave out samples without an IoU under the protocol.

    Returns:
        Names and values

        * ``per_category_n``, ``per_category_oiou``, ``per_category_miou``, ``per_category_pr@t``: class -> value; and
          likewise ``per_size`` (share of the image that the target covers), with expressions ``per_words`` (kinds of
          word, overlapping) and ``per_length`` (number of words), and, if the dataset labels kinds of expression,
          ``per_kind``.
        * ``macro_miou``: plain mean of the categories' mIoU. ``category_source``: ``label``, ``text`` (inferred from
          the sentence), ``mixed``, or None without categories.
        * ``n_empty``, ``no_target_acc`` (N-acc: empty targets predicted empty), ``target_acc`` (T-acc: other targets
          predicted not empty); if any target is empty also ``miou_generalized`` (mIoU where two empty masks score 1),
          and ``miou_target`` and ``oiou_target`` over the other targets.
        * with details: ``boundary_miou``; and over the ``n_target`` samples with a referent ``centre_hit`` (centre of
          the prediction inside the referent), ``box_miou``, ``box_pr@0.5``, and, over those whose centre hits,
          ``hit_miou`` and ``hit_boundary_miou``: how exactly, if the place was right.

        Values without any sample are nan.

    Raises:
        ConfigError: no samples.
    """
    asked = samples.counted(protocol)
    if not len(asked):
        raise ConfigError("no samples to break down: the metrics of an empty set are undefined")
    classes = sample_classes(asked)
    result: dict[str, Any] = {}
    for name, mine in classes.items():
        result |= _by(name, mine, asked, protocol)
        if name == "category":
            result |= _over_categories(result["per_category_miou"], asked)
    result |= _no_target(asked, protocol)
    if asked.counts.details is not None:
        result |= _localisation(asked, protocol)
    return result


def sample_classes(samples: Samples) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Return name of a division -> class -> its samples, bool (N,).

    Divisions are ``category`` and ``size``, with expressions also ``words`` (overlapping) and ``length``, and, if the
    dataset labels kinds of expression, ``kind``. Only classes with samples are returned, in the order of their
    definition, or of their names.
    """
    subjects = samples.subjects
    divisions = {
        "category": _members([[s.category or NO_CATEGORY] for s in subjects], []),
        "size": _members([[name] for name in size_classes(samples)], [_EMPTY, *(name for name, _ in SIZES)]),
    }
    if any(s.expression for s in subjects):
        words = [sorted(word_kinds(s.expression)) or [_PLAIN] for s in subjects]
        divisions["words"] = _members(words, [*KINDS, _PLAIN])
        divisions["length"] = _members([[length_class(s.expression)] for s in subjects], [name for name, _ in LENGTHS])
    if any(s.kind for s in subjects):
        divisions["kind"] = _members([[s.kind] if s.kind else [] for s in subjects], [])
    return divisions


def _members(classes: Sequence[Sequence[str]], order: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Return class -> its samples; classes in the given order, then others by name."""
    present = {c for mine in classes for c in mine}
    listed = [c for c in order if c in present] + sorted(present - set(order))
    return {c: np.array([c in mine for mine in classes]) for c in listed}


def size_classes(samples: Samples) -> list[str]:
    """Return the class of ``SIZES`` of each sample's target, ``empty`` for those without foreground."""
    return [
        _EMPTY if not share else next(name for name, most in SIZES if share <= most)
        for share in samples.counts.target_share.tolist()
    ]


def _over_categories(per_class: Mapping[str, float], samples: Samples) -> dict[str, Any]:
    known = [value for name, value in per_class.items() if name != NO_CATEGORY] or list(per_class.values())
    sources = {s.category_source for s in samples.subjects if s.category}
    return {
        "macro_miou": mean(np.array(known), "omit"),
        "category_source": None if not sources else "mixed" if len(sources) > 1 else sources.pop(),
    }


def _by(
    name: str, classes: Mapping[str, NDArray[np.bool_]], samples: Samples, protocol: Protocol
) -> dict[str, dict[str, float]]:
    """Return ``per_NAME_METRIC`` -> class -> value."""
    result: dict[str, dict[str, float]] = {}
    counts = samples.counts
    for c, rows in classes.items():
        with warnings.catch_warnings():  # a class with only empty masks has no oIoU, shown as nan
            warnings.simplefilter("ignore", UserWarning)
            numbers = score(counts.intersection[rows], counts.union[rows], protocol, nan_policy="omit")
        for metric, value in numbers.items():
            result.setdefault(f"per_{name}_{metric}", {})[c] = value
    return result


def _no_target(samples: Samples, protocol: Protocol) -> dict[str, float]:
    counts = samples.counts
    empty, silent = counts.target == 0, counts.predicted == 0
    result = {
        "n_empty": int(empty.sum()),
        "no_target_acc": _share(silent[empty]),
        "target_acc": _share(~silent[~empty]),
    }
    if not empty.any():
        return result
    iou = sample_iou(counts.intersection, counts.union, replace(protocol, both_empty=1.0))
    union = int(counts.union[~empty].sum())
    return result | {
        "miou_generalized": 100 * mean(iou),
        "miou_target": 100 * mean(iou[~empty]),
        "oiou_target": 100 * int(counts.intersection[~empty].sum()) / union if union else math.nan,
    }


def no_target_text(numbers: Mapping[str, Any], n: int) -> str:
    """Return what a breakdown says about empty targets in a line; empty if there are none.

    Args:
        numbers: from `breakdown`, nan as None or not.
        n: number of samples.
    """
    if not numbers["n_empty"]:
        return ""

    def percent(name: str) -> str:
        value = numbers[name]
        return "none" if value is None or math.isnan(value) else f"{value:.2f} %"

    return (
        f"{numbers['n_empty']:,} of {n:,} targets are empty: N-acc {percent('no_target_acc')}, T-acc "
        f"{percent('target_acc')}; mIoU {percent('miou_generalized')} where two empty masks score 1; mIoU "
        f"{percent('miou_target')} and oIoU {percent('oiou_target')} over the other targets"
    )


def _localisation(samples: Samples, protocol: Protocol) -> dict[str, float]:
    counts, details = samples.counts, samples.counts.details
    assert details is not None
    iou = sample_iou(counts.intersection, counts.union, protocol)
    edge = sample_iou(details.boundary_intersection, details.boundary_union, protocol)
    there = counts.target > 0
    hit, box = there & details.centre_inside, details.box_iou()[there]
    return {
        "boundary_miou": 100 * mean(edge),
        "n_target": int(there.sum()),
        "centre_hit": _share(hit[there]),
        "box_miou": 100 * mean(box),
        "box_pr@0.5": _share(box >= 0.5),
        "hit_miou": 100 * mean(iou[hit]),
        "hit_boundary_miou": 100 * mean(edge[hit]),
    }


def _share(hits: NDArray[np.bool_]) -> float:
    return 100.0 * int(np.count_nonzero(hits)) / len(hits) if len(hits) else math.nan


def without_nan(value: Any) -> Any:
    """Return numbers, nested as they are, with None for nan: JSON has no nan."""
    if isinstance(value, Mapping):
        return {key: without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
