"""What a finished suite leaves in the repository, and how that is made anew without its runs."""

import json
import shutil
import zipfile

import pytest
from made_diagnosis import diagnose
from made_runs import Row, make
from PIL import Image
from test_report import gallery, ids

from bench.publishing import publish, publish_again, readme_text
from bench.suites import Change, Dataset, Model, Suite
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError

ROWS = [
    Row("constant", 0.1, "baseline", title="best constant mask"),
    Row("good", 0.7, title="Good"),
    Row("fair", 0.5, title="Fair", against=["good"]),
    Row("good-shuffled", 0.2, "ablation", title="Good, with the training expressions shuffled among images"),
]
README = "# Zoo\n\n<!-- embedded tables -->\nold\n<!-- end of tables -->\n\nthe end\n"


def suite(name="embedded", seeds=(1, 2)):
    models = [
        Model(row.name, row.title, Change(), row.role, tuple(row.against), seeds, None, {})
        for row in ROWS
        if row.role != "baseline"
    ]
    data = (Dataset("synthetic", "synthetic scenes", Change()),)
    return Suite(name, "T", "C", "canonical", seeds, data, tuple(models), ("constant",), None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = make(tmp_path_factory.mktemp("runs") / "embedded", ROWS, n=45)
    for number, name in enumerate(("good", "fair", "good-shuffled")):
        for seed in (1, 2):
            job = folder / f"{name}--synthetic--seed{seed}"
            gallery(job, ids(job)[:3])
            diagnose(job, name, seed)
            Image.new("RGB", (9, 9), (100 * seed, 100 * number, 0)).save(job / "test" / "version_0" / "predictions.png")
    return folder


@pytest.fixture
def root(tmp_path):
    place = tmp_path / "repository"
    (place / "benchmarks" / "results" / "embedded").mkdir(parents=True)
    (place / "benchmarks" / "results" / "embedded" / "of an earlier model.webp").touch()
    (place / "README.md").write_text(README)
    return place


def test_published_results_are_those_of_the_runs(runs, root):
    changed = publish(suite(), runs, root)
    results = root / "benchmarks" / "results" / "embedded"
    assert changed == [results, root / "README.md"]
    names = {path.name for path in results.iterdir()}
    assert {"main.md", "main.csv", "main.tex", "main.html", "report.html", "records.zip", "diagnosis.md"} <= names
    # a figure for each method, of its first seed; none for what is not compared
    colours = {path.name: Image.open(path).convert("RGB").getpixel((0, 0)) for path in results.glob("*.webp")}
    figures = {name: tuple(round(value / 100) for value in colour) for name, colour in colours.items()}
    assert figures == {"good--synthetic.webp": (1, 0, 0), "fair--synthetic.webp": (1, 1, 0)}
    readme = (root / "README.md").read_text()
    assert readme.startswith("# Zoo\n\n<!-- embedded tables -->\n\n| method |")
    assert readme.endswith("<!-- end of tables -->\n\nthe end\n")
    shown = [line for line in readme.splitlines() if line.startswith("|")]
    written = [(results / f"{name}.md").read_text().splitlines() for name in ("main", "kinds")]
    assert shown == [line for text in written for line in text if line.startswith("|")]
    assert not list(results.parent.glob(".*"))


def test_everything_is_made_anew_from_the_records(runs, root):
    publish(suite(), runs, root)
    results = root / "benchmarks" / "results" / "embedded"
    before = {path.name: path.read_bytes() for path in results.iterdir()}
    (results / "main.md").write_text("changed by hand")
    (results / "report.html").unlink()
    (root / "README.md").write_text(README)
    assert publish_again(suite(), root) == [results, root / "README.md"]
    assert {path.name: path.read_bytes() for path in results.iterdir()} == before
    assert "| Good |" in (root / "README.md").read_text()


def test_only_the_embedded_suite_is_in_the_readme(runs, root):
    other = root / "benchmarks" / "results" / "other"
    assert publish(suite("other"), runs, root) == [other]
    assert (root / "README.md").read_text() == README


def test_a_part_of_a_suite_is_not_published(runs, root, tmp_path):
    """Neither what `--seeds 1` leaves, nor a suite with a failed job."""
    with pytest.raises(ConfigError, match=r"not complete: good--synthetic--seed3, .*`make benchmark`"):
        publish(suite(seeds=(1, 2, 3)), runs, root)
    copy = shutil.copytree(runs, tmp_path / "copy")
    record = json.loads((copy / "good--synthetic--seed2" / "job.json").read_text())
    record |= {"status": "failed", "reason": "no luck", "result": None}
    (copy / "good--synthetic--seed2" / "job.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"not complete: good--synthetic--seed2 \(failed\): "):
        publish(suite(), copy, root)
    with pytest.raises(MissingDataError, match=r"suite\.json"):
        publish(suite(), tmp_path / "nowhere", root)
    assert (root / "README.md").read_text() == README
    assert [path.name for path in (root / "benchmarks/results/embedded").iterdir()] == ["of an earlier model.webp"]


def test_records_that_are_not_there_or_damaged_change_nothing(runs, root, tmp_path):
    results = root / "benchmarks" / "results" / "embedded"
    with pytest.raises(MissingDataError, match=r"records\.zip: `make publish-results`"):
        publish_again(suite(), root)
    (results / "records.zip").write_bytes(b"PK no")
    with pytest.raises(DataFormatError, match=r"records\.zip is damaged"):
        publish_again(suite(), root)
    with zipfile.ZipFile(results / "records.zip", "w") as archive:
        archive.writestr("../outside.txt", "x")
    with pytest.raises(MissingDataError, match=r"suite\.json"):
        publish_again(suite(), root)
    assert not list(tmp_path.rglob("outside.txt"))
    assert {path.name for path in results.iterdir()} == {"of an earlier model.webp", "records.zip"}


def test_records_name_no_place_of_this_machine(runs, root):
    publish(suite(), runs, root)
    with zipfile.ZipFile(root / "benchmarks" / "results" / "embedded" / "records.zip") as archive:
        for name in archive.namelist():
            assert not name.startswith("/")
            if name.endswith(".json"):
                assert str(runs.parent) not in archive.read(name).decode()


def test_a_readme_without_its_place_is_told():
    with pytest.raises(DataFormatError, match="<!-- embedded tables -->"):
        readme_text("# Zoo\n", "## T\n\n| a |\n", "| b |\n")
