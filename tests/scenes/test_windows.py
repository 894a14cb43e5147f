import numpy as np
import pytest

from rrsis_zoo.scenes.windows import Plan, Window, offsets, taper


def test_windows_cover_everything_and_are_whole():
    assert offsets(100, 128, 0.25) == [0]
    assert offsets(128, 128, 0.25) == [0]
    assert offsets(129, 128, 0.25) == [0, 1]
    assert offsets(300, 128, 0.25) == [0, 96, 172]
    assert offsets(320, 128, 0.25) == [0, 96, 192]
    plan = Plan.tiled(300, 90, 128, 0.25)
    assert [plan[n] for n in range(len(plan))] == [Window(top, 0, 128, 90) for top in (0, 96, 172)]
    with pytest.raises(IndexError):
        plan[3]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
def test_weights(overlap):
    """1 in the middle and at the scene's borders, small and positive at an edge with a neighbour."""
    starts = offsets(1000, 128, overlap)
    for n in range(len(starts)):
        weights = taper(starts, n, 128)
        assert weights.shape == (128,)
        assert (weights > 0).all()
        assert (weights <= 1).all()
        assert weights[0] == 1 if n == 0 else overlap == 0 or weights[0] < 0.01
        assert weights[-1] == 1 if n == len(starts) - 1 else overlap == 0 or weights[-1] < 0.01
    if overlap <= 0.5:
        assert taper(starts, 1, 128)[64] == pytest.approx(1, abs=2e-3)
    assert taper([0], 0, 128).tolist() == [1] * 128


def test_two_neighbours_share_what_they_overlap():
    starts = offsets(224, 128, 0.25)
    one, other = taper(starts, 0, 128)[96:], taper(starts, 1, 128)[:32]
    assert np.allclose(one + other, 1, atol=2e-3)
    assert (np.diff(other) > 0).all()


def test_a_part_of_a_plan_has_the_same_weights_within_it():
    plan, part = Plan.tiled(1000, 700, 128, 0.25), Window(300, 250, 200, 120)
    some = plan.over(part)
    assert 0 < len(some) < len(plan)
    windows = [plan[n] for n in range(len(plan))]
    for n in range(len(some)):
        window = some[n]
        top, left = max(window.top, part.top), max(window.left, part.left)
        bottom, right = min(window.bottom, part.bottom), min(window.right, part.right)
        own = (slice(top - window.top, bottom - window.top), slice(left - window.left, right - window.left))
        assert np.array_equal(some.weights(n)[own], plan.weights(windows.index(window))[own])
