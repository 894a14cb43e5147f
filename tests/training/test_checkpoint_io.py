"""Checkpoints go to their file without a copy in memory, and an interrupted write spoils nothing."""

import tracemalloc

import pytest
import torch

from rrsis_zoo.training.checkpoint_io import DirectCheckpointIO


def test_written_and_read(tmp_path):
    path = tmp_path / "new" / "last.ckpt"
    content = {"state_dict": {"a": torch.arange(1_000_000)}, "epoch": 3}
    tracemalloc.start()
    DirectCheckpointIO().save_checkpoint(content, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # the file has 8 MB
    read = DirectCheckpointIO().load_checkpoint(path, weights_only=True)
    assert read["state_dict"]["a"].equal(content["state_dict"]["a"])
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


def test_an_interrupted_write_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "last.ckpt"
    DirectCheckpointIO().save_checkpoint({"epoch": 1}, path)
    with pytest.raises(AttributeError, match="pickle"):
        DirectCheckpointIO().save_checkpoint({"epoch": 2, "broken": lambda: None}, path)
    assert DirectCheckpointIO().load_checkpoint(path)["epoch"] == 1
