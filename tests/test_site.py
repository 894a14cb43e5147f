"""The site is built without a warning, its links lead somewhere, its examples are run."""

import doctest
import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import warm
from rrsis_zoo import cli
from rrsis_zoo.methods.registry import card, list_models

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
WITH_EXAMPLES = sorted(path for path in SOURCE.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built by the command of the makefile in a copy of `docs` beside links to everything else."""
    tree = tmp_path_factory.mktemp("site")
    for path in ROOT.iterdir():
        if path.name != "docs":
            (tree / path.name).symlink_to(path)
    ignored = shutil.ignore_patterns("_build", "api", "notebooks")
    shutil.copytree(ROOT / "docs", tree / "docs", ignore=ignored)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (command,) = re.findall(r"^docs: .*\n\t\$\(BIN\)/(sphinx-build .*)$", makefile, flags=re.MULTILINE)
    done = subprocess.run(
        [warm.python(), "-m", *command.replace("sphinx-build", "sphinx").split()],
        cwd=tree,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert done.returncode == 0, done.stderr
    return tree / "docs" / "_build" / "html"


class Page(HTMLParser):
    """Where a page leads, and what can be led to in it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.text = [], {""}, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        self.links += [values[name] for name in ("href", "src") if values.get(name)]

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.slow
def test_internal_links(site):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 100
    checked = 0
    for path, page in pages.items():
        if path.name == "search.html":
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.exists(), f"{path.relative_to(site)} leads to {link}"
            checked += 1
            if target in pages and target.name != "genindex.html":
                assert unquote(parts.fragment) in pages[target].anchors, f"{path.relative_to(site)} leads to {link}"
    assert checked > 5000


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_has_the_published_table(pages):
    """`python docs/pages.py` writes it anew."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "| `evisam3` | RRSIS-D | test |" in readme
    assert pages.readme_text(readme) == readme


def test_what_cannot_be_made_is_named(pages, tmp_path):
    page = ROOT / "docs" / "index.md"
    for text, said in (
        ("<!-- made from: nothing -->", "nothing is made from 'nothing'"),
        ("<!-- made from: page README.md: No such section -->", "no section 'No such section'; it has"),
        ("[a](../nowhere.md)", "nowhere.md is not there"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            pages.fill(text, page)
    kept = "```python\nx[0](../nowhere.md)\n```\n\n[a](#here) [b](https://example.org/x)"
    assert pages.fill(kept, page) == kept
    assert pages.fill("[a](../src)", page) == f"[a]({pages.REPOSITORY}/tree/main/src)"
    assert pages.fill("[a](../notebooks/01_first_mask.ipynb#x)", page) == "[a](notebooks/01_first_mask.ipynb#x)"


def test_commands_of_the_pages_are_commands(pages):
    """What a page of `docs` says to type is a command, or a target of the makefile, that there is."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
    lines = [
        line
        for text in texts
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    assert len(lines) > 10
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in lines:
        program, *words = shlex.split(line, comments=True) or [""]
        word = next((word for word in words if "=" not in word), "")
        if program == "rrsis":
            assert word in pages.COMMANDS, line
        if program == "make":
            assert f"\n{word}:" in makefile, line


def test_every_method_has_its_page(site):
    index = (site / "methods" / "index.html").read_text(encoding="utf-8")
    for name in list_models():
        page = " ".join("".join(Page(site / "methods" / f"{name}.html").text).split())
        facts = card(name)
        assert f'href="{name}.html"' in index, f"docs/methods/index.md does not name {name}"
        for said in (
            facts.paper,
            facts.code_licence,
            *facts.presets,
            *(f"{release.source}:{release.files[0]}" for release in facts.releases),
        ):
            assert said in page, said
        for score in facts.published:
            assert all(f"{value:.2f}" in page for value in score.values.values())
            assert score.protocol in page


def test_every_command_is_there(site):
    said = "".join(Page(site / "reference" / "commands.html").text)
    for command in cli._LIGHTNING | cli._OTHER:
        assert f"rrsis {command}" in said
    for option in ("--data.root", "--manifest", "--to-official", "--protocol", "--ckpt_path"):
        assert option in said


def test_pages_of_the_repository_are_in(site):
    for page in (*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "datasets").glob("*.md")):
        assert (site / page.relative_to(ROOT / "docs")).with_suffix(".html").is_file()
    notebook = (site / "notebooks" / "01_first_mask.html").read_text(encoding="utf-8")
    assert notebook.count("<img") >= 2
    assert "make real-step" in "".join(Page(site / "reference" / "benchmark.html").text)


def test_api_has_every_module(site):
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        assert (site / "reference" / "api" / f"{name}.html").is_file(), name


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_examples_of_docstrings(path):
    module = importlib.import_module(".".join(path.relative_to(SOURCE).with_suffix("").parts))
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed


def test_there_are_examples():
    names = {path.stem for path in WITH_EXAMPLES}
    assert {"registry", "inference", "scores", "statistics", "protocols", "sources", "write"} <= names
