"""`make gpu` and `make speed` run, on tiny presets and with a CPU in the place of a GPU."""

import importlib
import json

import pytest
import torch

from bench.timing import side_by_side, table
from rrsis_zoo.errors import ConfigError


@pytest.fixture
def gpu():
    return importlib.import_module("gpu")  # benchmarks/ is on the path


@pytest.fixture
def speed():
    return importlib.import_module("speed")


TRIED = [
    "--device",
    "cpu",
    "--presets",
    "mini",
    "tiny",
    "--side",
    "96",
    "--rounds",
    "1",
    "--batches",
    "2",
    "--workers",
    "0",
]


@pytest.mark.slow
def test_the_table_of_a_gpu(gpu, monkeypatch, tmp_path, capsys):
    """All levers on a CPU; compiling is left to its own test."""
    monkeypatch.setattr(gpu, "STEPS", [case for case in gpu.STEPS if case.compile == "off"])
    monkeypatch.setattr(gpu, "ANSWERS", [case for case in gpu.ANSWERS if case.compile == "off"])
    out = tmp_path / "gpu.json"
    assert gpu.main([*TRIED, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["table"] in capsys.readouterr().out
    assert not found["left_out"]
    names = {(row["what"].split(",")[0], row["case"]) for row in found["rows"]}
    assert {("step", case.name) for case in gpu.STEPS} <= names
    assert {("answer", case.name) for case in gpu.ANSWERS} <= names
    assert ("loading", "0 workers") in names
    assert all(row["seconds"] > 0 and not row["fault"] for row in found["rows"])
    steps = {row["case"]: row for row in found["rows"] if row["what"].startswith("step, RSRefSeg-mini")}
    assert len({row["what"] for row in found["rows"]}) == 5
    assert len(steps) == len(gpu.STEPS)
    assert torch.backends.cuda.matmul.allow_tf32 is False


def test_what_is_not_reached_is_named(gpu, tmp_path, capsys):
    assert gpu.main([*TRIED, "--minutes", "0", "--out", str(tmp_path / "gpu.json")]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert len(found["left_out"]) == len(gpu.STEPS) + len(gpu.LARGE) + 2 * len(gpu.ANSWERS)
    assert "not reached in the time given: answer, RSRefSeg-mini, 1 sentences: float32" in capsys.readouterr().out


def test_a_full_memory_is_a_result(gpu, monkeypatch):
    class Full:
        device, model = torch.device("cpu"), torch.nn.Linear(1, 1)

        def set(self, case):
            raise torch.OutOfMemoryError("CUDA out of memory")

    row = gpu.measured(Full(), gpu.Case("float32"), "step", lambda: None, 1)
    assert row.fault == "out of memory"
    assert "| step: float32 | out of memory |" in gpu.text([row], [])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_how_to_try_it(gpu):
    with pytest.raises(ConfigError, match="no CUDA GPU here: make gpu ARGS='--device cpu --presets tiny tiny'"):
        gpu.main([])


def test_methods_side_by_side(speed, tmp_path, capsys):
    words = [
        "--methods",
        "control",
        "--ways",
        "eager",
        "--rounds",
        "1",
        "--steps",
        "--out",
        str(tmp_path / "speed.json"),
    ]
    assert speed.main(words) == 0
    found = json.loads((tmp_path / "speed.json").read_text())
    assert found["methods"]["control"].keys() == {"1 sentence", "16 sentences", "step"}
    assert found["methods"]["control"]["step"]["eager"]["median"] > 0
    assert found["table"] in capsys.readouterr().out


def test_calls_take_turns():
    order = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    times = side_by_side(calls, torch.device("cpu"), rounds=3, warm=1)
    assert order == ["a", "b"] * 5
    assert times["a"].rounds == 3
    assert 0 <= times["a"].low <= times["a"].median <= times["a"].high


def test_tables_are_aligned():
    assert table(["what", "ms"], [["one", "1.5"], ["eleven", "10.0"]]).splitlines() == [
        "| what   |   ms |",
        "| ---    | ---: |",
        "| one    |  1.5 |",
        "| eleven | 10.0 |",
    ]
