"""Expressions without a target under every protocol, against the slow reference."""

import math

import numpy as np
import pytest
import torch
from slow_reference import PROGRAMS, slow_metrics, slow_no_target

from rrsis_zoo.metrics.breakdown import breakdown, evaluate, no_target_text, without_nan
from rrsis_zoo.metrics.protocols import PROTOCOLS, get_protocol
from rrsis_zoo.metrics.samples import Samples, Subject
from rrsis_zoo.metrics.suite import ReferringMetrics

N = 24


def split(seed):
    """Predictions and targets of 16 to 40 px: a third have no target, some of them rightly without a prediction."""
    rng = np.random.default_rng(seed)
    predictions, targets = [], []
    for n in range(N):
        shape = tuple(rng.integers(16, 41, 2).tolist())
        target, pred = np.zeros(shape, bool), np.zeros(shape, bool)
        if n % 3:
            y, x = rng.integers(0, 8, 2)
            target[y : y + 9, x : x + 8] = True
            pred[y + n % 4 : y + 9, x : x + 8] = n % 5 > 0  # every fifth says nothing
        elif n % 4:
            pred[2:5, 3:9] = True
        targets.append(target)
        predictions.append(pred)
    return predictions, targets, [f"d/test/{n // 2:05d}/{n % 2}" for n in range(N)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_they_count_as_the_protocol_says(protocol):
    assert set(PROGRAMS) == set(PROTOCOLS)
    predictions, targets, ids = split(3)
    metrics = ReferringMetrics(protocol, ids)
    for pred, target, name in zip(predictions, targets, ids, strict=True):
        metrics.update([torch.from_numpy(pred)], [torch.from_numpy(target)], [name])
    names, counts = metrics.results()
    samples = Samples([Subject(name, name) for name in names], counts)
    known = get_protocol(protocol)
    expected = slow_metrics(protocol, predictions, targets, ids)
    for scores in (metrics.compute(), evaluate(samples, known)):
        assert scores == pytest.approx(expected, nan_ok=True, abs=1e-9)
    numbers = breakdown(samples, known)
    wanted = slow_no_target(protocol, predictions, targets, ids)
    assert {name: numbers[name] for name in wanted} == pytest.approx(wanted, abs=1e-9)
    assert 0 < wanted["n_empty"] < expected["n"]
    assert 0 < wanted["no_target_acc"] < 100
    assert 0 < wanted["target_acc"] < 100
    if protocol == "generalized":
        assert numbers["miou_generalized"] == pytest.approx(expected["miou"])
    elif not math.isnan(expected["miou"]):
        assert numbers["miou_generalized"] > expected["miou"] + 5  # they must not share a column
    said = no_target_text(without_nan(numbers), expected["n"])
    assert f"{wanted['n_empty']} of {expected['n']} targets are empty: N-acc {wanted['no_target_acc']:.2f} %" in said


def test_a_split_with_targets_alone_says_nothing_of_it():
    _, targets, ids = split(0)
    some = [n for n in range(N) if n % 3]
    metrics = ReferringMetrics("canonical", [ids[n] for n in some])
    masks = [torch.from_numpy(targets[n]) for n in some]
    metrics.update(masks, masks, [ids[n] for n in some])
    names, counts = metrics.results()
    numbers = breakdown(Samples([Subject(name, name) for name in names], counts), get_protocol("canonical"))
    assert numbers["n_empty"] == 0
    assert "miou_generalized" not in numbers
    assert no_target_text(numbers, len(some)) == ""
