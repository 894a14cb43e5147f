"""Per-sample results as others may leave them: what is impossible is refused, with file, line and field."""

import gzip
import json
import time

import numpy as np
import pytest
import torch

from rrsis_zoo.errors import DataFormatError, MissingDataError, OutputError
from rrsis_zoo.metrics.measure import measure
from rrsis_zoo.metrics.samples import Counts, Samples, Subject, impossible, read_samples, write_samples

LINE = {
    "sample_id": "d/test/1/0", "scene_id": "1", "expression": "the ship", "category": "ship",
    "category_source": "label", "kind": None, "intersection": 8, "union": 20, "predicted": 12, "height": 10,
    "width": 12,
}  # fmt: skip
DETAILS = {
    "boundary_intersection": 6, "boundary_union": 18, "pred_box": [0, 0, 3, 4], "target_box": [1, 0, 5, 4],
    "centre_inside": True,
}  # fmt: skip


def written(folder, *lines):
    path = folder / "test_samples.jsonl.gz"
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(gzip.compress(b"\n".join(texts) + b"\n"))
    return path


def measured(n, details, seed=0):
    """Counts of random masks, some of them empty or full, as the metric writes them."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(n):
        shape = tuple(rng.integers(1, 40, 2).tolist())
        share = rng.choice([0.0, 0.02, 0.3, 1.0], 2)
        pred, target = (torch.from_numpy(rng.random(shape) < part) for part in share)
        i, u, p, _, *rest = measure(pred, target, details=details).tolist()
        rows.append([i, u, p, *shape, *rest])
    return Counts.from_rows(np.array(rows))


@pytest.mark.parametrize("details", [False, True])
def test_what_was_measured_is_possible_and_read_again(tmp_path, details):
    counts = measured(300, details)
    assert impossible(counts) is None
    subjects = [Subject(f"d/test/{i}/0", str(i), f"a\u2028ship\u0085{i}", kind="k") for i in range(300)]
    write_samples(tmp_path / "a.jsonl.gz", Samples(subjects, counts))
    again = read_samples(tmp_path / "a.jsonl.gz")
    assert again.subjects == subjects
    for name in ("intersection", "union", "predicted", "height", "width"):
        assert np.array_equal(getattr(again.counts, name), getattr(counts, name))
    if details:
        assert np.array_equal(again.counts.details.pred_box, counts.details.pred_box)
        assert np.array_equal(again.counts.details.centre_inside, counts.details.centre_inside)
    else:
        assert again.counts.details is None


@pytest.mark.parametrize("line", [LINE, LINE | DETAILS])
def test_a_line_and_no_line(tmp_path, line):
    assert len(read_samples(written(tmp_path, line | {"further": [1]}))) == 1
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b""))
    assert len(read_samples(tmp_path / "a.jsonl.gz")) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"intersection": 13}, "intersection <= predicted"),
        ({"intersection": 21, "predicted": 21}, "predicted <= union"),
        ({"union": 121}, "union <= height"),
        ({"union": 11}, "predicted <= union"),
        ({"predicted": 25}, "predicted <= union"),
        ({"intersection": -1}, "intersection: .*greater than or equal to 0"),
        ({"predicted": 2**70}, "predicted: "),
        ({"height": 0}, "height: "),
        ({"width": 2**40}, "width: "),
        ({"union": 20.0}, "union: .*valid integer, got 20.0"),
        ({"union": 10.7}, "union: .*valid integer, got 10.7"),
        ({"union": "20"}, "union: .*valid integer, got '20'"),
        ({"intersection": True}, "intersection: .*valid integer, got True"),
        ({"union": None}, "union: "),
        ({"union": float("nan")}, "union: "),
        ({"expression": 12}, "expression: .*valid string, got 12"),
        ({"expression": None}, "expression: "),
        ({"expression": ["the ship"]}, "expression: "),
        ({"expression": "\ud800"}, "expression: "),
        ({"category": 3}, "category: "),
        ({"category_source": "guess"}, "category_source: "),
        ({"kind": False}, "kind: "),
        ({"scene_id": 1}, "scene_id: "),
        ({"sample_id": 1}, "sample_id: "),
        ({"sample_id": ""}, "sample_id: "),
        ({"boundary_intersection": 9}, "boundary_intersection <= boundary_union"),
        ({"boundary_union": 5}, "boundary_intersection <= boundary_union"),
        ({"boundary_union": 21}, "neither above that of the masks"),
        ({"boundary_union": 0, "boundary_intersection": 0}, "neither above"),
        ({"pred_box": [0, 0, 3, 13]}, "pred_box is the box"),
        ({"pred_box": [0, 0, 11, 4]}, "pred_box is the box"),
        ({"pred_box": [3, 0, 0, 4]}, "pred_box is the box"),
        ({"pred_box": [0, 0, 2, 4]}, "pred_box is the box"),
        ({"pred_box": [0, 0, 0, 0]}, "pred_box is the box"),
        ({"pred_box": [0, 0, 3]}, "pred_box: "),
        ({"pred_box": [0, 0, 3, 4.0]}, "pred_box.3: "),
        ({"pred_box": [-1, 0, 3, 4]}, "pred_box.0: "),
        ({"target_box": [6, 0, 10, 4]}, "intersection in common"),
        ({"centre_inside": 1}, "centre_inside: "),
        ({"intersection": 0, "union": 28, "boundary_intersection": 0}, "centre_inside only"),
        ({"pred_box": ...}, "pred_box, target_box some are missing"),
        ({"height": ...}, "height: .*required, got nothing"),
    ],
)
def test_a_line_that_no_two_masks_have(tmp_path, change, words):
    line = {name: value for name, value in (LINE | DETAILS | change).items() if value is not ...}
    path = written(tmp_path, LINE | DETAILS | {"sample_id": "first"}, line)
    with pytest.raises(DataFormatError, match=f"^{path}, line 2: .*{words}.*run `rrsis test` again"):
        read_samples(path)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (LINE | {"union": 21}, "line 2: 'd/test/1/0' is also on line 1"),
        (LINE | DETAILS | {"sample_id": "x"}, "line 2: .* some are missing"),
        ([1, 2], "line 2: "),
        (b"{", "line 2 is not JSON"),
        (b"[" * 100_000, "line 2 is not JSON .*nested"),
        (b"", "line 2 is not JSON"),
        (b"\xff", "line 2: not UTF-8"),
        (b'{"sample_id": "' + b"x" * 2**20, "line 2: the file is larger"),
    ],
)
def test_a_file_that_no_test_writes(tmp_path, second, words):
    path = written(tmp_path, LINE, second)
    with pytest.raises(DataFormatError, match=f"^{path}, {words}"):
        read_samples(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(MissingDataError, match=r"there is no file .*`rrsis test` writes it"):
        read_samples(tmp_path / "test_samples.jsonl.gz")
    path = written(tmp_path, LINE, LINE)
    for content in (b"", path.read_bytes()[:-9], b"no gzip", gzip.compress(bytes(2**27), 1)):
        (tmp_path / "cut.jsonl.gz").write_bytes(content)
        if content:
            with pytest.raises(DataFormatError, match=r"cut\.jsonl\.gz"):
                read_samples(tmp_path / "cut.jsonl.gz")


def test_nothing_half_is_written(tmp_path):
    samples = Samples([Subject("a", "a", "\ud800")], measured(1, True))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/test_samples"):
        write_samples(tmp_path / "file" / "test_samples.jsonl.gz", samples)
    path = tmp_path / "test_samples.jsonl.gz"
    write_samples(path, samples)
    first = path.read_bytes()
    write_samples(path, samples)
    assert path.read_bytes() == first
    assert read_samples(path).subjects[0].expression == "?"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "test_samples.jsonl.gz"]


def test_a_large_split_is_read_in_a_second(tmp_path):
    """RISBench's test split; 0.3 s on an idle core."""
    few = measured(100, True)
    counts = few[np.arange(16_158) % 100]
    write_samples(tmp_path / "a.jsonl.gz", Samples([Subject(str(i), "s", "the ship") for i in range(16_158)], counts))
    started = time.process_time()
    assert len(read_samples(tmp_path / "a.jsonl.gz")) == 16_158
    assert time.process_time() - started < 1.5
