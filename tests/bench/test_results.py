"""Tables, report and figures of a suite's runs, and the main table as a terminal shows it."""

import re
import shutil
import textwrap
from dataclasses import replace

import pytest
from made_runs import Row, make
from PIL import Image

from bench.results import overview, write_results
from rrsis_zoo.tables.suite_tables import FORMATS

ROWS = [
    Row("constant", 0.1, "baseline", title="best constant mask"),
    Row("a", 0.7, title="Good"),
    Row("a-shuffled", 0.2, "ablation", title="Good, with the training expressions shuffled among images"),
    Row("b", 0.5, title="Fair", against=["a"]),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of everything; the first one of b has failed."""
    folder = make(tmp_path_factory.mktemp("runs") / "made", ROWS, n=45)
    shutil.rmtree(folder / "b--synthetic--seed1")
    failed = make(tmp_path_factory.mktemp("failed") / "made", [Row("b", None, title="Fair")], seeds=(1,))
    shutil.copytree(failed / "b--synthetic--seed1", folder / "b--synthetic--seed1")
    for name, seed in (("a", 1), ("a", 2), ("a-shuffled", 1), ("b", 2)):
        place = folder / f"{name}--synthetic--seed{seed}" / "test" / "version_0"
        Image.new("L", (16, 16), 60 * seed).save(place / "predictions.png")
    return folder


@pytest.fixture(scope="module")
def results(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "results"
    return out, write_results(runs, out)


def test_figures_are_those_of_the_first_finished_seed(results):
    """Of every method and control; an ablation has none."""
    out, _ = results
    greys = {p.name: Image.open(p).convert("L").getpixel((0, 0)) for p in out.glob("*.webp")}
    seeds = {name: round(grey / 60) for name, grey in greys.items()}  # WebP is not exact
    assert seeds == {"a--synthetic.webp": 1, "b--synthetic.webp": 2}


def test_every_table_is_written_and_the_literature_is_not_in_the_report(results):
    out, tables = results
    assert {"main", "differences", "kinds", "published", "literature--rrsis-d"} <= set(tables)
    for name in tables:
        assert all((out / f"{name}.{form}").is_file() for form in FORMATS)
    report = (out / "report.html").read_text(encoding="utf-8")
    assert 'id="table-differences"' in report
    assert "literature" not in report


def test_overview_fits_into_a_terminal(runs, tmp_path):
    """The scores are those of the main table, under their headings."""
    tables = write_results(runs, tmp_path)
    lines = overview(tables).splitlines()
    assert max(map(len, lines)) <= 110
    assert lines[0] == tables["main"].title
    assert re.split(r" {2,}", lines[1].strip()) == ["mIoU [95 %]", "oIoU", "Pr@0.5", "Pr@0.7", "Pr@0.9", "CPU min"]
    main = tables["main"]
    places = {column.key: i for i, column in enumerate(main.columns)}
    for row in main.rows:
        name = textwrap.wrap(row[0].text, 36)[0]
        (line,) = [line for line in lines[2:] if line[:36].rstrip() == name]
        for key in ("oiou", "pr@0.9"):
            assert f" {row[places[key]].text} " in f"{line} "
        assert f"{row[places['miou']].text} {row[places['miou']].detail}" in line
    # a long name is continued below
    assert "  shuffled among images" in lines
    two = replace(main, name="main--two")
    assert overview({"main--one": main, "main--two": two, "kinds": main}).count(main.title) == 2
