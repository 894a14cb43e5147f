import csv
from pathlib import Path

import numpy as np
import pytest

from rrsis_zoo.bench.tables import Row, comparison, read_counts
from rrsis_zoo.data.masks import RunLengths, encode_mask
from rrsis_zoo.data.records import Record
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.metrics.samples import Counts, Samples, Subject, write_samples


def record(n, mask, kind="category"):
    source = RunLengths((encode_mask(mask),), *mask.shape)
    return Record(f"x/test/{n}/0", f"scene{n // 2}", Path("x.jpg"), "x.jpg", "ship", "test", None, None, source, kind)


def square(top, left, side=10):
    mask = np.zeros((20, 20), dtype=np.bool_)
    mask[top : top + side, left : left + side] = True
    return mask


def test_table_from_counts(tmp_path):
    records = [record(i, square(0, 0), kind) for i, kind in enumerate(["a", "a", "b", "b"])]
    good = np.array([[9, 10], [8, 10], [7, 10], [6, 10]])
    bad = np.array([[0, 10], [1, 10], [0, 10], [1, 10]])
    rows = {"good": Row("Good", good, (2_000_000, 1_000_000), 90.0), "bad": Row("Bad", bad)}
    table = comparison(rows, records, "canonical", "title", "caption", {"good": ["bad"]})
    first = dict(zip(table.columns, table.rows[0], strict=True))
    assert first["method"] == "Good"
    assert first["parameters"] == "2.00 M"
    assert first["training, CPU min"] == "1.5"
    assert first["mIoU [95 %]"].startswith("75.0 [")
    assert (first["oIoU"], first["Pr@0.7"], first["a"], first["b"]) == ("75.0", "75.0", "85.0", "65.0")
    assert "+70.0 points" in table.differences[0]
    assert "excludes 0" in table.differences[0]
    text = table.markdown()
    assert text.count("\n|") == 4
    assert "caption" in text
    table.write_csv(tmp_path / "t.csv")
    assert list(csv.reader((tmp_path / "t.csv").open()))[2][0] == "Bad"
    same = comparison(rows, records, "canonical", "t", "c", {"good": ["good"]})
    assert "no difference is shown" in same.differences[0]


def test_samples_must_be_of_the_dataset(tmp_path):
    records = [record(i, square(0, 0)) for i in range(2)]
    path = tmp_path / "s.jsonl.gz"

    def write(ids):
        rows = [[i, 5, 5, 20, 20] for i in range(len(ids))]
        write_samples(path, Samples([Subject(name, "scene") for name in ids], Counts.from_rows(np.array(rows))))

    write([records[1].sample_id, records[0].sample_id])
    assert read_counts(path, records).tolist() == [[1, 5], [0, 5]]
    write(["x/test/0/0"])
    with pytest.raises(DataFormatError, match="other samples"):
        read_counts(path, records)
