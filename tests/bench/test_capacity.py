"""Every method can learn a handful of samples by heart, and the same seed gives the same run."""

import pytest
import torch

from bench.capacity import memorise
from kinds import TRAINED
from rrsis_zoo.data.synthetic import make_sample
from rrsis_zoo.methods.registry import method_named
from rrsis_zoo.models.types import Batch


def batch(scenes):
    images, expressions, index, masks = [], [], [], []
    for n in range(scenes):
        sample = make_sample("train", n, expressions=2)
        images.append(torch.from_numpy(sample.scene.image).permute(2, 0, 1).contiguous())
        for expression in sample.expressions:
            expressions.append(expression.text)
            index.append(n)
            masks.append(torch.from_numpy(sample.scene.objects[expression.referent].mask))
    return Batch(images, expressions, torch.tensor(index), masks, [str(i) for i in range(len(index))])


@pytest.mark.slow
@pytest.mark.parametrize("method", TRAINED)
def test_capacity(method):
    torch.manual_seed(0)
    model = method_named(method).model().from_preset("tiny")
    assert any(score >= 0.5 for _, score in memorise(model, batch(5), steps=150, rate=3e-3, every=10))


@pytest.mark.parametrize("method", TRAINED)
def test_the_same_seed_is_the_same_run(method):
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        model = method_named(method).model().from_preset("tiny")
        scores = list(memorise(model, batch(2), steps=4, rate=1e-3, every=2))
        runs.append((scores, [p.detach().clone() for p in model.parameters()]))
    assert runs[0][0] == runs[1][0]
    assert all(a.equal(b) for a, b in zip(runs[0][1], runs[1][1], strict=True))
