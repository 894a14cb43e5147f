"""Bins, calibration error, thresholds and expected-IoU masks against slow definitions."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from rrsis_zoo.diagnosis.reliability import (
    BINS,
    EDGES,
    THRESHOLDS,
    at_thresholds,
    best_threshold,
    equal_mass,
    histogram,
    reliability,
)
from rrsis_zoo.metrics.expected import expected_mask


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture
def answers(rng):
    """20 answers whose probabilities are right, of 10 scenes."""
    logits = rng.normal(0, 2.5, (20, 60, 60))
    return logits, rng.random(logits.shape) < sigmoid(logits), [f"s{i // 2}" for i in range(20)]


def test_bins_have_equal_mass_and_a_right_probability_lies_on_the_diagonal(answers):
    logits, truth, scenes = answers
    found = reliability([histogram(z, g) for z, g in zip(logits, truth, strict=True)], scenes)
    assert len(found.pixels) == BINS
    assert found.pixels.sum() == logits.size
    assert found.pixels == pytest.approx(logits.size / BINS, rel=0.2)  # fine bins are never divided
    assert found.found == pytest.approx(found.predicted, abs=0.02)
    assert 0 <= found.error.low <= found.error.high
    assert found.error.mean < 0.01


def test_error_is_that_of_the_definition(answers):
    logits, truth, scenes = answers
    histograms = [histogram(2 * z, g) for z, g in zip(logits, truth, strict=True)]  # twice as sure as right
    found = reliability(histograms, scenes)
    total = sum(histograms)
    first = equal_mass(total[:, 0])
    edges = np.concatenate([[-np.inf], EDGES[first[1:] - 1], [np.inf]])
    error = 0.0
    for low, high in pairwise(edges):
        inside = (2 * logits >= low) & (2 * logits < high)
        error += inside.mean() * abs(truth[inside].mean() - sigmoid(2 * logits[inside]).mean())
    assert found.error.mean == pytest.approx(error, abs=1e-9)
    assert found.error.low <= found.error.mean <= found.error.high
    assert found.error.mean > 0.03


def test_counts_at_thresholds_are_those_of_every_threshold_alone(rng):
    p, truth = rng.random((30, 40)).astype(np.float32), rng.random((30, 40)) < 0.3
    p[0, :3] = 0.5  # not above it
    for t, (shared, predicted) in zip(THRESHOLDS, at_thresholds(p, truth), strict=True):
        mask = p > np.float32(t)
        assert (shared, predicted) == (int((mask & truth).sum()), int(mask.sum()))


def test_best_threshold_has_the_highest_miou_and_is_near_a_half_where_several_do(rng):
    answers = [(rng.random((20, 20)), rng.random((20, 20)) < 0.4) for _ in range(6)]
    counts, areas = [at_thresholds(*one) for one in answers], [int(g.sum()) for _, g in answers]
    means = {t: np.mean([((p > t) & g).sum() / ((p > t) | g).sum() for p, g in answers]) for t in THRESHOLDS}
    assert means[best_threshold(counts, areas)] == pytest.approx(max(means.values()))
    truth = np.zeros((4, 4), np.bool_)
    truth[:2] = True
    assert best_threshold([at_thresholds(truth.astype(float), truth)], [8]) == 0.5


def test_expected_mask_has_the_highest_expected_iou_of_all_thresholds(rng):
    for _ in range(20):
        logits = torch.from_numpy(np.round(rng.normal(-1, 3, (6, 7)), 1)).float()
        p = logits.sigmoid().double()

        def value(mask, p=p):
            inside = float(p[mask].sum())
            return inside / (float(p.sum()) + int(mask.sum()) - inside)

        mask = expected_mask(logits)
        masks = [logits >= t for t in logits.unique()]
        assert value(mask) == pytest.approx(max(map(value, masks)))
        assert any(torch.equal(mask, one) for one in masks)  # a threshold's, so that equal pixels stay together
