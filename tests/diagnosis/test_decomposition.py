"""mIoU and differences of mIoU split without a remainder, also where a method has only hits or only misses."""

import math
from itertools import product

import numpy as np
import pytest

from rrsis_zoo.diagnosis.decomposition import Parts, difference, parts, split
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.statistics import scene_interval


def slow_parts(iou, hit):
    """Straight from the definition, for hits of 0 and 1."""
    hits = [v for v, h in zip(iou, hit, strict=True) if h]
    misses = [v for v, h in zip(iou, hit, strict=True) if not h]
    mean = [sum(group) / len(group) if group else math.nan for group in (hits, misses)]
    return Parts(len(hits) / len(iou), *mean)


def test_parts_are_those_of_the_definition(rng):
    iou, hit = rng.random(50), rng.integers(0, 2, 50)
    found, slow = parts(iou, hit), slow_parts(iou.tolist(), hit.tolist())
    assert (found.hit, found.given_hit, found.given_miss) == pytest.approx((slow.hit, slow.given_hit, slow.given_miss))


@pytest.mark.parametrize("shares", [(0, 1), (0, 0.5, 1), (1,), (0,)])
def test_miou_is_the_sum_of_its_parts(rng, shares):
    for _ in range(50):
        iou, hit = rng.random(17), rng.choice(shares, 17)
        assert abs(parts(iou, hit).miou - iou.mean()) < 1e-9


@pytest.mark.parametrize(("one", "other"), product([(0, 1), (0, 0.5, 1), (1,), (0,)], repeat=2))
def test_where_and_how_exactly_add_up_to_the_difference(rng, one, other):
    for _ in range(20):
        sides = [(rng.random(13), rng.choice(shares, 13)) for shares in (one, other)]
        where, exactly = split(*(parts(*side) for side in sides))
        assert abs(where + exactly - (sides[0][0].mean() - sides[1][0].mean())) < 1e-9


def test_the_two_parts_are_those_of_the_formula_and_change_sign_with_the_order():
    first, second = Parts(0.8, 0.9, 0.2), Parts(0.6, 0.7, 0.3)
    where, exactly = split(first, second)
    assert where == pytest.approx(0.5 * 0.2 * (0.7 + 0.4))
    assert exactly == pytest.approx(0.5 * (1.4 * 0.2 + 0.6 * -0.1))
    assert split(second, first) == pytest.approx((-where, -exactly))


def test_nothing_is_attributed_to_misses_that_one_method_does_not_have():
    assert split(Parts(1.0, 0.8, math.nan), Parts(0.5, 0.8, 0.1)) == pytest.approx((0.5 * 0.7, 0))


def test_difference_of_several_trainings_with_intervals_by_scene(rng):
    scenes = [f"s{i // 3}" for i in range(60)]
    base = rng.random(60) * 0.5
    first = np.clip([base + 0.3, base + 0.32], 0, 1), np.ones((2, 60))
    second = np.stack([base, base + 0.01]), np.tile([0, 1], 30) * np.ones((2, 1))
    found = difference(first, second, scenes, draws=300)
    assert abs(found.where.mean + found.exactly.mean - found.total.mean) < 1e-9
    assert found.total.mean == pytest.approx(first[0].mean() - second[0].mean())
    for one in (found.total, found.where, found.exactly):
        assert one.low <= one.mean <= one.high
    assert found.total.excludes_zero
    assert difference(first, second, scenes, draws=300) == found
    # the interval of the total is that of the paired differences, up to the noise of the draws
    alone = difference((first[0][0], first[1][0]), (second[0][0], second[1][0]), scenes)
    paired = scene_interval(first[0][0] - second[0][0], scenes)
    assert (alone.total.low, alone.total.high) == pytest.approx((paired.low, paired.high), abs=0.004)


def test_wrong_shapes_are_refused():
    with pytest.raises(ConfigError, match="one of each per sample"):
        parts([0.5, 0.6], [1])
    with pytest.raises(ConfigError, match="do not match 3 scenes"):
        difference(([0.5, 0.6], [1, 0]), ([0.5, 0.6], [1, 0]), ["a", "b", "c"])
