"""Every number of every table, in every format, is found again by slow code of its own from the files of the jobs."""

import csv
import gzip
import html.parser
import io
import json
import math
import re
import shutil
import statistics
import subprocess
import sys
from collections import Counter
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from made_runs import Row, make, write_job
from scipy import stats

from rrsis_zoo.cli import run
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError, OutputError
from rrsis_zoo.metrics.statistics import Comparison, Interval
from rrsis_zoo.tables.estimates import MIOU, estimate, rank, read_board, shown
from rrsis_zoo.tables.published import read_published
from rrsis_zoo.tables.runs import read_counts
from rrsis_zoo.tables.suite_tables import FORMATS, read_runs, read_tests, tables_of, write_tables

ROWS = [
    Row("constant", 0.1, "baseline", title="best constant mask"),
    Row("control", 0.5, "control", ["constant"]),
    Row("good", 0.62, against=["constant", "good-shuffled", "control"], title="Good & new_1 (100 %)"),
    Row("good-shuffled", 0.2, "ablation", title="Good, shuffled | words"),
    Row("near", 0.63, against=["good"]),
]
NAMES = [row.name for row in ROWS]
WORDS = {
    "the red ship": {"colour"},
    "the ship left of the pier": {"relation"},
    "a ship": {"no such word"},
    "the large ship in the upper left": {"size", "position"},
    "the tank": {"no such word"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make(tmp_path_factory.mktemp("runs") / "made", ROWS, profile=True)


@pytest.fixture(scope="module")
def tables(folder):
    return tables_of(read_runs(folder))


# -- slow code of its own ----------------------------------------------------------------------------------------------


def record(folder, name, seed):
    job = f"{name}--synthetic" + ("" if seed is None else f"--seed{seed}")
    return json.loads((folder / job / "job.json").read_text())


def seeds_of(name):
    return [None] if name == "constant" else [1, 2]


def lines_of(folder, name):
    """Lines of every training."""
    paths = [
        folder / record(folder, name, seed)["name"] / "test" / "version_0" / "test_samples.jsonl.gz"
        for seed in seeds_of(name)
    ]
    return [read_lines(path) for path in paths]


def iou(line):
    return line["intersection"] / line["union"] if line["union"] else 0.0


def edge(line):
    return line["boundary_intersection"] / line["boundary_union"] if line["boundary_union"] else 0.0


def box(line):
    (a, b, c, d), (e, f, g, h) = line["pred_box"], line["target_box"]
    both = max(0, min(c, g) - max(a, e)) * max(0, min(d, h) - max(b, f))
    either = (c - a) * (d - b) + (g - e) * (h - f) - both
    return both / either if either else 0.0


def target(line):
    return line["union"] + line["intersection"] - line["predicted"]


TERMS = {
    "oiou": lambda s: (s["intersection"], s["union"]),
    "miou": lambda s: (iou(s), 1),
    **{f"pr@{t}": lambda s, t=t: (iou(s) >= t, 1) for t in (0.5, 0.6, 0.7, 0.8, 0.9)},
    "centre_hit": lambda s: (s["centre_inside"] and target(s) > 0, target(s) > 0),
    "box_miou": lambda s: (box(s) if target(s) else 0, target(s) > 0),
    "box_pr@0.5": lambda s: (box(s) >= 0.5 and target(s) > 0, target(s) > 0),
    "hit_miou": lambda s: (iou(s), 1) if s["centre_inside"] and target(s) else (0, 0),
    "hit_boundary_miou": lambda s: (edge(s), 1) if s["centre_inside"] and target(s) else (0, 0),
    "boundary_miou": lambda s: (edge(s), 1),
}


def share_class(line):
    share = target(line) / (line["height"] * line["width"])
    for name, most in (("0.1 % or less", 0.001), ("0.1-1 %", 0.01), ("1-5 %", 0.05), ("5-20 %", 0.2)):
        if share <= most:
            return name if share else "empty"
    return "more than 20 %"


def length_class(line):
    n = line["expression"].count(" ") + 1
    return "1-4 words" if n < 5 else "5-8 words" if n < 9 else "9-12 words"


def of_class(classes, title, line):
    return title in classes(line)


def read_lines(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write_lines(path, lines):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


CLASSES = {
    "categories": lambda s: {s["category"]},
    "sizes": lambda s: {share_class(s)},
    "kinds": lambda s: {s["kind"]},
    "words": lambda s: WORDS[s["expression"]],
    "lengths": lambda s: {length_class(s)},
}


def sums(lines, terms):
    """Scene -> sum above, sum below."""
    found = {}
    for line in lines:
        up, down = terms(line)
        a, b = found.get(line["scene_id"], (0, 0))
        found[line["scene_id"]] = (a + up, b + down)
    return found


def expanded(n):
    return stats.norm.cdf(-stats.t.ppf(0.975, n - 1) * math.sqrt(n / (n - 1)))


def drawn(per_training, counts, rng):
    """Scores of draws: scenes by their counts (draws, n), trainings with stretched deviations."""
    ratios = []
    for scenes in per_training:
        up, down = np.array([scenes[s] for s in sorted(scenes)], dtype=float).T
        with np.errstate(invalid="ignore"):
            ratios.append(100 * (counts @ up) / (counts @ down))
    ratios, n = np.array(ratios), len(ratios)
    if n == 1:
        return ratios[0]
    chosen = np.array([ratios[rng.integers(0, n, n), k].mean() for k in range(ratios.shape[1])])
    return ratios.mean(0) + math.sqrt(n / (n - 1)) * (chosen - ratios.mean(0))


def bootstrap(*methods, draws=1500):
    """Interval of a score, or of the first method's minus the second's."""
    rng = np.random.default_rng(99)
    n = len(methods[0][0])
    counts = rng.multinomial(n, [1 / n] * n, draws)
    values = [drawn(per_training, counts, rng) for per_training in methods]
    return np.nanquantile(values[0] if len(values) == 1 else values[0] - values[1], [expanded(n), 1 - expanded(n)])


def everything(line):
    return True


def expected(folder, name, measure, member=everything):
    """Value, deviation and interval of one cell."""
    trainings = [[line for line in lines if member(line)] for lines in lines_of(folder, name)]
    terms = TERMS[measure]
    each = [100 * sum(terms(s)[0] for s in lines) / sum(terms(s)[1] for s in lines) for lines in trainings]
    deviation = statistics.stdev(each) if len(each) > 1 else None
    low, high = np.clip(bootstrap([sums(lines, terms) for lines in trainings]), 0, 100)
    return statistics.fmean(each), deviation, low, high


def same(cell, value, deviation=None, low=None, high=None):
    assert cell.value == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert cell.deviation == (None if deviation is None else pytest.approx(deviation, rel=1e-6, abs=1e-9))
    assert (cell.low is None) == (low is None)
    if low is not None:
        width = 0.15 * (high - low) + 0.5  # two bootstraps with different draws
        assert cell.low == pytest.approx(low, abs=width)
        assert cell.high == pytest.approx(high, abs=width)


# -- every number ------------------------------------------------------------------------------------------------------


def check_main(folder, table, keys):
    for row, name in zip(table.rows, NAMES, strict=True):
        jobs = [record(folder, name, seed) for seed in seeds_of(name)]
        for key, cell in zip(keys, row, strict=True):
            if key in TERMS:
                same(cell, *expected(folder, name, key))
            elif name == "constant":
                assert cell.value is None
            elif key in ("parameters", "trained"):
                same(cell, jobs[0]["result"]["parameters"][{"parameters": "total"}.get(key, key)])
            elif key == "train_cpu_min":
                same(cell, sum(job["fit"]["cpu_s"] for job in jobs) / len(jobs) / 60)
            else:
                assert key in ("method", "seeds")
                assert cell.text == {"method": jobs[0]["title"], "seeds": "2"}[key]


def check_localisation(folder, table, keys):
    for row, name in zip(table.rows, NAMES, strict=True):
        for key, cell in zip(keys[1:], row[1:], strict=True):
            if not all(sum(TERMS[key](s)[1] for s in lines) for lines in lines_of(folder, name)):
                assert (cell.text, cell.value) == ("none", None)  # a score of hits without a hit
            else:
                same(cell, *expected(folder, name, key))


def check_classes(folder, table, keys):
    assert keys[1:] == ["class_n", *NAMES]
    lines = lines_of(folder, "good")[0]
    sizes = Counter(name for line in lines for name in CLASSES[table.name](line))
    for row in table.rows:
        title = row[0].text
        if title == "mean of categories":
            for name, cell in zip(NAMES, row[2:], strict=True):
                each = []
                for training in lines_of(folder, name):
                    found = [[iou(s) for s in training if s["category"] == c] for c in sizes]
                    each.append(100 * statistics.fmean(map(statistics.fmean, found)))
                same(cell, statistics.fmean(each), statistics.stdev(each) if len(each) > 1 else None)
            assert row[1].value == len(sizes)
            continue
        total = title == "all expressions"
        assert row[1].value == (len(lines) if total else sizes[title])
        member = everything if total else partial(of_class, CLASSES[table.name], title)
        for name, cell in zip(NAMES, row[2:], strict=True):
            same(cell, *expected(folder, name, "miou", member))
    assert len(table.rows) == len(sizes) + 1


def exchange(a, b, draws=3000):
    """p-value of exchanging two methods scene by scene; a, b: trainings of scene -> sums of a plain mean."""
    rng = np.random.default_rng(5)
    n = sum(down for _, down in a[0].values())
    mean = [np.mean([[t[s][0] for s in sorted(t)] for t in m], axis=0) for m in (a, b)]
    difference = (mean[0] - mean[1]) / n
    signs = rng.choice([-1, 1], (draws, len(difference)))
    return (1 + np.sum(np.abs(signs @ difference) >= abs(difference.sum()) - 1e-12)) / (draws + 1)


def check_differences(folder, table, keys):
    pairs = [(row.name, other) for row in ROWS for other in row.against]
    titles = {name: record(folder, name, seeds_of(name)[0])["title"] for name in NAMES}
    p_values = [row[3].value for row in table.rows]
    for (first, second), row in zip(pairs, table.rows, strict=True):
        assert [row[0].text, row[1].text] == [titles[first], titles[second]]
        a, b = ([sums(lines, TERMS["miou"]) for lines in lines_of(folder, name)] for name in (first, second))
        value = expected(folder, first, "miou")[0] - expected(folder, second, "miou")[0]
        same(row[2], value, None, *bootstrap(a, b))
        assert row[3].value == pytest.approx(exchange(a, b), abs=0.03)
        # Holm: the largest of (number of p-values not below) x p over the p-values up to this one
        smaller = [p for p in p_values if p <= row[3].value]
        corrected = max(min(1, sum(q >= p for q in p_values) * p) for p in smaller)
        assert row[4].value == pytest.approx(corrected, rel=0.3)  # equal p-values are ranked one after the other
        assert row[5].text == ("yes" if corrected < 0.05 and row[2].low * row[2].high > 0 else "no")
    assert {row[5].text for row in table.rows} == {"yes", "no"}


def check_profile(folder, table, keys):
    rows = iter(table.rows)
    for name in NAMES[1:]:
        said = record(folder, name, 1)["profile"]
        for part in (said["step"], *said["inference"]):
            cells = dict(zip(keys, next(rows), strict=True))
            same(cells["parameters"], said["parameters"]["total"])
            same(cells["trained"], said["parameters"]["trained"])
            same(cells["gflops"], part["flops"] / 1e9)
            latency = part["latency_s"]
            assert cells["latency_ms"].value == pytest.approx(1000 * latency["median"])
            assert cells["latency_ms"].low == pytest.approx(1000 * latency["low"])
            assert cells["latency_ms"].high == pytest.approx(1000 * latency["high"])
            same(cells["per_second"], part["per_second"])
            if part["peak_bytes"] is None:
                assert cells["peak_mb"].text == "not measured"
            else:
                same(cells["peak_mb"], part["peak_bytes"] / 1e6)
    assert next(rows, None) is None
    assert "Measured on cpu, float32, threads: 1, images of 64 × 96 pixels; torch 2.15.0" in table.notes


CHECKS = {
    "main": check_main,
    "differences": check_differences,
    "localisation": check_localisation,
    **dict.fromkeys(CLASSES, check_classes),
    "profile": check_profile,
}


@pytest.mark.parametrize("name", CHECKS)
def test_every_number_is_recomputed(folder, tables, name):
    table = tables[name]
    CHECKS[name](folder, table, [column.key for column in table.columns])


def test_no_table_is_unchecked(tables):
    assert set(tables) == {"published", *CHECKS}  # published: tests/tables/test_published.py


# -- every format ------------------------------------------------------------------------------------------------------


def markdown_cells(text):
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[c.strip().replace(r"\|", "|") for c in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[2:]]
    return [[re.sub(r"^(\*\*|\*|<ins>)(.*?)(\*\*|\*|</ins>)", r"\2", c).replace("&lt;", "<") for c in r] for r in cells]


class Cells(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows, self.values, self.open = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag in ("meta", "link", "img", "br"):
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
            self.values.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.values[-1].append(dict(attributes).get("data-value"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def html_cells(text):
    parser = Cells()
    parser.feed(text)
    assert not parser.open
    return parser.rows[1:], parser.values[1:]


def latex_cells(text):
    """Cells of a table after a check that it is balanced and escaped."""
    bare = re.sub(r"(?m)^%.*$|\\[\\&%$#_{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[%#]", bare)
    assert text.isascii()
    opened = re.findall(r"\\begin\{(\w+\*?)\}", text)
    assert opened[::-1] == re.findall(r"\\end\{(\w+\*?)\}", text)
    (spec,) = re.findall(r"\\begin\{(?:tabular|longtable)\}\{@\{\}([lr]+)@\{\}\}", text)
    head = re.search(r"\\toprule\n(.*?)\\\\\n\\midrule", text, re.DOTALL)[1]
    assert len(re.findall(r"(?<!\\)&", head)) == len(spec) - 1
    rows = []
    for line in re.search(r"\\midrule\n(?:\\endhead\n)?(.*?)\\bottomrule", text, re.DOTALL)[1].splitlines():
        assert line.endswith(r"\\")
        cells = [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))]
        assert len(cells) == len(spec)
        rows.append([untex(cell) for cell in cells])
    return rows


def untex(cell):
    cell = cell.replace("{[}", "[")
    cell = re.sub(r"\\(?:textbf|emph|underline)\{(.*?)\}", r"\1", cell)
    cell = re.sub(r"\\textsuperscript\{(.*?)\}", r" \1", cell)
    cell = re.sub(r"\{\\scriptsize (.*)\}$", r"\1", cell)
    signs = {"$-$": "−", r"$\pm$": "±", r"$\dagger$": "†", "$|$": "|", "$<$": "<", "--": "–", r"\&": "&", r"\%": "%"}
    for tex, sign in {**signs, r"\_": "_", r"$\ddagger$": "‡", r"$^\circ$": "°", r"\S{}": "§"}.items():
        cell = cell.replace(tex, sign)
    return cell


def numbers(text):
    """Numbers as printed, with half a unit of their last digit."""
    found = re.findall(r"[+−]?\d[\d,]*(?:\.\d+)?", text)
    return [(float(t.replace("−", "-").replace(",", "")), 0.5 * 10 ** -len(t.partition(".")[2])) for t in found]


def agrees(text, cell):
    """A printed cell says its value, its deviation and its interval, or the reason why there is none; its footnote."""
    if cell.footnote is not None:
        before, sign, after = text.partition(cell.footnote.sign)
        assert sign, text
        text = before.strip() + after
    if cell.value is None:
        assert text == cell.text
        return
    scale = 1e6 if text.endswith(" M") else 1
    said = [cell.value / scale]
    if "±" in text:
        said.append(cell.deviation)
    if "[" in text:
        said += [cell.low, cell.high]
    printed = numbers(text)
    assert len(printed) == len(said), text
    for (value, half), true in zip(printed, said, strict=True):
        assert abs(value - true) <= half + 1e-9, text


def test_all_formats_say_the_same(tables, tmp_path):
    written = write_tables(tables, tmp_path)
    assert len(written) == len(tables) * len(FORMATS) == len(list(tmp_path.iterdir()))
    for name, table in tables.items():
        texts = {form: (tmp_path / f"{name}.{form}").read_text(encoding="utf-8") for form in FORMATS}
        rows, values = html_cells(texts["html"])
        for printed in (markdown_cells(texts["md"]), rows, latex_cells(texts["tex"])):
            assert len(printed) == len(table.rows)
            for line, cells in zip(printed, table.rows, strict=True):
                for text, cell in zip(line, cells, strict=True):
                    agrees(text, cell)
        for line, cells in zip(values, table.rows, strict=True):
            for value, cell in zip(line, cells, strict=True):
                assert (value is None) == (cell.value is None)
                assert value is None or float(value) == pytest.approx(cell.value, rel=1e-9)
        check_csv(texts["csv"], table)
        for form in ("md", "tex", "html"):  # whatever is embedded alone says what it is
            if name not in ("published", "profile"):
                assert re.search(r"not a ranking", texts[form])
                said = texts[form].replace(r"\&", "&amp;").replace("& 100", "&amp; 100")
                assert "&amp; 100" in said
                for part in ("split test", "N 45", "protocol canonical", "text mode independent", "abababababab"):
                    assert part in texts[form], (name, form, part)
                assert "commit c0ffeec0ffee" in texts[form]


def check_csv(text, table):
    lines = list(csv.DictReader(io.StringIO(text)))
    for line, cells in zip(lines, table.rows, strict=True):
        for column, cell in zip(table.columns, cells, strict=True):
            note = cell.footnote or column.footnote
            assert line.get(f"{column.key}_leakage", "") == ("" if note is None else note.level)
            assert note is None or note.text in line["leakage"]
            if cell.value is None:
                assert line[column.key] == cell.text
                continue
            assert float(line[column.key]) == pytest.approx(cell.value, rel=1e-9)
            for part in ("deviation", "low", "high"):
                value = getattr(cell, part)
                said = line.get(f"{column.key}_{part}", "")
                assert (said == "") == (value is None)
                assert value is None or float(said) == pytest.approx(value, rel=1e-9)
            assert line.get(f"{column.key}_mark", "") == cell.mark
        assert all(line[name.replace(" ", "_")] == said for name, said in table.provenance.items())
    if table.name not in ("published", "profile"):
        assert lines[0]["annotations_sha256"] == "ab" * 32


# -- marks -------------------------------------------------------------------------------------------------------------


def marks(table, key):
    place = [column.key for column in table.columns].index(key)
    return [row[place].mark for row in table.rows]


def test_bold_only_where_it_is_shown(tmp_path):
    clear = [Row("constant", 0.9, "baseline"), Row("a", 0.7), Row("b", 0.4), Row("c", 0.2), Row("x", 0.9, "ablation")]
    table = tables_of(read_runs(make(tmp_path / "clear", clear)))["main"]
    assert marks(table, "miou") == ["", "best", "second", "", ""]  # what does not compete is not marked
    text = table.markdown()
    assert "| **" in text
    assert "<ins>" in text
    near = [Row("a", 0.6), Row("b", 0.601), Row("c", 0.2)]
    table = tables_of(read_runs(make(tmp_path / "near", near)))["main"]
    assert marks(table, "miou") == ["tied", "tied", ""]
    assert "**" not in "".join(line for line in table.markdown().splitlines() if line.startswith("|"))
    alone = tables_of(read_runs(make(tmp_path / "alone", [Row("a", 0.6)])))["main"]
    assert marks(alone, "miou") == [""]


def test_a_difference_needs_both_a_corrected_p_and_an_interval():
    def comparison(p, low, high):
        return Comparison(Interval((low + high) / 2, low, high, 0.95), p, samples=9, scenes=3)

    assert shown([comparison(0.03, 1, 3)]) == [True]
    assert shown([comparison(0.03, 1, 3), comparison(0.04, 1, 3)]) == [False, False]  # 0.06 after Holm
    assert shown([comparison(0.03, 1, 3), comparison(0.001, -3, -1), None]) == [False, True, False]
    assert shown([comparison(0.001, -1, 3)]) == [False]


def marks_of_miou(folder):
    board = read_board(read_runs(folder), "synthetic")
    return rank(board, [estimate(board, trial, MIOU) for trial in board.trials], MIOU)


def test_the_spread_of_trainings_can_undo_a_mark(tmp_path):
    """Two methods that the scenes tell apart, and whose trainings differ by more than the methods do."""
    folder = make(tmp_path / "s", [Row("a", 0.5), Row("b", 0.45)], n=300)
    for name, qualities in (("a", (0.7, 0.38)), ("b", (0.39, 0.5))):
        for seed, quality in enumerate(qualities, 1):
            write_job(folder, Row(name, quality), "synthetic", seed, n=300)
    assert marks_of_miou(folder) == ["tied", "tied"]
    for name, quality in (("a", 0.54), ("b", 0.445)):
        for seed in (1, 2):
            write_job(folder, Row(name, quality), "synthetic", seed, n=300)
    assert marks_of_miou(folder) == ["best", "second"]


# -- what is missing, and what does not belong together ----------------------------------------------------------------


def test_failed_and_missing_jobs_show(tmp_path):
    rows = [Row("a", 0.6, against=["b", "c"]), Row("b", None), Row("c", 0.5), Row("d", 0.4)]
    folder = make(tmp_path / "gaps", rows)
    for path in (folder / "c--synthetic--seed1", folder / "c--synthetic--seed2", folder / "d--synthetic--seed2"):
        (path / "job.json").unlink()
    write_job(folder, Row("old", 0.4), "synthetic", 1)
    tables = tables_of(read_runs(folder))
    by_name = {row[0].text: row for row in tables["main"].rows}
    assert [cell.text for cell in by_name["B"][1:]] == ["0 of 2", *["failed"] * 10]
    assert [cell.text for cell in by_name["C"][1:]] == ["0 of 2", *["not run"] * 10]
    assert by_name["D"][1].text == "1 of 2"
    assert by_name["D"][6].deviation is None
    notes = " ".join(tables["main"].notes)
    assert "B, seed 1: failed: RuntimeError: out of | patience" in notes
    assert "C, seed 1, 2: not run" in notes
    assert "D, seed 2: not run" in notes
    assert "Left out, because they belong to none of these models, data sets and seeds: old--synthetic--seed1" in notes
    assert "variation between runs: D" in notes
    assert [[c.text for c in row[2:]] for row in tables["differences"].rows] == [["failed"] * 4, ["not run"] * 4]
    assert {cell.text for row in tables["categories"].rows for cell in row[3:5]} == {"failed", "not run"}
    write_tables(tables, tmp_path / "out")


def test_nothing_has_finished(tmp_path):
    tables = tables_of(read_runs(make(tmp_path / "none", [Row("a", None)])))
    assert list(tables) == ["main", "published"]
    assert [cell.text for cell in tables["main"].rows[0][2:]] == ["failed"] * 10
    for form in ("markdown", "csv", "latex", "html"):
        assert "failed" in getattr(tables["main"], form)()


def test_several_data_sets(tmp_path):
    folder = make(tmp_path / "two", [Row("a", 0.6), Row("b", 0.3)], datasets=("one", "two"))
    tables = tables_of(read_runs(folder))
    assert {"main--one", "main--two", "kinds--two"} <= set(tables)
    assert tables["main--two"].title == "Made up: set two"
    assert tables["main--two"].provenance["dataset"] == "two"
    assert "rank" not in " ".join(tables["main--two"].notes)  # these scenes are not the synthetic ones


def test_a_protocol_without_an_iou_for_empty_pairs(tmp_path):
    folder = make(tmp_path / "nan", [Row("a", 0.6), Row("b", 0.3)], protocol="rsrefseg", seeds=[1])
    path = folder / "a--synthetic--seed1" / "test" / "version_0" / "test_samples.jsonl.gz"
    lines = read_lines(path)
    empty = dict.fromkeys(("intersection", "union", "predicted", "boundary_intersection", "boundary_union"), 0)
    lines[4] |= empty | {"pred_box": [0] * 4, "target_box": [0] * 4, "centre_inside": False}
    write_lines(path, lines)
    job = folder / "a--synthetic--seed1" / "job.json"
    said = json.loads(job.read_text())
    with pytest.raises(DataFormatError, match=r"a--synthetic--seed1.*run the job again"):
        tables_of(read_runs(folder))
    kept = [line for i, line in enumerate(lines) if i != 4]
    overall = 100 * sum(s["intersection"] for s in lines) / sum(s["union"] for s in lines)
    found = {
        f"pr@{t}": 100 * sum(np.float32(iou(s)) > np.float32(t) for s in kept) / 45 for t in (0.5, 0.6, 0.7, 0.8, 0.9)
    }
    said["result"]["metrics"] = {"n": 45, "oiou": overall, "miou": None, **{k: float(v) for k, v in found.items()}}
    job.write_text(json.dumps(said))
    tables = tables_of(read_runs(folder))
    row = tables["main"].rows[0]
    assert row[6].text == "nan"
    assert row[6].value is None
    assert row[5].value == pytest.approx(overall)
    assert "no IoU" in " ".join(tables["main"].notes)
    total = tables["kinds"].rows[-1]
    assert total[2].text == "nan"
    mine = [100 * iou(line) for line in kept if line["kind"] == "relation"]
    relation = next(r for r in tables["kinds"].rows if r[0].text == "relation")
    assert relation[2].value == pytest.approx(statistics.fmean(mine))  # classes leave the sample out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "lavt480"}, r"b--synthetic--seed1 has protocol 'lavt480', a--synthetic--seed1 has 'canonical'"),
        ({"annotations_sha256": "cd" * 32}, "annotations_sha256"),
        ({"metrics": {"n": 45, "oiou": 1.0}}, "come from different tests; run the job again"),
        (None, "status 'finished' without"),
    ],
)
def test_what_does_not_belong_together_is_named(tmp_path, change, message):
    folder = make(tmp_path / "odd", [Row("a", 0.6), Row("b", 0.3)], seeds=[1])
    path = folder / "b--synthetic--seed1" / "job.json"
    said = json.loads(path.read_text())
    said["result"] = None if change is None else {**said["result"], **change}
    path.write_text(json.dumps(said))
    with pytest.raises(DataFormatError, match=message):
        tables_of(read_runs(folder))


def test_other_samples_are_refused_and_another_order_is_not(tmp_path):
    folder = make(tmp_path / "order", [Row("a", 0.6), Row("b", 0.3)], seeds=[1])
    before = tables_of(read_runs(folder))["main"].rows
    path = folder / "b--synthetic--seed1" / "test" / "version_0" / "test_samples.jsonl.gz"
    lines = read_lines(path)
    write_lines(path, lines[::-1])
    assert tables_of(read_runs(folder))["main"].rows == before
    write_lines(path, [*lines[:-1], lines[-1] | {"sample_id": "synthetic/test/77/0"}])
    with pytest.raises(DataFormatError, match="other samples"):
        tables_of(read_runs(folder))
    path.unlink()
    with pytest.raises(MissingDataError, match="test_samples"):
        tables_of(read_runs(folder))


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(MissingDataError, match="make benchmark"):
        read_runs(tmp_path)
    folder = make(tmp_path / "bad", [Row("a", 0.5)], seeds=[1])
    good = (folder / "suite.json").read_text()
    for text, message in (
        ("{", "is not JSON .*run the suite again"),
        ('{"schema": 2}', "another version"),
        (good.replace('"models"', '"rows"'), "models"),
        (good.replace('"against": []', '"against": ["b"]'), "a is compared with b, which is not a row"),
    ):
        (folder / "suite.json").write_text(text)
        with pytest.raises(DataFormatError, match=message):
            read_runs(folder)
    with pytest.raises(ConfigError, match="unknown format 'doc'"):
        write_tables({}, tmp_path / "out", ["doc"])


def test_counts_in_the_order_of_the_records(tmp_path):
    folder = make(tmp_path / "c", [Row("a", 0.5)], seeds=[1], n=6)
    path = folder / "a--synthetic--seed1" / "test" / "version_0" / "test_samples.jsonl.gz"
    lines = read_lines(path)
    records = [SimpleNamespace(sample_id=line["sample_id"]) for line in reversed(lines)]
    assert read_counts(path, records).tolist() == [[s["intersection"], s["union"]] for s in reversed(lines)]
    with pytest.raises(DataFormatError, match="other samples"):
        read_counts(path, records[:-1])


def test_what_is_not_trained_has_no_time_of_training(tmp_path):
    """A dash, not "not known"; and nobody misses its other training runs."""
    none = {"parameters": {"total": 1000, "trained": 0}}
    rows = [Row("a", 0.6), Row("known", 0.8, role="ablation", title="Perfect where", more=none)]
    folder = make(tmp_path / "suite", rows, seeds=[1])
    path = folder / "known--synthetic--seed1" / "job.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "fit": None}))
    table = tables_of(read_runs(folder))["main"]
    assert [cell.text for cell in table.rows[1][:5]] == ["Perfect where", "1", "0.00 M", "0.00 M", "–"]
    (note,) = [str(note) for note in table.notes if "One training run only" in str(note)]
    assert "A" in note.rpartition(":")[2]
    assert "Perfect where" not in note


def test_tests_outside_of_a_suite(tmp_path, monkeypatch, capsys):
    folder = make(tmp_path / "suite", [Row("a", 0.6), Row("b", 0.3)], seeds=[1])
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        place = folder / f"{name}--synthetic--seed1"
        said = json.loads((place / "job.json").read_text())["result"]
        (place / "test" / "version_0" / "test.json").write_text(json.dumps(said))
        (place / "test" / "version_0").rename(tmp_path / name)
    tables = tables_of(read_tests(["a", "b"]))
    main = tables["main"].rows
    assert [row[0].text for row in main] == ["a (rsrefseg tiny)", "b (rsrefseg tiny)"]
    assert [row[1].text for row in main] == ["1", "1"]
    assert [row[4].text for row in main] == ["not known"] * 2
    for row, name in zip(main, "ab", strict=True):
        lines = read_lines(tmp_path / name / "test_samples.jsonl.gz")
        assert row[6].value == pytest.approx(100 * statistics.fmean(map(iou, lines)))
    assert [cell.text for cell in tables["differences"].rows[0][:2]] == ["b (rsrefseg tiny)", "a (rsrefseg tiny)"]
    assert run(["table", "a", "b", "--table", "main"]) == 0
    assert "b (rsrefseg tiny)" in capsys.readouterr().out
    assert run(["table", "a", "--table", "main"]) == 0
    with pytest.raises(MissingDataError, match=r"suite/test\.json.*rrsis test"):
        run(["table", "a", "suite"])
    with pytest.raises(ConfigError, match="given twice"):
        read_tests(["a", "a"])
    (tmp_path / "a" / "test.json").write_text("{}")
    with pytest.raises(DataFormatError, match=r"a/test\.json: model: .*got nothing"):
        read_tests(["a"])


def test_one_table_of_one_or_two_tests(tmp_path, monkeypatch, capsys):
    """Named by the runs; the rest with --all; nothing that was not run."""
    monkeypatch.chdir(tmp_path)
    folder = make(tmp_path / "suite", [Row("a", 0.6), Row("b", 0.3), Row("c", 0.4)], seeds=[1], n=12)
    places = {"a": "one/test/mine", "b": "two/test/mine", "c": "two/test/version_0"}
    for name, place in places.items():
        source = folder / f"{name}--synthetic--seed1"
        said = json.loads((source / "job.json").read_text())["result"]
        (source / "test" / "version_0" / "test.json").write_text(json.dumps(said))
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (source / "test" / "version_0").rename(tmp_path / place)

    def printed(*words):
        assert run(["table", *words]) == 0
        return capsys.readouterr().out

    for words, names in (
        ([places["a"]], ["mine (rsrefseg tiny)"]),
        ([places["a"], places["c"]], ["mine (rsrefseg tiny)", "version_0 (rsrefseg tiny)"]),
        ([places["a"], places["b"]], [f"{places[n]} (rsrefseg tiny)" for n in "ab"]),  # which is which
    ):
        text = printed(*words)
        assert text.count("## ") == 1
        assert "not run" not in text
        rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
        assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == names
    text = printed(places["a"], places["b"], "--all")
    assert "paired differences" in text
    assert text.count("## ") > 4
    assert "not run" not in text
    assert printed(places["a"], places["b"], "--table", "differences").count("## ") == 1
    other = json.loads((tmp_path / places["c"] / "test.json").read_text())
    (tmp_path / places["c"] / "test.json").write_text(json.dumps({**other, "dataset": "elsewhere"}))
    text = printed(places["a"], places["c"])  # two data sets: a table of each, and no gaps in them
    assert text.count("## ") == 2
    assert "not run" not in text
    assert "paired" not in printed(places["a"], places["c"], "--all")
    (tmp_path / places["c"] / "test.json").write_text(json.dumps({**other, "protocol": "lavt480"}))
    with pytest.raises(DataFormatError, match="give both tests the same data and --protocol"):
        run(["table", places["a"], places["c"]])
    (tmp_path / "fit" / "checkpoints").mkdir(parents=True)
    with pytest.raises(MissingDataError, match="fit is a training, not a test: `rrsis test fit`"):
        run(["table", "fit"])


UNFIT = {
    "a part": ({"partial": {"n": 45, "of": 3481}}, "left out: only 45 of 3,481 samples were scored"),
    "untrained": ({"untrained": True}, "left out: the model was not trained"),
    "other masks": ({"binarise": "expected-iou"}, "left out: its masks are expected-iou, not p > 0.5"),
}


@pytest.mark.parametrize("how", UNFIT)
def test_a_part_or_an_untrained_model_has_no_number_in_any_table(tmp_path, how):
    more, said = UNFIT[how]
    rows = [Row("a", 0.6, more=more, against=["b"]), Row("b", 0.3), Row("c", 0.4, more={"partial": None})]
    folder = make(tmp_path / "unfit", rows, seeds=(1,), profile=True)
    found = tables_of(read_runs(folder))
    by_name = {row[0].text: row for row in found["main"].rows}
    assert [cell.text for cell in by_name["A"][1:]] == ["0 of 1", *["left out"] * 10]
    assert {cell.text for cell in by_name["C"][5:]}.isdisjoint({"left out", "failed"})
    assert f"A, seed 1: {said}" in found["main"].notes
    assert [cell.text for cell in found["differences"].rows[0][2:]] == ["left out"] * 4
    for name, table in found.items():
        values = [c.value for row in table.rows for c in row if row[0].text == "A"]
        assert set(values) <= {None}, name


@pytest.mark.parametrize("how", UNFIT)
def test_the_same_of_tests_outside_of_a_suite(tmp_path, monkeypatch, capsys, how):
    more, said = UNFIT[how]
    monkeypatch.chdir(tmp_path)
    folder = make(tmp_path / "suite", [Row("a", 0.6, more=more), Row("b", 0.3)], seeds=[1])
    for name in ("a", "b"):
        place = folder / f"{name}--synthetic--seed1"
        result = json.loads((place / "job.json").read_text())["result"]
        (place / "test" / "version_0" / "test.json").write_text(json.dumps(result))
        (place / "test" / "version_0").rename(tmp_path / name)
    assert run(["table", "a"]) == 0
    alone = capsys.readouterr().out
    assert run(["table", "a", "b", "--table", "main"]) == 0
    both = capsys.readouterr().out
    for text in (alone, both):
        assert f"a (rsrefseg tiny): {said}" in text
        line = next(line for line in text.splitlines() if line.startswith("| a (rsrefseg tiny)"))
        assert line.count("left out") == 10
        assert not re.search(r"\d\.\d", line)


def test_a_copy_of_a_job_under_another_name_counts_for_nothing(tmp_path):
    folder = make(tmp_path / "copied", [Row("a", 0.6)], seeds=(1,))
    before = tables_of(read_runs(folder))["main"].rows
    shutil.copytree(folder / "a--synthetic--seed1", folder / "backup")
    found = tables_of(read_runs(folder))["main"]
    assert found.rows == before
    assert any("Left out, because" in note and "seeds: backup" in note for note in found.notes)


def test_names_of_data_sets_are_no_paths(tmp_path):
    folder = make(tmp_path / "two", [Row("a", 0.6)], seeds=(1,), n=6)
    said = json.loads((folder / "suite.json").read_text())
    said["datasets"] += [{"name": name, "title": "T"} for name in ("../../out", "} \\input{x}", "a b")]
    (folder / "suite.json").write_text(json.dumps(said))
    written = write_tables(tables_of(read_runs(folder)), tmp_path / "tables")
    assert {path.parent for path in written} == {tmp_path / "tables"}
    assert len({path.name for path in written}) == len(written)
    assert {path.name for path in tmp_path.iterdir()} == {"two", "tables"}
    assert "\\input" not in "".join(path.read_text() for path in written if path.suffix == ".tex")


@pytest.mark.parametrize("place", ["file", "file/tables", "folder"])
def test_tables_that_cannot_be_written_are_one_error(tmp_path, place):
    folder = make(tmp_path / "runs", [Row("a", 0.6)], seeds=(1,), n=6)
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder" / "main.md").mkdir(parents=True)
    with pytest.raises(OutputError, match=place):
        run(["table", str(folder), "--out", str(tmp_path / place)])
    assert (tmp_path / "file").read_text() == "kept"
    assert not list(tmp_path.rglob("*.part*"))


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_says_what_there_is(root, folder, tables, capsys):
    page = (root / "docs" / "tables.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    assert set(re.findall(r"`([\w-]+)`", " ".join(rows))) == {
        *tables,
        "presence",
        "diagnosis",
        "where",
        "literature--DATASET",
    }
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    space = {}
    exec(compile(code.replace('"runs/embedded"', repr(str(folder))), "docs/tables.md", "exec"), space)
    assert r"\toprule" in capsys.readouterr().out
    assert isinstance(space["best"], list)
    literature = read_published(root / "benchmarks" / "published_results.csv")
    said = f"{len(literature)} rows of {len({r.method for r in literature})} methods and\nvariants"
    assert said in page


# -- the command -------------------------------------------------------------------------------------------------------


def test_command(warm_rrsis, tmp_path, root):
    folder = make(tmp_path / "cli", [Row("a", 0.6), Row("b", 0.3)], seeds=[1], n=12)
    out, published = tmp_path / "out", root / "benchmarks" / "published_results.csv"
    arguments = ["table", str(folder), "--out", str(out), "--format", "md", "--format", "csv"]
    code = (
        "import sys; from rrsis_zoo.cli import run; assert run(sys.argv[1:]) == 0; "
        "assert not {'torch', 'lightning', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, *arguments, "--published", str(published)], check=True)
    names = {path.name for path in out.iterdir()}
    assert {"main.md", "main.csv", "published.md", "literature--rrsis-d.csv"} <= names
    assert not [name for name in names if name.endswith((".tex", ".html"))]
    done = subprocess.run(
        [*warm_rrsis, "table", str(folder), "--table", "kinds"], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("## ") == 1
    assert "kind of expression" in done.stdout
    for wrong, message in (
        ([str(tmp_path)], "suite.json"),
        ([str(folder), "--table", "kind"], "did you mean 'kinds'"),
        ([str(folder), "--format", "doc", "--out", "x"], "unknown format 'doc'"),
        ([str(folder), "--published", "nowhere.csv"], "nowhere.csv"),
    ):
        done = subprocess.run([*warm_rrsis, "table", *wrong], capture_output=True, text=True)
        assert done.returncode == 2
        assert message in done.stderr
