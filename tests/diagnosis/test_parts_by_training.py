"""mIoU as hits and misses, and differences as where and how exactly, against slow sums."""

import math

import numpy as np
import pytest

from rrsis_zoo.diagnosis.decomposition import difference, parts, split
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.statistics import paired_test


def made(seed: int, runs: int = 1, scenes: int = 30):
    """IoUs and hits (runs, 3 · scenes) that go together, some hits fractional."""
    rng = np.random.default_rng(seed)
    hit = (rng.random((runs, 3 * scenes)) < 0.7).astype(float)
    hit[:, ::11] = 0.5
    iou = np.clip(0.8 * hit + 0.15 * rng.normal(size=hit.shape), 0, 1)
    return iou, hit


def slow_parts(iou, hit):
    pairs = [(float(i), float(h)) for i, h in zip(iou.ravel(), hit.ravel(), strict=True)]
    hits, misses = sum(h for _, h in pairs), sum(1 - h for _, h in pairs)
    return hits / len(pairs), sum(h * i for i, h in pairs) / hits, sum((1 - h) * i for i, h in pairs) / misses


@pytest.mark.parametrize("seed", range(5))
def test_the_parts_are_those_of_a_slow_sum_and_give_the_miou(seed):
    iou, hit = made(seed)
    found = parts(iou[0], hit[0])
    assert (found.hit, found.given_hit, found.given_miss) == pytest.approx(slow_parts(iou, hit), abs=1e-12)
    assert found.miou == pytest.approx(float(iou.mean()), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_where_and_how_exactly_add_up_and_are_the_mean_of_both_orders(seed):
    first, second = (parts(*(x[0] for x in made(s))) for s in (seed, seed + 100))
    where, exactly = split(first, second)
    assert where + exactly == pytest.approx(first.miou - second.miou, abs=1e-9)

    def miou(hits, masks):
        return hits.hit * masks.given_hit + (1 - hits.hit) * masks.given_miss

    hits_first = miou(first, second) - miou(second, second)  # exchange the hits first, then the masks
    hits_last = miou(first, first) - miou(second, first)
    assert where == pytest.approx((hits_first + hits_last) / 2, abs=1e-12)
    assert split(second, first) == pytest.approx((-where, -exactly))


def test_a_method_that_never_misses_attributes_nothing_to_its_misses():
    perfect, other = parts([0.9, 0.7], [1, 1]), parts([0.8, 0.2], [1, 0])
    assert math.isnan(perfect.given_miss)
    where, exactly = split(perfect, other)
    assert where + exactly == pytest.approx(0.8 - 0.5, abs=1e-12)
    assert exactly == pytest.approx(0.5 * (1 + 0.5) * (0.8 - 0.8))
    assert split(parts([0.5], [1]), parts([0.2], [1])) == pytest.approx((0, 0.3))


def test_runs_count_alike():
    iou, hit = made(3, runs=4)
    assert parts(iou, hit).miou == pytest.approx(float(np.mean([row.mean() for row in iou])), abs=1e-12)


@pytest.mark.parametrize("runs", [1, 2])
def test_the_interval_of_the_total_is_that_of_a_paired_comparison(runs):
    first, second = made(1, runs), made(2, runs)
    scenes = [f"scene {i // 3}" for i in range(90)]
    found = difference(first, second, scenes)
    usual = paired_test(first[0], second[0], scenes).difference
    assert found.total.mean == pytest.approx(usual.mean, abs=1e-12)
    assert found.where.mean + found.exactly.mean == pytest.approx(usual.mean, abs=1e-9)
    # two bootstraps of the same thing: scenes and, stretched alike, runs
    width, its = (x.high - x.low for x in (found.total, usual))
    assert width == pytest.approx(its, rel=0.1)
    assert found.total.low == pytest.approx(usual.low, abs=0.1 * its)


def test_one_scene_says_nothing_about_others():
    iou, hit = made(0)
    found = difference((iou, hit), (iou / 2, hit), ["only"] * 90)
    assert math.isnan(found.total.low)
    assert math.isnan(found.where.high)


def test_numbers_that_do_not_belong_together_are_refused():
    with pytest.raises(ConfigError, match="one of each per sample"):
        parts([0.5, 0.5], [1.0])
    with pytest.raises(ConfigError, match="do not match 2 scenes"):
        difference(([0.5], [1.0]), ([0.5], [1.0]), ["a", "b"])
