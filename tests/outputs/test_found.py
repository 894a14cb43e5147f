from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from rrsis_zoo.outputs.found import Findings, Source, found, mean_inside
from rrsis_zoo.outputs.record import record
from rrsis_zoo.version import __version__


def answer(height=30, width=50):
    rng = np.random.default_rng(0)
    probabilities = rng.random((height, width), dtype=np.float32)
    mask = probabilities > 0.5
    mask[:4] = mask[:, :7] = mask[-2:] = mask[:, -9:] = False
    return mask, probabilities


def test_what_is_kept_of_an_answer(monkeypatch):
    mask, probabilities = answer()
    one = found("the ship", mask, probabilities)
    assert np.array_equal(one.mask.decode(), mask)
    assert one.area == mask.sum()
    assert one.share == mask.mean()
    assert one.score == pytest.approx(probabilities[mask].mean(dtype=np.float64))
    rows, columns = np.nonzero(mask)
    assert one.box == (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
    monkeypatch.setattr("rrsis_zoo.outputs.found._BLOCK", 100)  # two rows at a time
    assert mean_inside(mask, probabilities) == (mask.sum(), pytest.approx(one.score))


def test_nothing_has_no_score():
    empty = found("the ship", np.zeros((3, 4), bool), np.full((3, 4), 0.2, np.float32))
    assert (empty.area, empty.box, empty.score, empty.share) == (0, None, None, 0)
    assert not empty.mask.decode().any()
    assert np.isnan(mean_inside(np.zeros((3, 4), bool), np.ones((3, 4), np.float32))[1])


def test_the_record_is_read_by_pycocotools():
    mask, probabilities = answer()
    source = Source("control", "runs/best.ckpt", "abc")
    both = (found("the ship", mask, probabilities), found("the pier", np.zeros_like(mask), probabilities))
    said = record(Findings(Path("a.tif"), 30, 50, both, 0.4, source, ((0.0, 99.0),)))
    one, other = said.pop("answers")
    assert said == {
        "format": 1,
        "version": __version__,
        "input": "a.tif",
        "height": 30,
        "width": 50,
        "model": "control",
        "source": "runs/best.ckpt",
        "weights_sha256": "abc",
        "threshold": 0.4,
        "stretch": [[0.0, 99.0]],
    }
    assert np.array_equal(coco.decode(one["segmentation"]), mask)
    assert one["bbox"] == coco.toBbox(one["segmentation"]).tolist()
    assert (one["text"], one["presence"]) == ("the ship", None)
    assert (other["score"], other["bbox"], other["area_px"]) == (None, None, 0)
