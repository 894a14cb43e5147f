"""The log of a run that goes on: one file, every row once, whatever was killed when."""

import csv

import pytest
from lightning.pytorch.loggers import CSVLogger

from rrsis_zoo import files
from rrsis_zoo.errors import OutputError
from rrsis_zoo.training.loggers import RunLog, run_log


def log(folder, version="run"):
    return RunLog(str(folder), "", version)


def write(logger, *rows):
    for step, row in rows:
        logger.log_metrics(row, step)
        logger.save()


def rows(folder):
    with (folder / "run" / "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def test_new_columns_in_a_log_that_goes_on(tmp_path):
    """Lightning's logger says "dict contains fields not in fieldnames" here, where it has not removed the file."""
    write(log(tmp_path), (0, {"a": 1.0}), (1, {"a": 2.0, "val/b": 3.0}))
    again = log(tmp_path)
    again.go_on(2)
    write(again, (2, {"c": 4.0}), (3, {"a": 5.0}))
    assert rows(tmp_path) == [
        {"a": "1.0", "step": "0"}, {"a": "2.0", "step": "1", "val/b": "3.0"}, {"c": "4.0", "step": "2"},
        {"a": "5.0", "step": "3"},
    ]  # fmt: skip
    assert (tmp_path / "run/metrics.csv").read_text().startswith("a,c,step,val/b\n")


def test_rows_of_a_killed_attempt_are_dropped(tmp_path):
    """Those of later steps, and those that came after the point; the last one was cut short."""
    first = log(tmp_path)
    write(first, (0, {"a": 1.0}), (1, {"a": 2.0}))
    assert first.rows() == 2
    write(first, (1, {"val": 3.0}), (2, {"a": 4.0}), (10, {"a": 5.0}))
    path = tmp_path / "run/metrics.csv"
    path.write_bytes(path.read_bytes()[:-3])  # its step reads 1 now
    again = log(tmp_path)
    again.go_on(2, 2)
    write(again, (1, {"val": 3.0}), (2, {"a": 6.0}))
    assert rows(tmp_path) == [
        {"a": "1.0", "step": "0"}, {"a": "2.0", "step": "1"}, {"step": "1", "val": "3.0"}, {"a": "6.0", "step": "2"},
    ]  # fmt: skip
    assert again.rows() == 4
    fresh = log(tmp_path)
    fresh.go_on(0)
    assert not path.exists()
    write(fresh, (0, {"z": 1.0}))
    assert rows(tmp_path) == [{"step": "0", "z": "1.0"}]


def test_a_row_that_was_cut_short_damages_no_other(tmp_path):
    """Also where nobody says how far the run was: a test in the same folder."""
    write(log(tmp_path), (0, {"a": 1.0}), (1, {"a": 2.0}))
    path = tmp_path / "run/metrics.csv"
    path.write_bytes(path.read_bytes() + b"3.0")
    write(log(tmp_path), (2, {"a": 4.0}))
    assert [row["a"] for row in rows(tmp_path)] == ["1.0", "2.0", "4.0"]


def test_a_kill_while_a_column_is_added_loses_nothing(tmp_path, monkeypatch):
    logger = log(tmp_path)
    write(logger, (0, {"a": 1.0}))

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(logger, (1, {"b": 1.0}))
    assert rows(tmp_path) == [{"a": "1.0", "step": "0"}]


def test_what_cannot_be_written(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(OutputError, match="run cannot be written"):
        write(log(tmp_path), (0, {"a": 1.0}))
    logger = log(tmp_path, "other")
    write(logger, (0, {"a": 1.0}))
    (tmp_path / "other/metrics.csv").unlink()
    (tmp_path / "other/metrics.csv").mkdir()
    with pytest.raises(OutputError, match=r"metrics\.csv cannot be written"):
        write(logger, (1, {"a": 1.0}))


def test_it_stands_for_lightnings(tmp_path):
    theirs = CSVLogger(str(tmp_path), "name", 3, "p")
    ours = run_log(theirs)
    assert (ours.log_dir, ours.name, ours.version) == (theirs.log_dir, "name", 3)
    ours.log_hyperparams({"x": 1})
    write(ours, (0, {"a": 1.0}))
    assert (tmp_path / "name/version_3/metrics.csv").read_text() == "p-a,step\n1.0,0\n"
    assert "x: 1" in (tmp_path / "name/version_3/hparams.yaml").read_text()
    assert run_log(ours) is ours
