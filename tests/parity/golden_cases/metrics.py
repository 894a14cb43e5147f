"""Golden cases of metrics: masks in, the numbers of a published evaluation program out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from golden_cases.case import Case
from golden_cases.report import Row, compare_number, compare_tensor
from rrsis_zoo.errors import unknown_name
from rrsis_zoo.metrics.protocols import get_protocol
from rrsis_zoo.metrics.scores import THRESHOLDS, mean, sample_iou, score


def check_metrics(case: Case) -> list[Row]:
    """Compare the counts and every expected number.

    Raises:
        ConfigError: no metric of that model is known.
    """
    if case.model not in _METRICS:
        raise unknown_name("model with a metric", case.model, _METRICS)
    return _METRICS[case.model](case)


def _rsrefseg(case: Case) -> list[Row]:
    """RSRefSeg's metric (docs/metrics.md, protocol ``rsrefseg``): per class and, where there are any, per category."""
    settings = case.configuration
    pred, label = case.input("in.pred").numpy(), case.input("in.label").numpy()
    options = (settings.get("categories") or [], settings["thresholds"], settings["ignore_index"])
    intersection, union = class_counts(pred, label, settings["ignore_index"])
    counts = {"out.intersect": intersection, "out.union": union}
    rows = [
        compare_tensor(case, name, torch.from_numpy(counts[name].astype(np.float32)))
        for name in case.names("output")
        if name in counts
    ]
    rows += _compare_numbers(case, "expected", case.meta["expected"], rsrefseg_metrics(pred, label, *options))
    if expected := case.meta.get("expected_with_empty_sample0"):
        pred, label = pred.copy(), label.copy()
        pred[0], label[0] = 0, 0
        ours = rsrefseg_metrics(pred, label, *options)
        rows += _compare_numbers(case, "expected_with_empty_sample0", expected, ours)
    return rows


def class_counts(
    pred: NDArray[np.integer], label: NDArray[np.integer], ignore_index: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return intersection and union (N, 2) for class 0 and 1; pixels with the ignored label belong to neither.

    Args:
        pred: (N, H, W) of 0 and 1.
        label: (N, H, W) of 0, 1 and ``ignore_index``.
        ignore_index: the label that is left out.
    """
    counted = label != ignore_index
    pairs = [((pred == k) & counted, (label == k) & counted) for k in (0, 1)]
    intersection = np.stack([(p & g).sum((1, 2)) for p, g in pairs], axis=1)
    union = np.stack([(p | g).sum((1, 2)) for p, g in pairs], axis=1)
    return intersection.astype(np.int64), union.astype(np.int64)


def rsrefseg_metrics(
    pred: NDArray[np.integer],
    label: NDArray[np.integer],
    categories: Sequence[str],
    thresholds: Sequence[float],
    ignore_index: int,
) -> dict[str, float]:
    """Return ``cIoU_k``, ``gIoU_k``, ``seg_acc_t_k`` and the mean IoU of each category, in percent."""
    protocol = get_protocol("rsrefseg")
    intersection, union = class_counts(pred, label, ignore_index)
    out: dict[str, float] = {}
    for k in (0, 1):
        numbers = score(intersection[:, k], union[:, k], protocol, thresholds)
        out[f"cIoU_{k}"], out[f"gIoU_{k}"] = numbers["oiou"], numbers["miou"]
        out |= {f"seg_acc_{t}_{k}": numbers[f"pr@{t}"] for t in thresholds}
    iou, names = sample_iou(intersection[:, 1], union[:, 1], protocol), np.array(categories)
    for name in dict.fromkeys(categories):
        scored = mean(iou[names == name], "omit")
        if not math.isnan(scored):
            out[name] = 100 * scored
    if categories:
        out["mean_iou"] = float(np.mean([out[name] for name in dict.fromkeys(categories) if name in out]))
    return out


def _evisam3(case: Case) -> list[Row]:
    """EviSAM3's two evaluators (docs/methods/evisam3.md §13), as ratios.

    ``fixed_threshold`` is the one of its tables, our protocol ``evisam3``. ``threshold_sweep``, its standalone script,
    cuts the probabilities at t = 0.5 ... 0.9, takes P@t from the masks cut at that t and averages mIoU and oIoU over
    the five; it is here to show that its numbers are understood, and is no protocol.
    """
    protocol = get_protocol("evisam3")
    probability = case.input("in.logits_i8")[:, 0].sigmoid().numpy()
    label = case.input("in.gt").numpy()
    counts = {t: class_counts((probability > t).astype(np.uint8), label, ignore_index=255) for t in THRESHOLDS}
    numbers = {
        t: {name: value / 100 for name, value in score(i[:, 1], u[:, 1], protocol).items()}
        for t, (i, u) in counts.items()
    }
    half = numbers[0.5]
    fixed = {f"Pr@{t}": half[f"pr@{t}"] for t in THRESHOLDS} | {"mIoU": half["miou"], "oIoU": half["oiou"]}
    sweep = {}
    for t in THRESHOLDS:
        at = numbers[t]
        sweep |= {f"P@{t}": at[f"pr@{t}"], f"mIoU@{t}": at["miou"], f"oIoU@{t}": at["oiou"]}
    sweep |= {name: math.fsum(sweep[f"{name}@{t}"] for t in THRESHOLDS) / len(THRESHOLDS) for name in ("mIoU", "oIoU")}
    iou = sample_iou(counts[0.5][0][:, 1], counts[0.5][1][:, 1], protocol)
    rows = [compare_tensor(case, "out.iou_at_0.5", torch.from_numpy(iou.astype(np.float32)))]
    for key, ours in (("fixed_threshold", fixed), ("threshold_sweep", sweep)):
        rows += _compare_numbers(case, f"expected.{key}", case.meta["expected"][key], ours)
    return rows


def _compare_numbers(case: Case, key: str, expected: dict[str, float | None], ours: dict[str, float]) -> list[Row]:
    t, rows = case.tolerance, []
    for name, wanted in expected.items():
        value = ours.get(name)
        value = None if value is not None and math.isnan(value) else value  # JSON has null for NaN
        rows.append(compare_number("metric", f"{key}.{name}", value, wanted, t.rtol, t.atol))
    return rows


_METRICS: dict[str, Callable[[Case], list[Row]]] = {
    "rsrefseg": _rsrefseg,
    "rsrefseg2": _rsrefseg,
    "evisam3": _evisam3,
}
