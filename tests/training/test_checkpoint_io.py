"""Checkpoints go to their file without a copy in memory, and an interrupted write spoils nothing."""

import resource
import threading
import tracemalloc

import pytest
import torch

from rrsis_zoo.errors import OutputError
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
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_two_writers_of_one_name(tmp_path):
    """Whoever reads meanwhile finds a whole file, of one or the other."""
    path, faults = tmp_path / "last.ckpt", []
    contents = [{"epoch": n, "weights": torch.full((50_000,), float(n))} for n in range(2)]
    DirectCheckpointIO().save_checkpoint(contents[0], path)

    def write(content):
        try:
            for _ in range(20):
                DirectCheckpointIO().save_checkpoint(content, path)
        except Exception as error:
            faults.append(error)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    read = 0
    while any(writer.is_alive() for writer in writers):
        content = DirectCheckpointIO().load_checkpoint(path, weights_only=True)
        assert (content["weights"] == content["epoch"]).all()
        read += 1
    assert not faults
    assert read
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_full_disk(tmp_path):
    """File and cause, where torch says "unexpected pos"; the earlier file stays, and nothing beside it."""
    path = tmp_path / "last.ckpt"
    DirectCheckpointIO().save_checkpoint({"epoch": 1}, path)
    earlier = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, earlier[1]))
    try:
        with pytest.raises(OutputError, match=r"last\.ckpt cannot be written \(File too large\)"):
            DirectCheckpointIO().save_checkpoint({"a": torch.zeros(1_000_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, earlier)
    assert DirectCheckpointIO().load_checkpoint(path)["epoch"] == 1
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        DirectCheckpointIO().save_checkpoint({}, tmp_path / "file" / "last.ckpt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "last.ckpt"]
