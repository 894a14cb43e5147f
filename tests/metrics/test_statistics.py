import numpy as np
import pytest

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.metrics.statistics import scene_interval


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


def test_coverage_with_correlated_expressions():
    """300 data sets of 60 scenes with 1-8 expressions that share most of their luck: about 95 % must hold the truth.

    Resampling expressions one by one (every sample its own scene) falls far short.
    """
    rng = np.random.default_rng(1)
    hits = naive = 0
    for trial in range(300):
        sizes = rng.integers(1, 9, 60)
        scenes = np.repeat(np.arange(60), sizes)
        values = rng.normal(0, 1, 60)[scenes] + rng.normal(0, 0.3, len(scenes))
        by_scene = scene_interval(values, scenes.astype(str).tolist(), draws=400, seed=trial)
        alone = scene_interval(values, [str(i) for i in range(len(values))], draws=400, seed=trial)
        hits += by_scene.low <= 0 <= by_scene.high
        naive += alone.low <= 0 <= alone.high
    assert 0.91 <= hits / 300 <= 0.98
    assert naive / 300 < 0.75


def test_zero():
    assert scene_interval([0.2, 0.3, 0.25], list("abc")).excludes_zero
    assert not scene_interval([0.2, -0.3, 0.1], list("abc")).excludes_zero


@pytest.mark.parametrize(
    ("values", "scenes", "options", "message"),
    [
        ([], [], {}, "do not go with"),
        ([1.0], ["a", "b"], {}, "do not go with 2 scenes"),
        ([np.nan, 1.0], ["a", "b"], {}, "finite"),
        ([1.0], ["a"], {"level": 95}, "level"),
    ],
)
def test_bad_input(values, scenes, options, message):
    with pytest.raises(ConfigError, match=message):
        scene_interval(values, scenes, **options)
