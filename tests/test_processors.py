"""The processors that a process may use."""

import os

from rrsis_zoo import processors
from rrsis_zoo.processors import cores


def test_cores_of_a_container(tmp_path, monkeypatch):
    limit = tmp_path / "cpu.max"
    monkeypatch.setattr(processors, "_LIMIT", str(limit))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)))
    assert cores() == 6
    for text, expected in (("max 100000\n", 6), ("150000 100000\n", 1.5), ("900000 100000", 6), ("?", 6)):
        limit.write_text(text)
        assert cores() == expected
