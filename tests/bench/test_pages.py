"""The benchmark's guide and its lab book: links lead somewhere, commands and options are real ones."""

import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench.publishing import readme_text

ROOT = Path(__file__).parents[2]
PAGES = {name: ROOT / "benchmarks" / name for name in ("README.md", "LABBOOK.md")}
GUIDE = PAGES["README.md"].read_text(encoding="utf-8")


def anchors(path):
    """Return the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def targets(path):
    """Return the links of a page to files of the repository, with their anchors."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\((?!http)([^)\s]+)\)", text):
        file, _, anchor = link.partition("#")
        yield link, (path.parent / file).resolve() if file else path, anchor


@pytest.mark.parametrize("page", [*PAGES.values(), ROOT / "README.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    found = list(targets(page))
    assert len(found) > 5
    for link, file, anchor in found:
        assert file.exists(), link
        if anchor:
            assert anchor in anchors(file), link


def commands(text):
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def test_commands_are_understood(script, monkeypatch):
    """Targets of the makefile, and arguments of the script behind them."""
    lines = commands(GUIDE)
    assert len(lines) > 6
    for words in lines:
        if words[0] == "make":
            done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            given = next((word.removeprefix("ARGS=") for word in words if word.startswith("ARGS=")), "")
            words = ["", "benchmarks/run.py", *shlex.split(given)]
        assert words[1] == "benchmarks/run.py"
        monkeypatch.setattr(sys, "argv", words[1:])
        options = script.arguments()
        assert (ROOT / options.suite).is_file()


def test_every_option_is_explained(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--help"])
    with pytest.raises(SystemExit):
        script.arguments()
    options = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out)) - {"--help", "--again"}
    table = GUIDE.split("## Options")[1].split("\n## ")[0]
    assert options == set(re.findall(r"--[a-z][a-z-]*", table))


def test_every_measurement_has_its_entry():
    """What the makefile measures is in the guide, and the targets that the guide names are there."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    made = set(re.findall(r"^([a-z0-9-]+):.*\n\t.*benchmarks/", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"`make ([a-z0-9-]+)", GUIDE))
    assert made <= named | {"benchmark"}
    assert all(f"\n{name}:" in makefile for name in named)


def test_the_readme_is_what_publishing_writes():
    results = ROOT / "benchmarks" / "results" / "embedded"
    main, kinds = ((results / f"{name}.md").read_text(encoding="utf-8") for name in ("main", "kinds"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme_text(readme, main, kinds) == readme


# -- numbers in prose are those of the committed results ---------------------------------------------------------------

RESULTS = ROOT / "benchmarks" / "results" / "embedded"


def value(table, method, column):
    with (RESULTS / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["method"] == method]
    return float(row[column])


def test_the_example_of_where_and_how_exactly():
    text = " ".join((ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").split())
    miou = value("main", "RSRefSeg (mini)", "miou")
    hits, there = (value("localisation", "RSRefSeg (mini)", name) for name in ("centre_hit", "hit_miou"))
    lost, where = round(100 - miou, 1), round(round(there, 1) - round(miou, 1), 1)
    assert f"has mIoU {miou:.1f} on 750 synthetic test expressions" in text
    assert f"Its centre hits in {hits:.1f} % of them, and there mIoU is {there:.1f}." in text
    assert f"Of the {lost:.1f} points that it lacks, {where:.1f} are lost by *where*" in text
    assert f"The other {lost - where:.1f} are lost by *how exactly*" in text


def test_the_size_of_the_report():
    size = (RESULTS / "report.html").stat().st_size
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    assert f"With the embedded suite's training runs it is {size / 1e6:.1f} MB." in text


def test_no_interval_of_the_committed_tables_is_cut_off_before_its_value():
    checked = 0
    for path in sorted((ROOT / "benchmarks" / "results").rglob("*.csv")):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        for row in csv.DictReader(lines):
            for name in (key.removesuffix("_low") for key in row if key.endswith("_low") and row[key]):
                low, value, high = (float(row[key]) for key in (f"{name}_low", name, f"{name}_high"))
                assert low - 1e-6 <= value <= high + 1e-6, (path.name, name, row)
                checked += 1
    assert checked > 300
