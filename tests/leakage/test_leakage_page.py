"""The page about the ledger: its commands and its Python are run, its tables are the ledger's."""

import importlib.util
import io
import json
import re
import shlex
from contextlib import redirect_stdout

import pytest
from made_runs import Row, make

from rrsis_zoo.cli import run
from rrsis_zoo.leakage.ledger import shipped


@pytest.fixture(scope="module")
def pages(root):
    spec = importlib.util.spec_from_file_location("pages_of_the_site", root / "docs" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(root):
    return (root / "docs" / "leakage.md").read_text(encoding="utf-8")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def test_its_commands(page, tmp_path, monkeypatch, capsys):
    make(tmp_path / "runs" / "embedded", [Row("a", 0.5)], n=9, seeds=[1])
    monkeypatch.chdir(tmp_path)
    said = []
    for line in "".join(blocks(page, "sh")).splitlines():
        words = shlex.split(line, comments=True)
        assert words[0] == "rrsis"
        assert not run(words[1:])
        said.append(capsys.readouterr().out)
    assert "| A |" in said[0]
    assert "has seen: refsegrs train (targets), refsegrs test (selection), any other split: unknown" in said[1]
    assert "(SAM ViT-L, 1.2 GB, Apache-2.0), saw SA-1B (aerial images: not known)" in said[1]
    assert "sam: mini:sam, saw synthetic scenes of this package (nothing else)" in said[1]
    lines = json.loads(said[2])["rsrefseg2"]["leakage"]["rrsisd"]
    assert {"dataset": "rrsis-d", "split": "test", "level": "selection"}.items() <= lines[1].items()
    assert lines[1]["evidence"].endswith("(derived).")


def test_its_python(page):
    (code,) = blocks(page, "python")
    out = io.StringIO()
    with redirect_stdout(out):
        exec(compile(code, "leakage.md", "exec"), {})
    first, *rest = out.getvalue().splitlines()
    assert f"# {first}" in code
    assert rest[0].startswith("In RSRefSeg 2's configurations")


def test_its_tables(pages, page, root):
    text = pages.fill(page, root / "docs" / "leakage.md")
    assert "<!--" not in text
    for entry in shipped().released.values():
        assert f"| {entry.title} (from " in text or not entry.bases
    for base in shipped().bases.values():
        assert f"| {base.title} | {base.data} | {base.aerial} |" in text
    assert "[Lsan2401/RMSIN/issues/16](https://github.com/Lsan2401/RMSIN/issues/16)" in text
    with pytest.raises(ValueError, match="has no part 'rumours'"):
        pages.leakage_text("rumours")
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        rows = table.splitlines()
        assert len({re.sub(r"`[^`]*`", "", row).count("|") for row in rows}) == 1, rows[0]


def test_it_is_linked(root):
    for name in ("README.md", "docs/index.md", "docs/tables.md", "docs/metrics.md", "docs/datasets/README.md"):
        assert "leakage.md" in (root / name).read_text(encoding="utf-8"), name
