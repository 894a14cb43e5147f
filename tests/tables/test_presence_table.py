"""The table of T-acc, N-acc and AUC, recomputed from the answers by slow code of its own."""

import json

import numpy as np
import pytest
from made_runs import Row, make

from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.metrics.presence import ANSWERS, SUMMARY, Answer, Answers, presence_metrics, write_answers
from rrsis_zoo.tables.suite_tables import read_runs, read_tests, tables_of

ROWS = [Row("constant", 0.1, "baseline"), Row("good", 0.6), Row("plain", 0.5), Row("masks", 0.4), Row("lost", None)]
N = 45


def answers(name, seed, threshold):
    rng = np.random.default_rng((seed, len(name)))
    lines = []
    for foreign in (False, True):
        presence = np.clip(rng.normal(0.35 if foreign else 0.7, 0.2, N), 0, 1)
        lines += [
            Answer(
                sample_id=f"synthetic/test/{i // 3}/{i % 3}" + "/foreign0" * foreign, scene_id=f"scene{i // 3}",
                expression="the ship", category="ship", foreign=foreign, referent=not foreign,
                predicted=int(rng.integers(0, 4)), evidence={"heat": 0.5},
                presence=None if threshold is None else float(presence[i]),
            )
            for i in range(N)
        ]  # fmt: skip
    return Answers(lines, threshold)


def write(place, given, **more):
    summary = {
        "threshold": given.threshold, "metrics": presence_metrics(given), "annotations_sha256": "a" * 64,
        "foreign_sha256": "b" * 64,
    }  # fmt: skip
    (place / SUMMARY).write_text(json.dumps({**summary, **more}))
    write_answers(place / ANSWERS, given)


@pytest.fixture
def folder(tmp_path):
    root = make(tmp_path / "made", ROWS)
    for name, threshold in (("good", 0.5), ("masks", None)):
        for seed in (1, 2):
            write(root / f"{name}--synthetic--seed{seed}/test/version_0", answers(name, seed, threshold))
    return root


def slow(name, threshold):
    """T-acc, N-acc, AUC, and the first two by masks: mean over the two trainings."""
    each = []
    for seed in (1, 2):
        lines = answers(name, seed, threshold).lines
        own, foreign = ([a for a in lines if a.foreign == kind] for kind in (False, True))
        there = [
            [a.predicted > 0 and (threshold is None or a.presence >= threshold) for a in s] for s in (own, foreign)
        ]
        masks = [[a.predicted > 0 for a in s] for s in (own, foreign)]
        pairs = [p.presence > n.presence for p in own for n in foreign] if threshold is not None else [False]
        values = [np.mean(there[0]), 1 - np.mean(there[1]), np.mean(pairs), np.mean(masks[0]), 1 - np.mean(masks[1])]
        each.append([100 * v for v in values])
    return np.mean(each, axis=0), np.std(each, axis=0, ddof=1)


def test_every_number_is_recomputed(folder):
    tables = tables_of(read_runs(folder))
    names = list(tables)
    assert names.index("presence") == names.index("localisation") + 1
    table = tables["presence"]
    rows = {row[0].text: row for row in table.rows}
    keys = ["t_acc", "n_acc", "auc", "t_acc_masks", "n_acc_masks"]
    assert [column.key for column in table.columns] == ["method", *keys, "miou", "rule"]
    for name, threshold, rule in (("good", 0.5, "presence is low"), ("masks", None, "mask is empty")):
        mean, deviation = slow(name, threshold)
        row = rows[name.capitalize()]
        assert row[-1].text == rule
        for i, cell in enumerate(row[1:6]):
            if i == 2 and threshold is None:
                assert cell.text == "none"
                continue
            assert cell.value == pytest.approx(mean[i])
            assert cell.deviation == pytest.approx(deviation[i])
            assert 0 <= cell.low <= cell.value <= cell.high <= 100
        assert row[6].value == next(r for r in tables["main"].rows if r[0].text == name.capitalize())[6].value
    assert [cell.text for cell in rows["Plain"][1:6]] == ["not measured"] * 5
    assert rows["Plain"][-1].text == "–"
    assert rows["Lost"][1].text == "failed"
    assert "how often presence is higher" in table.markdown()
    for text in (table.markdown(), table.csv(), table.latex(), table.html()):
        assert f"{slow('good', 0.5)[0][2]:.1f}" in text or f"{slow('good', 0.5)[0][2]:.2f}"[:-1] in text


def test_no_table_without_answers(tmp_path):
    assert "presence" not in tables_of(read_runs(make(tmp_path / "made", ROWS)))


def test_a_training_without_answers_leaves_its_row_out(folder):
    (folder / "good--synthetic--seed2/test/version_0" / SUMMARY).unlink()
    rows = {row[0].text: row for row in tables_of(read_runs(folder))["presence"].rows}
    assert rows["Good"][1].text == "not measured"
    assert rows["Masks"][1].value is not None


def test_tests_outside_of_a_suite(folder, tmp_path):
    places = [folder / f"good--synthetic--seed{seed}/test/version_0" for seed in (1, 2)]
    for place in places:
        result = json.loads((place.parents[1] / "job.json").read_text())["result"]
        (place / "test.json").write_text(json.dumps(result))
    table = tables_of(read_tests(places))["presence"]
    assert [row[1].value is not None for row in table.rows] == [True, True]


def test_what_does_not_belong_together(folder):
    place = folder / "good--synthetic--seed2/test/version_0"
    write(place, answers("good", 2, 0.5), foreign_sha256="c" * 64)
    with pytest.raises(DataFormatError, match=r"were asked different sentences \(foreign_sha256\)"):
        tables_of(read_runs(folder))
    write(place, answers("good", 2, 0.5), metrics=presence_metrics(answers("good", 3, 0.5)))
    with pytest.raises(DataFormatError, match=r"the recorded t_acc does not follow from the answers; run `rrsis test`"):
        tables_of(read_runs(folder))
    write(place, answers("good", 2, 0.5), threshold="high")
    with pytest.raises(DataFormatError, match=r"test_presence\.json: threshold.*run `rrsis test` again"):
        tables_of(read_runs(folder))
    write(place, answers("good", 2, 0.5))
    (place / ANSWERS).unlink()
    with pytest.raises(MissingDataError, match=r"test_presence_samples\.jsonl\.gz"):
        tables_of(read_runs(folder))
