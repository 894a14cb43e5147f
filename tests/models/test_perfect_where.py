"""The stand-in for a localiser that knows the truth: what it writes, and what SAM makes of it."""

import json

import lightning
import numpy as np
import pytest
import torch

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.synthetic import make_synthetic
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.control.module import ControlModule
from rrsis_zoo.methods.think2seg.module import Think2SegModule
from rrsis_zoo.methods.think2seg.perfect import KnownWriter, PerfectWhere
from rrsis_zoo.metrics.samples import read_samples
from rrsis_zoo.training.callbacks import TestRecord

WEIGHTS = {"sam": "mini:sam2", "writer": "none"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "set"
    make_synthetic(root, scenes=8, splits=(1, 1, 6), processes=1)
    return RRSISDataModule("synthetic", root=str(root), eval_batch_size=7, num_workers=0)


def think2seg():
    return Think2SegModule(preset="mini", weights=WEIGHTS)


def run(data, folder, module, *callbacks):
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, default_root_dir=folder, callbacks=[TestRecord(), *callbacks],
    )  # fmt: skip
    trainer.test(module, datamodule=data, verbose=False)
    return json.loads((folder / "test.json").read_text()), read_samples(folder / "test_samples.jsonl.gz"), module


def test_it_is_the_upper_rung(data, tmp_path):
    """Far above the script that reads no words, below a perfect score, and worse with more noise."""
    scores = {}
    for noise in (0.0, 0.1, 0.5):
        record, samples, module = run(data, tmp_path, think2seg(), PerfectWhere(noise))
        scores[noise] = record["metrics"]["miou"]
        assert record["replies"] == {"answered": record["n"], "no_target": 0, "unreadable": 0}
        assert not record["untrained"]
        assert len({subject.reply for subject in samples.subjects}) > record["n"] / 2  # each its own box
    own, _, _ = run(data, tmp_path, think2seg())
    assert 97 > scores[0.0] > scores[0.1] > scores[0.5] > own["metrics"]["miou"]
    assert scores[0.1] > 70
    again, _, _ = run(data, tmp_path, think2seg(), PerfectWhere(0.1))
    assert again["metrics"]["miou"] == scores[0.1]
    # afterwards the model has its own writer again
    assert module.model.writer.write([torch.zeros(3, 128, 128, dtype=torch.uint8)], ["x"])[0].startswith("<think>")


def test_the_box_is_that_of_the_mask():
    mask = np.zeros((50, 200), bool)
    mask[10:20, 40:120] = True
    exact, moved = PerfectWhere(0), PerfectWhere(0.1)
    assert json.loads(exact.reply(mask, "a", 1000)) == [{"bbox_2d": [200, 200, 600, 400]}]
    assert exact.reply(np.zeros_like(mask), "a", 1000) == "[]"
    boxes = np.array([json.loads(moved.reply(mask, str(i), 1000))[0]["bbox_2d"] for i in range(400)])
    moves = (boxes - [200, 200, 600, 400]) / [400, 200, 400, 200]
    assert np.abs(moves.mean(0)).max() < 0.02
    assert np.abs(moves.std(0) - 0.1).max() < 0.02
    assert moved.reply(mask, "a", 1000) == moved.reply(mask, "a", 1000) != PerfectWhere(0.1, 1).reply(mask, "a", 1000)
    wild = np.array([json.loads(PerfectWhere(3).reply(mask, str(i), 1000))[0]["bbox_2d"] for i in range(100)])
    assert (wild[:, :2] <= wild[:, 2:]).all()
    assert wild.min() >= 0
    assert wild.max() <= 1000


def test_a_question_asked_twice_has_its_answers_in_turn():
    writer, frame = KnownWriter(), torch.zeros(3, 4, 4, dtype=torch.uint8)
    for reply in ("[1]", "[2]"):
        writer.learn(frame, "the ship", reply)
    assert writer.write([frame] * 4, ["the ship"] * 4) == ["[1]", "[2]", "[1]", "[2]"]
    assert writer.write([frame, frame + 1], ["the pier", "the ship"]) == ["[]", "[]"]
    writer.forget()
    assert writer.write([frame], ["the ship"]) == ["[]"]


def test_what_it_cannot_do_is_said(data, tmp_path):
    with pytest.raises(ConfigError, match="noise must be between 0"):
        PerfectWhere(-0.1)
    torch.manual_seed(0)
    control = ControlModule(preset="tiny")
    with pytest.raises(ConfigError, match="PerfectWhere writes boxes for think2seg, and this is control"):
        run(data, tmp_path, control, PerfectWhere())
