"""The examples are worth trying: the default model finds what their sentences refer to."""

import numpy as np

from rrsis_zoo.commands.demo import MODEL
from rrsis_zoo.demo.answers import Desk
from rrsis_zoo.demo.examples import SCENES, examples


def test_the_default_model_answers_the_examples():
    desk = Desk([MODEL])
    assert [one.name for one in examples()] == list(SCENES)
    for one in examples():
        answer = desk.ask(MODEL, one.shown, one.texts)
        objects = one.sample.scene.objects
        truth = np.stack([objects[e.referent].mask for e in one.sample.expressions])
        overlap = (answer.masks & truth).sum(axis=(1, 2)) / (answer.masks | truth).sum(axis=(1, 2))
        assert (overlap > 0.7).all(), (one.name, overlap)
