"""Intervals and comparisons of methods that were trained several times."""

import math

import numpy as np
import pytest

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.statistics import holm, paired_test, scene_interval

SCENES = [f"s{i // 2}" for i in range(80)]


def values(seed=0, trainings=1, spread=0.0):
    """Scores (S, N): scenes are easy or hard for all trainings, which differ by their own deviation."""
    rng = np.random.default_rng(seed)
    scene = np.repeat(rng.normal(0.5, 0.1, 40), 2)
    return scene + rng.normal(0, 0.05, (trainings, 80)) + spread * rng.normal(0, 1, (trainings, 1))


def test_one_training_is_a_row_or_a_vector():
    given = values()
    assert scene_interval(given, SCENES) == scene_interval(given[0], SCENES)
    other = values(1)
    assert paired_test(given, other, SCENES) == paired_test(given[0], other[0], SCENES)


def test_equal_trainings_add_nothing():
    given = values()
    once, thrice = scene_interval(given, SCENES), scene_interval(np.repeat(given, 3, 0), SCENES)
    assert (thrice.mean, thrice.low, thrice.high) == pytest.approx((once.mean, once.low, once.high))


def test_where_only_trainings_differ_the_interval_is_theirs():
    """Two trainings: both, or one of them twice; the deviation of their mean is half of their distance."""
    given = np.repeat([[0.6], [0.4]], 80, axis=1)
    found = scene_interval(given, SCENES)
    assert found.mean == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((0.5 - 0.1 * math.sqrt(2), 0.5 + 0.1 * math.sqrt(2)))


def test_the_mean_is_that_of_the_trainings_scores():
    """Not the ratio of the sums of all: oIoU weighs by unions, which trainings have different ones of."""
    counts, unions = np.array([[10, 10, 30], [10, 20, 10]]), np.array([[20, 20, 40], [20, 90, 20]])
    found = scene_interval(counts, list("abc"), weights=unions)
    assert found.mean == pytest.approx((50 / 80 + 40 / 130) / 2)
    pair = paired_test(counts, counts[0], list("abc"), weights=(unions, unions[0]))
    assert pair.difference.mean == pytest.approx((50 / 80 + 40 / 130) / 2 - 50 / 80)


@pytest.mark.parametrize(("trainings", "least"), [(3, 0.86), (8, 0.91)])
def test_coverage(trainings, least):
    """Of intervals whose scenes and trainings both vary; those of the scenes alone hold the truth far more seldom."""
    held = {"both": 0, "scenes": 0}
    for i in range(150):
        given = values(i, trainings, spread=0.04)
        both = scene_interval(given, SCENES, draws=400)
        alone = scene_interval(given.mean(0), SCENES, draws=400)
        held["both"] += both.low <= 0.5 <= both.high
        held["scenes"] += alone.low <= 0.5 <= alone.high
    assert least < held["both"] / 150 < 0.99
    assert held["scenes"] < held["both"]


def test_comparison_with_different_numbers_of_trainings():
    first, second = values(0, 3, 0.01), values(0, 2, 0.01) - 0.1
    found = paired_test(first, second, SCENES)
    assert found.difference.mean == pytest.approx(first.mean() - second.mean())
    assert found.difference.excludes_zero
    assert found.p_value < 0.001
    assert (found.samples, found.scenes) == (80, 40)
    back = paired_test(second, first, SCENES)
    assert back.p_value == pytest.approx(found.p_value, abs=0.01)
    assert back.difference.low == pytest.approx(-found.difference.high, abs=0.01)


def test_trainings_that_differ_more_than_methods_show_nothing():
    """The scenes tell these two apart, another training might not."""
    first = values(0, 2) + np.array([[0.08], [-0.06]])
    second = values(3, 2) * 0 + values(0, 2)
    scenes_only = paired_test(first.mean(0) + 0.02, second.mean(0), SCENES)
    assert scenes_only.difference.excludes_zero
    assert not paired_test(first + 0.02, second, SCENES).difference.excludes_zero


def test_no_false_alarm():
    """Equal methods: the p-value is below 0.05 about as often as it says."""
    below = 0
    for i in range(120):
        both = values(i, 4)
        below += paired_test(both[:2], both[2:], SCENES, draws=300).p_value < 0.05
    assert below / 120 < 0.11


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []
    with pytest.raises(ConfigError, match="between 0 and 1"):
        holm([0.2, math.nan])


def test_bad_shapes_are_named():
    with pytest.raises(ConfigError, match="do not match 2 scenes"):
        scene_interval(np.ones((2, 3)), ["a", "b"])
    with pytest.raises(ConfigError, match="do not match"):
        scene_interval(np.ones((2, 2, 2)), ["a", "b"])
    with pytest.raises(ConfigError, match="more than 0"):
        scene_interval(np.ones((2, 2)), ["a", "b"], weights=[[1, 1], [0, 0]])
