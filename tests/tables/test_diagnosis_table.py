"""The tables `diagnosis` and `where`, recomputed from the per-sample lines by slow code of its own."""

import csv
import io

import numpy as np
import pytest
from made_diagnosis import TRUTH, diagnose, lines_of
from made_runs import Row, make

from rrsis_zoo.tables.suite_tables import read_runs, tables_of, write_tables

ROWS = [Row("constant", 0.1, "baseline"), Row("good", 0.6, against=["constant", "plain"]), Row("plain", 0.5)]


@pytest.fixture
def runs(tmp_path):
    root = make(tmp_path / "made", ROWS)
    for name in ("good", "plain"):
        for seed in (1, 2):
            missing = {} if name == "good" else {"truth_dense": "a reason of its own"}
            diagnose(root / f"{name}--synthetic--seed{seed}", name, seed, missing)
    return read_runs(root)


def iou(count):
    return count.intersection / (2 * TRUTH - count.intersection)


def rows_of(table):
    return list(csv.DictReader(line for line in io.StringIO(table.csv()) if not line.startswith("#")))


def test_every_number_of_the_table(runs):
    table = tables_of(runs)["diagnosis"]
    found = {row["method"]: row for row in rows_of(table)}
    for title, row in found.items():
        name = next(r.name for r in ROWS if r.name in title.lower())
        if name == "constant":
            continue
        every = [line for seed in (1, 2) for line in lines_of(name, seed)]
        assert float(row["hit"]) == pytest.approx(100 * np.mean([line.hit for line in every]))
        for rung in ("own", "truth_box"):
            assert float(row[rung]) == pytest.approx(100 * np.mean([iou(line.rungs[rung]) for line in every]))
        stuck = [p.original / (2 * TRUTH - p.original) >= 0.5 for line in every for p in line.probes]
        assert float(row["stuck"]) == pytest.approx(100 * np.mean(stuck))
    text = table.markdown()
    assert "a reason of its own" in text
    assert "not diagnosed" in text


def test_where_and_how_exactly_add_up(runs):
    tables = tables_of(runs)
    rows = rows_of(tables["where"])
    assert [(row["method"], row["compared_with"]) for row in rows] == [("Good", "Plain")]
    for row in rows:
        assert float(row["where"]) + float(row["exactly"]) == pytest.approx(float(row["difference"]), abs=1e-8)
        for name in ("difference", "where", "exactly"):  # a difference may be below 0, and so may both ends
            assert float(row[f"{name}_low"]) < float(row[name]) < float(row[f"{name}_high"]), name


def test_four_forms(runs, tmp_path):
    wanted = {name: table for name, table in tables_of(runs).items() if name in ("diagnosis", "where")}
    written = write_tables(wanted, tmp_path / "out")
    assert {path.name for path in written} == {f"{n}.{f}" for n in wanted for f in ("md", "csv", "tex", "html")}


def test_without_a_diagnosis_there_is_no_such_table(tmp_path):
    assert not {"diagnosis", "where"} & {*tables_of(read_runs(make(tmp_path / "made", ROWS)))}
