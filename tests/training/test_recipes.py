"""Recipes of further methods: a decay for each parameter group, a polynomial schedule; replies in the test's record."""

import numpy as np
import pytest
import torch

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.lavt.model import LAVT
from rrsis_zoo.metrics.samples import Counts, Samples, Subject, read_samples, write_samples
from rrsis_zoo.training.callbacks import Reply, counted
from rrsis_zoo.training.module import check_named
from rrsis_zoo.training.schedules import WarmupCosine


def test_a_polynomial_decay_goes_by_step():
    factor = WarmupCosine(steps_per_epoch=10, poly_epochs=4, poly_power=0.9)
    for step in (0, 1, 17, 39, 40, 99):
        assert factor(step) == pytest.approx(max(0.0, 1 - step / 40) ** 0.9)
    warmed = WarmupCosine(steps_per_epoch=10, poly_epochs=4, warmup_epochs=1, warmup_start=0.0)
    assert warmed(5) == pytest.approx(0.5 * (1 - 5 / 40) ** 0.9)


def test_a_value_for_each_group_and_no_other():
    with torch.device("meta"):
        model = LAVT.from_preset("tiny")
    check_named(model, dict.fromkeys(model.parameter_groups(), 0.1), "weight_decay")
    with pytest.raises(ConfigError, match="weight_decay of lavt: missing: decoder, text; unknown: trunk; give one for"):
        check_named(model, {"backbone": 0.1, "backbone_no_decay": 0.0, "trunk": 0.1}, "weight_decay")


def test_replies_are_kept_and_counted(tmp_path):
    replies = [Reply("[]", False, 0), Reply("I cannot see it.\n", True, 0), Reply('[{"bbox_2d": [1]}]', False, 2)]
    assert counted(replies) == {"answered": 1, "no_target": 1, "unreadable": 1}
    subjects = [
        Subject(f"x/{i}", "x", "the ship", reply=reply.text, unreadable=reply.unreadable)
        for i, reply in enumerate(replies)
    ]
    counts = Counts.from_rows(np.array([[0, 4, 0, 8, 8], [0, 4, 0, 8, 8], [4, 4, 4, 8, 8]]))
    write_samples(tmp_path / "samples.jsonl.gz", Samples(subjects, counts))
    again = read_samples(tmp_path / "samples.jsonl.gz")
    assert again.subjects == subjects  # the unreadable one is among them
