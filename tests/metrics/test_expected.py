"""Masks of highest expected IoU, against every threshold tried one by one."""

import numpy as np
import pytest
import torch

from rrsis_zoo.metrics.expected import expected_log_odds, expected_mask


def slow(logits: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """Return the highest expected IoU of any [p > t], and the masks that reach it."""
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    tried = {}
    for t in [-1.0, *np.unique(p)[:-1]]:  # the highest probability itself would leave nothing
        mask = p > t
        inside = sum(p[mask])
        tried[t] = inside / (p.sum() + mask.sum() - inside), mask
    best = max(value for value, _ in tried.values())
    return best, [mask for value, mask in tried.values() if value >= best - 1e-12]


@pytest.mark.parametrize("seed", range(20))
def test_no_threshold_is_expected_to_do_better(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(rng.uniform(-4, 2), 2, (7, 9)).round(1).astype(np.float32)  # rounded: with equal values
    found = expected_mask(torch.from_numpy(logits)).numpy()
    _, best = slow(logits)
    assert any(np.array_equal(found, mask) for mask in best)


def test_an_answer_that_is_sure_keeps_its_mask():
    logits = torch.full((8, 8), -9.0)
    logits[2:5, 3:6] = 9.0
    assert torch.equal(expected_mask(logits), logits > 0)


def test_an_answer_that_is_never_sure_is_not_empty():
    logits = torch.full((8, 8), -6.0)
    logits[2:5, 3:6] = -1.0  # probability 0.27: nothing at 0.5
    assert expected_mask(logits).sum() == 9


def test_as_log_odds():
    logits = torch.tensor([[4.0, -0.2], [-0.3, -6.0]])
    assert expected_log_odds(logits).tolist() == [[1, 1], [1, -1]]
    logits[0, 0] = torch.nan
    assert expected_log_odds(logits).isnan().tolist() == [[True, False], [False, False]]
