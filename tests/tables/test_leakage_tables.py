"""What the weights of a row have seen of the test split stands in every table, in four formats and in the report."""

import csv
import html.parser
import io
import json
import re

import pytest
from made_runs import Row, make

from bench.report import write_report
from bench.results import overview
from rrsis_zoo.leakage.lineage import Lineage, Start, Trained
from rrsis_zoo.tables.leakage import Footnotes, finding_of
from rrsis_zoo.tables.published import literature_tables, read_published
from rrsis_zoo.tables.runs import read_tests
from rrsis_zoo.tables.suite_tables import page, read_runs, tables_of

TRAINED = [Trained(dataset="rrsis-d", split="train", selected_on="val")]


def lineage(**parts):
    return {"lineage": Lineage(**parts).plain(), "published_split": True}


CHOSEN = lineage(releases=["rsrefseg2/rrsisd"])  # its epoch was chosen on the test split
POOL = lineage(
    starts=[Start(source="hub:timm/resnet34.a1_in1k")], trainings=[Trained(dataset="risbench", split="train")]
)
UNKNOWN = lineage(starts=[Start(source="hub:facebook/sam2.1-hiera-large", base="sam2")], trainings=TRAINED)
CLEAN = lineage(starts=[Start(source="hub:timm/resnet34.a1_in1k")], trainings=TRAINED)
ROWS = [
    Row("constant", 0.1, "baseline", title="Best constant mask"),
    Row("chosen", 0.9, against=["clean"], title="Chosen", more=CHOSEN),
    Row("pool", 0.6, against=["clean"], title="Pool", more=POOL),
    Row("unknown", 0.4, title="Unknown", more=UNKNOWN),
    Row("clean", 0.5, title="Clean", more=CLEAN),
]
BEST = "the epoch with the best mIoU on it is kept (derived)."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make(tmp_path_factory.mktemp("runs") / "real", ROWS, datasets=["rrsis-d"])


@pytest.fixture(scope="module")
def tables(folder):
    return tables_of(read_runs(folder))


def lines(table):
    keys = [column.key for column in table.columns]
    return {row[0].text: dict(zip(keys, row, strict=True)) for row in table.rows}


def test_a_contaminated_row_is_marked_and_not_ranked(tables):
    rows = lines(tables["main"])
    for name in ("oiou", "miou", "pr@0.5", "pr@0.9"):
        signs = {title: row[name].footnote and row[name].footnote.sign for title, row in rows.items()}
        assert signs == {"Best constant mask": None, "Chosen": "‡a", "Pool": "§b", "Unknown": None, "Clean": None}
        assert rows["Chosen"][name].value > rows["Pool"][name].value  # the highest of all
        assert rows["Chosen"][name].mark == ""
        assert rows["Pool"][name].mark in ("best", "tied")  # a footnote takes nothing away
    assert {row["parameters"].footnote for row in rows.values()} == {None}
    assert [title for title, row in rows.items() if row["method"].footnote] == ["Unknown"]
    assert rows["Unknown"]["method"].footnote.sign == "°"
    texts = {note.sign: note.text for note in tables["main"].footnotes}
    assert list(texts) == ["‡a", "§b", "°"]
    assert texts["‡a"].startswith("Selection, so not ranked: the split chose the checkpoint or the settings. RSR")
    assert texts["‡a"].endswith(BEST)
    assert "Both RRSIS-D and RISBench use images of DIOR" in texts["§b"]
    assert "Training on risbench train: Both" in texts["§b"]
    assert "SAM 2 was trained on SA-V" in texts["°"]


def test_every_table_of_scores_is_marked(tables):
    """Where methods are columns, the ring is at the head of the column."""
    assert {"main", "differences", "localisation", "categories", "sizes", "kinds", "words", "lengths"} <= set(tables)
    for name in ("localisation", "categories", "sizes", "kinds", "words", "lengths"):
        table = tables[name]
        assert [note.sign for note in table.footnotes] == ["‡a", "§b", "°"], name
        for row in table.rows if name != "localisation" else ():
            cells = dict(zip([column.key for column in table.columns], row, strict=True))
            assert cells["chosen"].footnote.sign == "‡a"
            assert cells["chosen"].mark == ""
            assert cells["clean"].footnote is None
    (column,) = [column for column in tables["kinds"].columns if column.footnote]
    assert (column.key, column.footnote.sign) == ("unknown", "°")


def test_a_pair_with_a_contaminated_row_is_not_ranked(tables):
    pairs = {
        (row[0].text, row[1].text): dict(zip([c.key for c in tables["differences"].columns], row, strict=True))
        for row in tables["differences"].rows
    }
    chosen, pool = pairs["Chosen", "Clean"], pairs["Pool", "Clean"]
    assert (chosen["shown"].text, chosen["p_holm"].text) == ("not ranked", "–")
    assert chosen["method"].footnote.sign == "‡a"
    assert chosen["difference"].value > 0
    assert pool["shown"].text in ("yes", "no")
    assert pool["p_holm"].value == pytest.approx(pool["p"].value)  # a family of one
    assert any("for 1 comparisons" in note for note in tables["differences"].notes)


class Cells(html.parser.HTMLParser):
    """The texts of all cells, items of lists and signs of a page."""

    def __init__(self, text):
        super().__init__()
        self.found, self._open = {"td": [], "th": [], "li": [], "sup": []}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._open.append(tag)
        if tag in self.found:
            self.found[tag].append("")

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        for tag in set(self._open) & self.found.keys():
            self.found[tag][-1] += data


def test_four_formats(tables):
    table = tables["main"]
    score = lines(table)["Chosen"]["miou"].text
    markdown = table.markdown().splitlines()
    (row,) = [line for line in markdown if line.startswith("| Chosen |")]
    assert f"| {score} ‡a " in row
    (note,) = [line for line in markdown if line.startswith("* ‡a ")]
    assert note.endswith(BEST)
    assert any(line.startswith("| Unknown ° |") for line in markdown)

    written = list(csv.DictReader(io.StringIO(table.csv())))
    by_name = {line["method"]: line for line in written}
    levels = {name: line["miou_leakage"] for name, line in by_name.items()}
    assert levels == {"Best constant mask": "", "Chosen": "selection", "Pool": "pool", "Unknown": "", "Clean": ""}
    assert by_name["Unknown"]["method_leakage"] == "unknown"
    assert by_name["Chosen"]["leakage"].endswith(BEST)
    assert by_name["Clean"]["leakage"] == ""
    assert float(by_name["Chosen"]["miou"]) == pytest.approx(lines(table)["Chosen"]["miou"].value)
    kinds = next(csv.DictReader(io.StringIO(tables["kinds"].csv())))
    assert (kinds["chosen_leakage"], kinds["unknown_leakage"]) == ("selection", "unknown")

    latex = table.latex()
    assert rf"{score}\textsuperscript{{$\ddagger$a}}" in latex
    assert r"\textsuperscript{\S{}b}" in latex
    assert r"Unknown\textsuperscript{$^\circ$}" in latex
    assert r"$\ddagger$a Selection, so not ranked" in latex
    assert r"Unknown\textsuperscript{$^\circ$}" in tables["kinds"].latex()

    cells = Cells(page(table))
    assert cells.found["sup"].count("‡a") == 7
    assert any(text.startswith(f"{score}‡a") for text in cells.found["td"])
    assert "Unknown°" in cells.found["th"]
    assert any(text.startswith("‡a Selection") and text.endswith(BEST) for text in cells.found["li"])
    assert '<sup class="leakage warns" title="Selection, so not ranked' in page(table)


def test_the_report_and_the_terminal(folder, tables, tmp_path):
    text = write_report(folder, tmp_path / "report.html").read_text(encoding="utf-8")
    cells = Cells(text)
    assert next(li for li in cells.found["li"] if li.startswith("‡a ")).endswith(BEST)
    assert "‡a" in cells.found["sup"]
    assert text.index('class="footnotes"') < text.index("Notes and provenance")  # seen without unfolding
    assert "‡: contaminated, so not ranked." in text
    names = re.findall(r'class="name" x="14"[^>]*>([^<]*)<', text)
    assert names == ["Pool", "Clean", "Unknown", "Best constant mask", "Chosen ‡a"]
    shown = overview(tables)
    assert max(map(len, shown.splitlines())) <= 110
    assert "‡a Selection, so not ranked" in shown


def test_scenes_drawn_here_have_no_marks(tmp_path):
    """By the records of earlier versions too, and with any public weights."""
    trained = [Trained(dataset="synthetic", split="train", selected_on="val")]
    mini = {"lineage": Lineage(starts=[Start(source="mini:sam2")], trainings=trained).plain()}
    public = {"lineage": Lineage(starts=[Start(source="hub:facebook/sam3", base="sam3")]).plain()}
    rows = [Row("mini", 0.6, more=mini), Row("earlier", 0.5), Row("public", 0.4, more=public)]
    folder = make(tmp_path / "drawn", rows, n=9, seeds=[1])
    for name, table in tables_of(read_runs(folder)).items():
        if name != "published":
            assert table.footnotes == [], name
            assert "leakage" not in table.csv()
            assert table.remarks() == list(table.notes)
    job = json.loads((folder / "mini--synthetic--seed1/job.json").read_text())["result"]
    assert finding_of(job).level == "clean"
    assert finding_of({**job, "dataset": "harbours", "layout": "synthetic"}).level == "clean"
    assert finding_of({**job, "split": "val"}).level == "selection"
    assert finding_of({**job, "dataset": "rrsis-d"}).level == "clean"  # it was never shown a photograph
    assert finding_of({**job, "dataset": "rrsis-d", "lineage": None}).level == "unknown"


def test_one_training_run_is_enough(tmp_path):
    """A row is what the run that has seen most is."""
    folder = make(tmp_path / "two", [Row("a", 0.6, more=CLEAN), Row("b", 0.5, more=CLEAN)], ["rrsis-d"], n=9)
    path = folder / "a--rrsis-d--seed2" / "job.json"
    record = json.loads(path.read_text())
    record["result"] |= lineage(trainings=[Trained(dataset="rrsis-d", split="all")])
    path.write_text(json.dumps(record))
    main = lines(tables_of(read_runs(folder))["main"])
    assert main["A"]["miou"].footnote.level == "targets"
    assert main["B"]["miou"].footnote is None
    assert main["B"]["miou"].mark == ""  # nobody is left to compare it with


def test_runs_of_rrsis_test(folder):
    """Outside a suite too, and without a record of an earlier version."""
    places = [folder / f"{name}--rrsis-d--seed1" / "test" / "version_0" for name in ("chosen", "unknown")]
    for name, place in zip(("chosen", "unknown"), places, strict=True):
        result = json.loads((folder / f"{name}--rrsis-d--seed1" / "job.json").read_text())["result"]
        if name == "unknown":
            del result["lineage"]
        (place / "test.json").write_text(json.dumps(result))
    main = tables_of(read_tests(places))["main"]
    assert [note.sign for note in main.footnotes] == ["‡a", "°"]
    assert "`rrsis test` writes it anew" in main.footnotes[1].text


def test_published_results(root, tables):
    """RSRefSeg 2 chose its epoch on the test split; of most others nothing is known."""
    literature = {t.name: t for t in literature_tables(read_published(root / "benchmarks" / "published_results.csv"))}
    table = literature["literature--refsegrs"]
    keys = [column.key for column in table.columns]
    rows = {(row[0].text, row[3].text): dict(zip(keys, row, strict=True)) for row in table.rows}
    assert rows["RSRefSeg 2", "test"]["miou"].footnote.level == "selection"
    assert rows["LGCE", "test"]["miou"].footnote.sign.startswith("‡")
    assert rows["CARIS", "test"]["miou"].footnote is None
    assert rows["CARIS", "test"]["method"].footnote.sign == "°"
    assert max(len(note.text) for note in table.footnotes) < 900
    assert "‡" in table.markdown()
    published = tables["published"]
    (line,) = [row for row in published.rows if (row[0].text, row[3].text) == ("RSRefSeg 2", "published")]
    assert line[-1].footnote.level == "selection"
    assert "RSRefSeg 2, refsegrs.pth: In RSRefSeg 2's" in " ".join(note.text for note in published.footnotes)


def test_many_footnotes():
    """Letters go on after z, and a reason that several rows share is said once."""
    found = [finding_of({"dataset": "rrsis-d", "split": "test", **POOL})] * 30
    notes = Footnotes([(f"row {i}", seen) for i, seen in enumerate(found)])
    assert len({notes.score(i) for i in range(30)}) == 1
    each = [finding_of({"dataset": "rrsis-d", "split": s, **CHOSEN}) for s in ("train", "test")]
    two = Footnotes(list(zip("ab", each, strict=True)))
    assert [two.score(i).sign for i in range(2)] == ["‡a", "‡b"]
