"""What a console shows of results: type, shapes and the beginning, never all the numbers."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import rrsis_zoo
from rrsis_zoo.data.dataset import RRSISDataset
from rrsis_zoo.data.layouts import Referent, ReferredScene
from rrsis_zoo.data.sources import SOURCES, ReadOptions
from rrsis_zoo.data.synthetic import make_sample
from rrsis_zoo.data.synthetic.write import make_synthetic
from rrsis_zoo.figures import Shown
from rrsis_zoo.methods.registry import card, method_named
from rrsis_zoo.metrics.samples import Counts, Samples, Subject
from rrsis_zoo.models.types import Batch
from rrsis_zoo.shown import short_repr
from rrsis_zoo.tables.formats import Cell, Column, Table


@dataclass
class Nested:
    inner: object
    many: object = ()

    __repr__ = short_repr


def test_what_is_left_out():
    value = Nested(Nested(Nested(Nested(Nested(1)))), [1, 2, 3, 4, 5])
    assert (
        repr(value)
        == "Nested(inner=Nested(inner=Nested(inner=Nested(…), many=()), many=()), many=[1, 2, 3, … 5 in all])"
    )
    assert repr(Nested("x" * 200)) == f"Nested(inner='{'x' * 78}…, many=())"
    assert repr(Nested(torch.zeros(2, 3), np.ones(4, np.uint8))) == "Nested(inner=float32 (2, 3), many=uint8 (4,))"
    assert (
        repr(Nested({"a": 1, "b": 2, "c": 3, "d": 4})) == "Nested(inner={'a': 1, 'b': 2, 'c': 3, … 4 in all}, many=())"
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """One of every kind that a user gets from the package and that holds arrays, or many values."""
    model = rrsis_zoo.load_model("control", preset="tiny", weights="none")
    image, sentences = torch.zeros(3, 300, 400, dtype=torch.uint8), [f"the ship number {i}" for i in range(20)]
    model.fit_tokenizer(sentences)
    batch = Batch([image], sentences, torch.zeros(20, dtype=torch.int64), [torch.ones(300, 400) > 0] * 20, sentences)
    root = tmp_path_factory.mktemp("shown") / "data"
    make_synthetic(root, scenes=6, size=64)
    records = SOURCES["synthetic"].read(root, "train", ReadOptions())
    counts = Counts.from_rows(np.ones((500, 16), np.int64))
    subjects = [Subject(f"x/{i}", "x", "the ship", None, None, None) for i in range(500)]
    mask = np.ones((300, 400), np.bool_)
    with torch.inference_mode():
        prediction = model(batch, "independent")
    table = Table("t", "A table", "c", [Column("a", "A")] * 9, [[Cell("1")] * 9] * 90, ["a note"] * 20)
    return [
        batch, prediction, prediction.prompts, prediction.state, model.tokenize(sentences, "independent"), counts,
        counts.details, Samples(subjects, counts), records[0], RRSISDataset(records)[0], make_sample("test", index=0),
        Referent(mask, sentences, "ship"), ReferredScene(np.zeros((300, 400, 3), np.uint8), [], "train"),
        Shown(np.zeros((300, 400, 3), np.uint8), "the ship", np.zeros((8, 8), np.float32), mask, mask),
        card("rsrefseg"), method_named("rsrefseg"), table,
    ]  # fmt: skip


def test_results_are_short(results):
    assert len({type(result) for result in results}) == len(results)
    for result in results:
        text = repr(result)
        assert text.startswith(type(result).__name__ + "(")
        assert len(text) < 1000, text
        assert "tensor(" not in text
        assert "array(" not in text
        assert "\n" not in text
