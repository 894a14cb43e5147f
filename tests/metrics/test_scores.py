import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.protocols import get_protocol
from rrsis_zoo.metrics.scores import THRESHOLDS, sample_iou, score

CANONICAL = get_protocol("canonical")
STRICT32 = replace(CANONICAL, name="strict32", comparison=">", comparison_dtype="float32", both_empty=math.nan)
KEYS = ["n", "oiou", "miou", "pr@0.5", "pr@0.6", "pr@0.7", "pr@0.8", "pr@0.9"]

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"
CASES = json.loads((GOLDEN / "cases.json").read_text())["cases"]


def golden_counts(case):
    """Intersections and unions of a golden case by numpy, apart from the package's own counting."""
    with np.load(GOLDEN / "cases.npz") as masks:
        pairs = [(masks[f"{case}/pred_{i}"], masks[f"{case}/target_{i}"]) for i in range(CASES[case]["n"])]
    return (
        [int(np.logical_and(p, t).sum()) for p, t in pairs],
        [int(np.logical_or(p, t).sum()) for p, t in pairs],
    )


@pytest.mark.parametrize("case", CASES)
def test_golden_cases_of_the_published_test_scripts(case):
    expected = CASES[case]["lavt_test"]
    i, u = golden_counts(case)
    result = score(i, u, CANONICAL)
    assert list(result) == KEYS
    assert result["n"] == expected["n"]
    assert result["oiou"] == pytest.approx(expected["oIoU"], abs=1e-9)
    assert result["miou"] == pytest.approx(expected["mIoU"], abs=1e-9)
    for t in THRESHOLDS:
        assert result[f"pr@{t}"] == pytest.approx(expected[f"Pr@{t}"], abs=1e-9)
    assert sample_iou(i, u, CANONICAL).tolist() == pytest.approx(expected["per_sample_iou"], abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_golden_cases_of_the_strict_float32_metric(case):
    # The other conventions that a protocol can name, against the program that has them.
    expected = {key: float(value) for key, value in CASES[case]["rsrefseg"].items() if key.endswith("_1")}
    result = score(*golden_counts(case), STRICT32)
    assert result["oiou"] == pytest.approx(expected["cIoU_1"], abs=1e-4)
    assert result["miou"] == pytest.approx(expected["gIoU_1"], abs=1e-4, nan_ok=True)
    for t in THRESHOLDS:
        assert result[f"pr@{t}"] == pytest.approx(expected[f"seg_acc_{t}_1"], abs=1e-4)


@pytest.mark.parametrize("seed", range(20))
def test_scores_equal_exact_rational_arithmetic(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    union = rng.integers(0, rng.choice([3, 11, 640_000]), n)
    intersection = np.array([rng.integers(0, u + 1) for u in union])
    union[0] += 1  # at least one pixel

    ious = [Fraction(int(i), int(u)) if u else Fraction(0) for i, u in zip(intersection, union, strict=True)]
    result = score(intersection, union, CANONICAL)
    assert result["miou"] == pytest.approx(float(100 * sum(ious) / n), rel=1e-15)
    assert result["oiou"] == pytest.approx(float(Fraction(100 * int(intersection.sum()), int(union.sum()))), rel=1e-15)
    for t in THRESHOLDS:
        hits = sum(iou >= Fraction(str(t)) for iou in ious)  # 7/10 as people mean it, not as binary fractions
        assert result[f"pr@{t}"] == pytest.approx(100 * hits / n, rel=1e-15)


@pytest.mark.parametrize("t", THRESHOLDS)
def test_exactly_at_a_threshold_counts(t):
    tenths = round(10 * t)
    unions = 10 * np.arange(1, 20_000, 37)
    assert score(tenths * unions // 10, unions, CANONICAL)[f"pr@{t}"] == 100.0
    assert score(tenths * unions // 10, unions, STRICT32)[f"pr@{t}"] == 0.0
    assert score(tenths * unions // 10 - 1, unions, CANONICAL)[f"pr@{t}"] == 0.0


def test_empty_pairs():
    assert score([0, 5], [0, 10], CANONICAL) == pytest.approx(
        {"n": 2, "oiou": 50.0, "miou": 25.0, "pr@0.5": 50.0, "pr@0.6": 0, "pr@0.7": 0, "pr@0.8": 0, "pr@0.9": 0}
    )
    one = score([0, 5], [0, 10], replace(CANONICAL, both_empty=1.0))
    assert (one["oiou"], one["miou"], one["pr@0.9"]) == (50.0, 75.0, 50.0)


def test_samples_without_an_iou_make_the_mean_nan_or_are_left_out_of_it():
    rsrefseg = get_protocol("rsrefseg")
    kept, left_out = (score([0, 5, 10], [0, 10, 10], rsrefseg, nan_policy=p) for p in ("propagate", "omit"))
    assert math.isnan(kept.pop("miou"))
    assert left_out.pop("miou") == 75.0
    assert kept == left_out == pytest.approx(
        {"n": 3, "oiou": 75.0, "pr@0.5": 100 / 3, "pr@0.6": 100 / 3, "pr@0.7": 100 / 3, "pr@0.8": 100 / 3,
         "pr@0.9": 100 / 3}
    )  # fmt: skip
    with pytest.warns(UserWarning, match="oIoU is undefined"):
        assert math.isnan(score([0], [0], rsrefseg, nan_policy="omit")["miou"])


def test_the_epsilon_of_evisam3():
    assert sample_iou([1, 10], [3, 10], get_protocol("evisam3")).tolist() == [1 / (3 + 1e-8), 10 / (10 + 1e-8)]
    assert sample_iou([0], [0], get_protocol("evisam3")).tolist() == [0.0]


def test_all_masks_empty_leaves_oiou_undefined():
    with pytest.warns(UserWarning, match="oIoU is undefined"):
        result = score([0, 0], [0, 0], CANONICAL)
    assert math.isnan(result["oiou"])
    assert result["miou"] == result["pr@0.5"] == 0.0


def test_sums_do_not_overflow_32_bits():
    n = 5000
    counts = np.full(n, 800 * 800, dtype=np.int32)
    assert score(counts // 2, counts, CANONICAL)["oiou"] == 50.0


@pytest.mark.parametrize(
    ("i", "u", "words"),
    [
        ([], [], "no samples"),
        ([1, 2], [3], "2 intersections do not match 1 unions"),
        ([1, 4], [3, 3], "sample 1 has intersection 4 and union 3"),
        ([-1], [3], "sample 0 has intersection -1"),
        ([0.5], [1.0], "vector of integers"),
        ([[1]], [[1]], "vector of integers"),
    ],
)
def test_impossible_counts_are_refused(i, u, words):
    with pytest.raises(ConfigError, match=words):
        score(i, u, CANONICAL)
