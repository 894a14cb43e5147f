"""Advice about threads on a busy machine; numbers are never changed."""

import os
from types import SimpleNamespace

import pytest
import torch

from rrsis_zoo.training.threads import advise, thread_advice


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
