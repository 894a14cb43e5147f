"""Advice about threads on a busy machine; numbers are never changed."""

import os
from types import SimpleNamespace

import pytest
import torch

from rrsis_zoo.training import threads
from rrsis_zoo.training.threads import advise, cores, thread_advice


@pytest.mark.parametrize(
    ("used", "load", "machine", "mine", "said"),
    [
        (1, 60.0, 8, 8.0, None),
        (8, 1.5, 8, 8.0, None),
        (8, 5.0, 8, 8.0, "this machine is busy (load 5.0 on 8 cores), which slows down 8 threads: OMP_NUM_THREADS=3"),
        (2, 8.8, 2, 2.0, "this machine is busy (load 8.8 on 2 cores), which slows down 2 threads: OMP_NUM_THREADS=1"),
        (4, 32.0, 64, 64.0, None),  # 32 are free
        (64, 1.0, 64, 2.5, "this process may use 2.5 cores, which slows down 64 threads: OMP_NUM_THREADS=2"),
        (4, 0.1, 4, 0.5, "this process may use 0.5 cores, which slows down 4 threads: OMP_NUM_THREADS=1"),
    ],
)
def test_when_and_what(used, load, machine, mine, said):
    words = ["rrsis", "fit", "--data.root", "my data"]
    advice = thread_advice(words, used, load, machine, mine)
    assert advice == (said and f"{said} rrsis fit --data.root 'my data'")


def test_only_on_a_cpu_and_from_a_command_line(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (90.0, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)

    def on(device):
        return SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))

    assert advise(on("cpu"), ["test", "x"]).endswith("4 threads: OMP_NUM_THREADS=1 rrsis test x")
    assert advise(on("cuda"), ["test", "x"]) is None
    assert advise(on("cpu"), []) is None


def test_cores_of_a_container(tmp_path, monkeypatch):
    limit = tmp_path / "cpu.max"
    monkeypatch.setattr(threads, "_LIMIT", str(limit))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)))
    assert cores() == 6
    for text, expected in (("max 100000\n", 6), ("150000 100000\n", 1.5), ("900000 100000", 6), ("?", 6)):
        limit.write_text(text)
        assert cores() == expected
