import math
from itertools import product

import numpy as np
import pytest

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.statistics import over_seeds, paired_test, scene_auc, scene_interval


def test_mean_and_order_do_not_matter():
    values, scenes = [0.1, 0.9, 0.5, 0.3], ["a", "a", "b", "c"]
    first = scene_interval(values, scenes)
    assert first.mean == pytest.approx(0.45)
    assert first.low <= first.mean <= first.high
    assert scene_interval(values, scenes) == first
    assert scene_interval(values[::-1], scenes[::-1]).low == pytest.approx(first.low)


def test_equal_values_have_no_width():
    interval = scene_interval([0.5] * 9, list("aabbccdde"))
    assert (interval.low, interval.high) == (0.5, 0.5)


def test_all_draws_of_few_scenes():
    """With three scenes of one sample each all 27 draws can be written down; most of their means lie inside."""
    values = np.array([0.0, 0.3, 0.9])
    means = sorted(np.mean(draw) for draw in product(values, repeat=3))
    interval = scene_interval(values, list("abc"), level=0.5, draws=20_000)
    # Student with 2 degrees of freedom: the middle 50 % become the middle 65 %
    assert means[3] <= interval.low <= means[6]
    assert means[-7] <= interval.high <= means[-4]


def test_weights_give_overall_iou():
    rng = np.random.default_rng(0)
    union = rng.integers(1, 1000, 300)
    intersection = (union * rng.random(300)).astype(int)
    scenes = [f"s{i // 3}" for i in range(300)]
    interval = scene_interval(intersection, scenes, weights=union)
    assert interval.mean == pytest.approx(intersection.sum() / union.sum())
    # by the delta method on scene sums
    i, u = intersection.reshape(-1, 3).sum(1), union.reshape(-1, 3).sum(1)
    residual = (i - interval.mean * u) / u.mean()
    half = 1.984 * residual.std(ddof=1) / 10
    assert interval.high - interval.mean == pytest.approx(half, rel=0.1)
    assert interval.mean - interval.low == pytest.approx(half, rel=0.1)


def test_one_scene_says_nothing_of_others():
    interval = scene_interval([0.2, 0.4], ["a", "a"])
    assert interval.mean == pytest.approx(0.3)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert not interval.excludes_zero


def correlated(rng, scenes):
    """IoU of 1-8 expressions a scene: scenes are easy or hard, an expression is found (0.5-1) or not (0)."""
    sizes = rng.integers(1, 9, scenes)
    names = np.repeat(np.arange(scenes), sizes)
    ease = rng.beta(1.2, 0.8, scenes)[names]
    return np.where(rng.random(len(names)) < ease, rng.uniform(0.5, 1, len(names)), 0.0), names.astype(str).tolist()


def test_coverage_with_correlated_expressions():
    """1,500 data sets of 100 scenes, about the size of RefSegRS's test split: 95 ± 2 % of intervals hold the truth.

    Resampling expressions one by one, every sample its own scene, falls far short.
    """
    rng, truth, trials = np.random.default_rng(1), 0.6 * 0.75, 1500
    hits = naive = 0
    for trial in range(trials):
        values, scenes = correlated(rng, 100)
        by_scene = scene_interval(values, scenes, draws=800, seed=trial)
        hits += by_scene.low <= truth <= by_scene.high
        if trial % 3 == 0:
            alone = scene_interval(values, [str(i) for i in range(len(values))], draws=400, seed=trial)
            naive += alone.low <= truth <= alone.high
    assert 0.93 <= hits / trials <= 0.97
    assert naive / (trials / 3) < 0.85


def test_paired_difference_of_equals_is_rarely_significant():
    """600 pairs of methods that are equally good on average: the test errs in 5 % of cases, the interval likewise."""
    rng, wrong, outside = np.random.default_rng(2), 0, 0
    for trial in range(600):
        base, scenes = correlated(rng, 60)
        first, second = (np.clip(base + rng.normal(0, 0.1, len(base)), 0, 1) for _ in range(2))
        result = paired_test(first, second, scenes, draws=400, seed=trial)
        wrong += result.p_value <= 0.05
        outside += result.difference.excludes_zero
    assert 0.025 <= wrong / 600 <= 0.075
    assert 0.025 <= outside / 600 <= 0.08


def test_p_value_of_all_exchanges():
    """Seven scenes have 128 exchanges; where all differences are positive, 2 of them are as extreme."""
    first, second = np.array([0.9, 0.8, 0.7, 0.9, 0.6, 0.8, 0.9]), np.array([0.5, 0.6, 0.1, 0.8, 0.2, 0.3, 0.4])
    result = paired_test(first, second, list("abcdefg"), draws=20_000)
    assert result.p_value == pytest.approx(2 / 128, rel=0.2)
    assert result.difference.mean == pytest.approx((first - second).mean())
    assert (result.samples, result.scenes) == (7, 7)
    assert paired_test(second, first, list("abcdefg"), draws=20_000).p_value == pytest.approx(2 / 128, rel=0.2)


def test_a_method_does_not_differ_from_itself():
    values, scenes = correlated(np.random.default_rng(3), 40)
    same = paired_test(values, values, scenes)
    assert same.p_value == 1.0
    assert (same.difference.mean, same.difference.low, same.difference.high) == (0.0, 0.0, 0.0)


def test_paired_mean_is_the_interval_of_the_differences():
    values, scenes = correlated(np.random.default_rng(4), 40)
    other = np.clip(values - 0.05, 0, 1)
    paired, plain = paired_test(values, other, scenes).difference, scene_interval(values - other, scenes)
    assert (paired.low, paired.high) == pytest.approx((plain.low, plain.high))
    assert paired_test(values, other, scenes).p_value == 1 / 4001


def test_paired_overall_iou():
    rng = np.random.default_rng(5)
    unions = rng.integers(10, 1000, (2, 200))
    counts = (unions * np.array([[0.8], [0.6]])).astype(int)
    scenes = [f"s{i // 2}" for i in range(200)]
    result = paired_test(counts[0], counts[1], scenes, weights=(unions[0], unions[1]))
    assert result.difference.mean == pytest.approx(
        counts[0].sum() / unions[0].sum() - counts[1].sum() / unions[1].sum()
    )
    assert result.difference.excludes_zero
    assert result.p_value < 0.001


def test_spread_over_seeds():
    spread = over_seeds([60.0, 62.0, 64.0])
    assert (spread.mean, spread.deviation, spread.runs) == (62.0, 2.0, 3)
    assert spread.text() == "62.00 ± 2.00 (3 seeds)"
    one = over_seeds([63.14])
    assert math.isnan(one.deviation)
    assert one.text(1) == "63.1 (1 seed)"
    for wrong in ([], [math.nan, 1.0], [[1.0]]):
        with pytest.raises(ConfigError, match="one finite score for each seed"):
            over_seeds(wrong)


def test_zero():
    assert scene_interval([0.2, 0.3, 0.25] * 4, list("abcdefghijkl")).excludes_zero
    assert not scene_interval([0.2, -0.3, 0.1] * 4, list("abcdefghijkl")).excludes_zero


@pytest.mark.parametrize(
    ("values", "scenes", "options", "message"),
    [
        ([], [], {}, "do not match"),
        ([1.0], ["a", "b"], {}, "do not match 2 scenes"),
        ([1.0], ["a"], {"weights": [1, 2]}, "do not match"),
        ([np.nan, 1.0], ["a", "b"], {}, "finite"),
        ([1.0], ["a"], {"weights": [0]}, "more than 0"),
        ([1.0, 1.0], ["a", "b"], {"weights": [-1, 2]}, "0 or more"),
        ([1.0], ["a"], {"level": 95}, "level"),
        ([1.0], ["a"], {"draws": 0}, "draws"),
    ],
)
def test_bad_input(values, scenes, options, message):
    with pytest.raises(ConfigError, match=message):
        scene_interval(values, scenes, **options)


# -- area under the ROC curve ------------------------------------------------------------------------------------------


def slow_auc(positive, negative):
    pairs = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    return sum(pairs) / len(pairs)


def test_auc_is_the_share_of_pairs():
    rng = np.random.default_rng(0)
    for digits in (1, 6):  # with ties and without
        positive, negative = rng.normal(0.5, 1, 40).round(digits), rng.normal(0, 1, 30).round(digits)
        scenes = [[f"s{i % 9}" for i in range(len(values))] for values in (positive, negative)]
        interval = scene_auc(positive, negative, *scenes, draws=200)
        assert interval.mean == pytest.approx(slow_auc(positive, negative), abs=1e-12)
        assert interval.low < interval.mean < interval.high
    assert scene_auc([2, 3], [0, 1], ["a", "b"], ["a", "b"], draws=5).mean == 1
    assert scene_auc([1, 1], [1, 1], ["a", "b"], ["a", "b"], draws=5).mean == 0.5


def test_auc_draws_whole_scenes():
    """Against draws made slowly, of both kinds of samples of a scene together, and of training runs."""
    rng = np.random.default_rng(1)
    positive, negative = rng.normal(0.7, 1, (2, 24)), rng.normal(0, 1, (2, 16))
    own, foreign = [f"s{i // 3}" for i in range(24)], [f"s{i // 2}" for i in range(16)]
    interval = scene_auc(positive, negative, own, foreign, level=0.8, draws=3000)
    assert interval.mean == pytest.approx(np.mean([slow_auc(*rows) for rows in zip(positive, negative, strict=True)]))
    names, areas = sorted(set(own)), []
    for _ in range(3000):
        scenes, runs = rng.choice(names, len(names)), rng.integers(0, 2, 2)
        taken = [[i for s in scenes for i in range(len(of)) if of[i] == s] for of in (own, foreign)]
        each = [slow_fast(positive[r][taken[0]], negative[r][taken[1]]) for r in (0, 1)]
        centre = np.mean(each)
        areas.append(centre + 2**0.5 * (np.mean([each[r] for r in runs]) - centre))
    from scipy.stats import norm, t

    tail = norm.cdf(-t.ppf(0.9, 7) * (8 / 7) ** 0.5)
    low, high = np.quantile(areas, [tail, 1 - tail])
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.02)


def slow_fast(positive, negative):
    return ((positive[:, None] > negative).mean() + (positive[:, None] >= negative).mean()) / 2


def test_auc_does_not_depend_on_chunks_or_order(monkeypatch):
    rng = np.random.default_rng(2)
    positive, negative = rng.normal(1, 1, 30), rng.normal(0, 1, 30)
    scenes = [f"s{i % 7}" for i in range(30)]
    whole = scene_auc(positive, negative, scenes, scenes, draws=300)
    order = rng.permutation(30)
    mixed = scene_auc(positive[order], negative, [scenes[i] for i in order], scenes, draws=300)
    assert (mixed.mean, mixed.low, mixed.high) == pytest.approx((whole.mean, whole.low, whole.high), abs=1e-12)
    monkeypatch.setattr("rrsis_zoo.metrics.statistics._AT_ONCE", 100)
    small = scene_auc(positive, negative, scenes, scenes, draws=300)
    assert (small.low, small.high) == pytest.approx((whole.low, whole.high), abs=1e-12)


@pytest.mark.parametrize(
    ("positive", "negative", "scenes", "message"),
    [
        ([1.0], [], (["a"], []), "needs positive and negative samples"),
        ([1.0], [0.0, 0.1], (["a"], ["a"]), "do not match 1 and 1 scenes"),
        ([[1.0], [2.0]], [[0.0]], (["a"], ["a"]), "as many training runs"),
        ([float("nan")], [0.0], (["a"], ["a"]), "must be finite"),
    ],
)
def test_auc_of_bad_input(positive, negative, scenes, message):
    with pytest.raises(ConfigError, match=message):
        scene_auc(positive, negative, *scenes)
