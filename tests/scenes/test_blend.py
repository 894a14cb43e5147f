import numpy as np
import pytest

from rrsis_zoo.scenes.blend import Blend
from rrsis_zoo.scenes.windows import Plan


def whole(plan, answers, presence):
    """The same with everything in memory, in double precision."""
    sums = np.zeros((2, plan.height, plan.width))
    weights = np.zeros((plan.height, plan.width))
    highest = np.zeros_like(sums)
    for n, logits in enumerate(answers):
        window = plan[n]
        part = (slice(window.top, window.bottom), slice(window.left, window.right))
        sums[:, *part] += logits * plan.weights(n)
        weights[part] += plan.weights(n)
        seen = np.where(logits > 0, presence[n][:, None, None], 0)
        highest[:, *part] = np.maximum(highest[:, *part], seen)
    return sums / weights, highest


@pytest.mark.parametrize("at_once", [1, 3, 7])
def test_rows_are_those_of_the_whole_map(at_once):
    rng = np.random.default_rng(0)
    plan = Plan.tiled(150, 90, 32, 0.25)
    answers = [rng.normal(size=(2, 32, 32)).astype(np.float32) for _ in range(len(plan))]
    presence = rng.random((len(plan), 2)).astype(np.float32)
    blend, rows = Blend(2, 0, 150, 90, True), []
    for first in range(0, len(plan), at_once):
        for n in range(first, min(first + at_once, len(plan))):
            blend.add(plan[n], answers[n], plan.weights(n), presence[n])
        following = first + at_once
        done = blend.finish(plan[following].top if following < len(plan) else 150)
        rows += [done] if done else []
        assert blend._sums.shape[1] <= 32 + 24 * (at_once // len(plan.lefts) + 2)
    assert [one.top for one in rows] == np.cumsum([0, *(len(one) for one in rows)])[:-1].tolist()
    logits, highest = whole(plan, answers, presence)
    assert np.allclose(np.concatenate([one.logits for one in rows], axis=1), logits, atol=1e-5)
    assert np.allclose(np.concatenate([one.presence for one in rows], axis=1), highest)
    assert all(one.known.all() for one in rows)


def test_what_no_window_covers_is_not_known():
    plan = Plan.tiled(64, 64, 32, 0)
    blend = Blend(1, 0, 64, 64, False)
    weights = plan.weights(0).copy()
    weights[:, :5] = 0  # without a value
    blend.add(plan[0], np.full((1, 32, 32), 3, np.float32), weights)
    rows = blend.finish(64)
    expected = np.zeros((64, 64), bool)
    expected[:32, 5:32] = True
    assert np.array_equal(rows.known, expected)
    assert np.array_equal(rows.logits[0] != 0, expected)
    assert rows.presence is None
    assert blend.finish(64) is None
