import csv
import math

import pytest
from made_runs import Row, make, samples, write_job

from rrsis_zoo.data.sources import SOURCES
from rrsis_zoo.errors import DataFormatError, MissingDataError
from rrsis_zoo.escape import slug
from rrsis_zoo.methods.registry import methods
from rrsis_zoo.metrics.breakdown import evaluate
from rrsis_zoo.metrics.protocols import PROTOCOLS, get_protocol
from rrsis_zoo.tables.published import METRICS, UNKNOWN, literature_tables, published_table, read_published
from rrsis_zoo.tables.suite_tables import read_runs, tables_of

CARDS = [known.card for known in methods().values()]
TITLES = [known.card.title for known in SOURCES.values() if known.card]


@pytest.fixture(scope="module")
def shipped(root):
    return root / "benchmarks" / "published_results.csv"


@pytest.fixture(scope="module")
def literature(shipped):
    return read_published(shipped)


def short(card):
    return card.title.partition(":")[0]


# -- the file ----------------------------------------------------------------------------------------------------------


def test_the_file_and_the_cards_agree(literature):
    """Both ways: every score of a card stands in the file, every row of a method of the zoo on its card."""
    rows = {(r.model, r.dataset, r.split): r for r in literature if r.model}
    scores = {(card.name, s.dataset, s.split): (card, s) for card in CARDS for s in card.published}
    assert rows.keys() == scores.keys()
    assert len(scores) >= 10
    for place, (card, score) in scores.items():
        row = rows[place]
        assert row.method == short(card)
        assert row.values == dict(score.values)
        assert row.protocol == (score.program or UNKNOWN)
        assert score.program in ("", *PROTOCOLS)


def test_every_row_is_possible_and_has_its_source(literature):
    assert len(literature) == 178
    assert len({(r.method, r.dataset, r.split) for r in literature}) == len(literature)
    for r in literature:
        assert r.source
        assert r.kind in ("coupled", "decoupled", "llm")
        assert r.split in ("val", "test")
        assert r.dataset.split(" (")[0] in (*TITLES, "GeoSeg-Bench of UniGeoSeg")  # the one set that has no reader here
        assert "miou" in r.values
        found = [r.values[f"pr@{t}"] for t in (0.5, 0.6, 0.7, 0.8, 0.9) if f"pr@{t}" in r.values]
        assert found == sorted(found, reverse=True)  # fewer samples reach a higher threshold


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("method,model", "name,model", "line 2: the columns must be method"),
        (",66.94,", ",666.94,", "miou: must be a number from 0 to 100, got '666.94'"),
        (",66.94,", ",many,", "got 'many'"),
        (",rs2sam2,", ",canonicle,", "'canonicle' is none of"),
    ],
)
def test_bad_files_are_named(shipped, tmp_path, old, new, message):
    path = tmp_path / "p.csv"
    path.write_text(shipped.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(DataFormatError, match=message):
        read_published(path)
    with pytest.raises(MissingDataError, match=r"benchmarks/published_results\.csv"):
        read_published(tmp_path / "nowhere.csv")


def test_literature_tables_hold_every_number(literature, shipped):
    tables = {table.name: table for table in literature_tables(literature)}
    assert set(tables) == {f"literature--{slug(r.dataset.lower())}" for r in literature}
    assert len(tables) == 12
    with shipped.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(len(table.rows) for table in tables.values()) == len(rows)
    for given in rows:
        table = tables[f"literature--{slug(given['dataset'].lower())}"]
        keys = [column.key for column in table.columns]
        lines = [dict(zip(keys, row, strict=True)) for row in table.rows]
        (line,) = [x for x in lines if (x["method"].text, x["split"].text) == (given["method"], given["split"])]
        for name in METRICS:
            printed = given[name if name in given else f"pr{name[-1]}0"]
            assert line[name].text == (f"{float(printed):.2f}" if printed else "–")
            assert line[name].value == (float(printed) if printed else None)
            assert not line[name].mark
        assert f"{line['source'].text} {given['source']}" in table.notes
        assert line["protocol"].text == given["protocol"]


# -- published, ours, difference ---------------------------------------------------------------------------------------


def rows_of(table):
    keys = [column.key for column in table.columns]
    return [dict(zip(keys, row, strict=True)) for row in table.rows]


def test_what_was_not_run_says_so(tmp_path):
    """Synthetic scenes, a tiny preset, another split or a baseline are no runs of ours."""
    rows = [
        Row("tiny", 0.5, model="rs2sam2", preset="tiny"),
        Row("other", 0.5, "ablation", model="rs2sam2", preset="l"),
        Row("constant", 0.1, "baseline"),
    ]
    folders = [
        make(tmp_path / "a", rows, datasets=["rrsis-d"], seeds=[1], n=9),
        make(tmp_path / "b", [Row("m", 0.5, model="rs2sam2", preset="l")], seeds=[1], n=9),
        make(tmp_path / "c", [Row("m", 0.5, model="rs2sam2", preset="l")], ["risbench"], [1], n=9),
        make(tmp_path / "d", [Row("m", 0.5, model="rs2sam2", preset="l")], ["rrsis-d"], [1], n=9, split="train"),
    ]
    for folder in folders:
        tables = tables_of(read_runs(folder))
        assert list(tables)[-1] == "published"  # after what has been measured
        lines = rows_of(tables["published"])
        assert {line["result"].text for line in lines} == {"published", "ours"}
        ours = [line for line in lines if line["result"].text == "ours"]
        assert len(ours) == sum(len(card.published) for card in CARDS)
        assert {line[name].text for line in ours for name in METRICS} == {"not run"}
    lines = rows_of(published_table([]))
    printed = [line for line in lines if line["result"].text == "published"]
    scores = [(card, score) for card in CARDS for score in card.published]
    for line, (card, score) in zip(printed, scores, strict=True):
        said = (line["method"].text, line["dataset"].text, line["split"].text, line["protocol"].text)
        assert said == (short(card), score.dataset, score.split, score.program or UNKNOWN)
        assert {name: line[name].value for name in METRICS if line[name].value is not None} == dict(score.values)


@pytest.mark.parametrize(("protocol", "sign"), [("rs2sam2", ""), ("canonical", "†")])
def test_difference(tmp_path, protocol, sign):
    row = Row("mine", 0.6, model="rs2sam2", preset="l", more={"published_split": True})
    folder = make(tmp_path / "d", [row], ["rrsis-d"], seeds=[1, 2, 3], n=30, protocol=protocol)
    write_job(folder, Row("mine", None, model="rs2sam2"), "rrsis-d", 3)
    tables = tables_of(read_runs(folder))
    assert next(iter(tables)) == "published"
    table = tables["published"]
    published, ours, difference = (
        line
        for line in rows_of(table)
        if (line["method"].text, line["dataset"].text, line["split"].text) == ("RS2-SAM2", "RRSIS-D", "test")
    )
    each = [evaluate(samples("rrsis-d", 30, 0.6, seed), get_protocol(protocol)) for seed in (1, 2)]
    for name in METRICS:
        mean = math.fsum(e[name] for e in each) / 2
        assert ours[name].value == pytest.approx(mean)
        assert difference[name].value == pytest.approx(mean - published[name].value)
        text = f"{mean - published[name].value:+.2f}".replace("-", "−")
        assert difference[name].text == text + sign
    assert ours["n"].value == 30
    assert [ours["protocol"].text, published["protocol"].text] == [protocol, "rs2sam2"]
    (note,) = [note for note in table.notes if "ours: preset l" in note]
    assert "2 of 3 trainings (seed 1, 2)" in note
    assert "annotations abababababab" in note
    assert note.endswith("N is 30, the published split has 3,481.")
    assert "commit c0ffeec0ffee" in note
    for text in (table.markdown(), table.csv(), table.latex(), table.html()):
        assert "not run" in text  # the other data sets


@pytest.mark.parametrize(
    ("model", "preset", "more"),
    [
        ("rs2sam2", "mini", {"published_split": True}),
        ("rs2sam2", "tiny", {"published_split": True}),
        ("rsrefseg", "b", {"published_split": True}),
        ("rs2sam2", "no such preset", {"published_split": True}),
        ("rs2sam2", "l", {"published_split": False}),
        ("rs2sam2", "l", {"published_split": None}),
        ("rs2sam2", "l", {}),
        ("rs2sam2", "l", {"published_split": True, "dataset": "my own", "layout": "rrsis-d"}),
        ("rs2sam2", "l", {"published_split": True, "partial": {"n": 30, "of": 3481}}),
        ("rs2sam2", "l", {"published_split": True, "untrained": True}),
    ],
    ids=[
        "a miniature", "a tiny preset", "a lighter preset", "of another version", "own data in the layout", "not known",
        "a record of before", "own data by its name", "a part", "an untrained model",
    ],
)  # fmt: skip
def test_what_is_no_reproduction_does_not_stand_beside_the_paper(tmp_path, model, preset, more):
    folder = make(tmp_path / "d", [Row("mine", 0.6, model=model, preset=preset, more=more)], ["rrsis-d"], [1], n=30)
    lines = rows_of(tables_of(read_runs(folder))["published"])
    assert {line["result"].text for line in lines} == {"published", "ours"}
    assert {line[name].text for line in lines if line["result"].text == "ours" for name in METRICS} == {"not run"}


def test_every_preset_says_what_it_is():
    """What is small by its number of parameters is so by its kind, and what starts from a miniature is one."""
    for card in CARDS:
        for name, preset in card.presets.items():
            assert preset.small == (preset.parameters < 5_000_000), (card.name, name)
            of_miniatures = any(source.startswith("mini:") for source in preset.weights.values())
            assert (preset.kind == "miniature") == of_miniatures
        assert [preset.kind for preset in card.presets.values()].count("published") == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",66.94,", ",1_0,", "got '1_0'"),
        (",66.94,", ",nan,", "got 'nan'"),
        (",66.94,", ",-1,", "got '-1'"),
        (",66.94,", ',"66.94,', "published results"),
        ("DiCoR,", ",", "line 3: method is empty"),
    ],
)
def test_more_bad_files(shipped, tmp_path, old, new, message):
    path = tmp_path / "p.csv"
    path.write_text(shipped.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DataFormatError, match=message):
        read_published(path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataFormatError, match="folder"):
        read_published(tmp_path / "folder")


def test_a_data_sets_name_does_not_leave_the_label(shipped, tmp_path):
    path = tmp_path / "p.csv"
    odd = "} \\input{x} ../y"
    path.write_text(shipped.read_text(encoding="utf-8").replace("RISBench", odd), encoding="utf-8")
    for table in literature_tables(read_published(path)):
        assert "\\input" not in table.latex()
        assert "/" not in table.name
        assert f"tab:{table.name}}}" in table.latex()
