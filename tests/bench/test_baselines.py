"""The best constant mask: the best of its kind, and a job like every other."""

import json

import numpy as np

from bench.baselines import best_constant, measure_constant, run_constant
from bench.keys import Keys
from bench.suites import Change, Dataset, Suite
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.layouts import Referent, ReferredScene, write_rrsisd
from rrsis_zoo.data.masks import RunLengths, encode_mask
from rrsis_zoo.data.records import Record
from rrsis_zoo.metrics.breakdown import breakdown, evaluate, without_nan
from rrsis_zoo.metrics.protocols import get_protocol
from rrsis_zoo.metrics.samples import read_samples


def record(n, mask):
    source = RunLengths((encode_mask(mask),), *mask.shape)
    return Record(f"x/test/{n}/0", f"scene{n}", "x.jpg", "x.jpg", "ship", "test", None, None, source)


def square(top, left, side=10, size=20):
    mask = np.zeros((size, size), dtype=np.bool_)
    mask[top : top + side, left : left + side] = True
    return mask


TRAIN = [record(i, square(0, 0)) for i in range(3)] + [record(3, square(10, 10))]
TEST = [record(0, square(0, 0)), record(1, square(0, 0)), record(2, square(0, 0, 5))]


def test_it_is_the_best_of_its_kind():
    mask = best_constant(TRAIN, TEST)
    # thresholds above 1/4 leave the upper left square: IoU 1, 1, 25/100
    assert np.array_equal(mask, square(0, 0))
    counts = measure_constant(mask, TEST, get_protocol("canonical")).counts
    assert (counts.intersection.tolist(), counts.union.tolist()) == ([100, 100, 25], [100, 100, 100])
    assert np.array_equal(best_constant(TRAIN, [record(0, square(10, 10))]), square(0, 0) | square(10, 10))
    assert best_constant(TRAIN, [record(0, np.ones((20, 20), dtype=np.bool_))]).all()


def test_samples_of_other_sizes_are_measured_at_their_own(monkeypatch):
    large = [record(0, square(0, 0, 320, 640))]
    mask = best_constant([record(0, square(0, 0, 320, 640))], large)
    assert np.array_equal(mask, square(0, 0, 128, 256))  # chosen on a smaller grid
    counts = measure_constant(mask, large, get_protocol("canonical")).counts
    assert (counts.height.tolist(), counts.intersection.tolist()) == ([640], [320 * 320])
    fixed = measure_constant(mask, large, get_protocol("lavt480")).counts
    assert (fixed.height.tolist(), fixed.intersection.tolist()) == ([480], [240 * 240])
    assert fixed.details is not None
    assert fixed.details.pred_box.tolist() == [[0, 0, 240, 240]]


def test_it_leaves_a_job(tmp_path):
    rng = np.random.default_rng(0)
    scenes = [
        ReferredScene(
            rng.integers(0, 256, (20, 20, 3), dtype=np.uint8), [Referent(square(0, n), ["the ship"], "ship")], split
        )
        for n, split in enumerate(("train", "train", "val", "test", "test"))
    ]
    write_rrsisd(tmp_path / "data", scenes)
    settings = {
        "dataset": "rrsis-d", "root": str(tmp_path / "data"), "layers": "sum_eq_1", "text": "raw", "threshold": None,
        "mask_cleanup": "none", "drop_empty": False, "batch_size": 3, "shuffle_expressions": True,
    }  # fmt: skip
    dataset = Dataset("d", "D", Change())
    suite = Suite("s", "T", "C", "canonical", (1,), (dataset,), (), ("constant",), None)
    folder = tmp_path / "constant--d"
    made, now = run_constant(suite, dataset, settings, Keys(), folder)
    assert now
    assert json.loads((folder / "job.json").read_text()) == made
    assert (made["name"], made["model"], made["role"], made["seed"]) == ("constant--d", "constant", "baseline", None)
    place = folder / "test" / "version_0"
    assert json.loads((place / "test.json").read_text()) == made["result"]
    samples, rules = read_samples(place / "test_samples.jsonl.gz"), get_protocol("canonical")
    assert made["result"]["metrics"] == without_nan(evaluate(samples, rules))
    assert made["result"]["breakdown"] == without_nan(breakdown(samples, rules))
    records = RRSISDataModule("rrsis-d", str(tmp_path / "data")).records("test")
    assert [s.expression for s in samples.subjects] == [r.expression for r in records]
    assert made["result"]["metrics"]["miou"] > 50

    assert run_constant(suite, dataset, {**settings, "batch_size": 9}, Keys(), folder) == (made, False)
    other = Suite("s", "T", "C", "lavt480", (1,), (dataset,), (), ("constant",), None)
    again, now = run_constant(other, dataset, settings, Keys(), folder)
    assert now
    assert again["result"]["eval_size"] == 480
