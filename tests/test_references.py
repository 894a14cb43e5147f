"""What the code refers to is in the repository: sections and quirks of the methods' pages, files of the docs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "methods").glob("*.md")}
FILES = [p for folder in ("src", "tests", "benchmarks") for p in sorted((ROOT / folder).rglob("*.py"))]

_REFERENCE = re.compile(r"§(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?|\bQ(\d+)\b")


def stated(text):
    """Return the sections and quirks that a page has, such as ``§3.1`` and ``Q4``."""
    return {
        *re.findall(r"(?:^## |\*\*|, )(§\d+(?:\.\d+)?) ", text, flags=re.MULTILINE),
        *re.findall(r"^\| (Q\d+) \|", text, flags=re.MULTILINE),
    }


def named(text):
    """Yield the sections and quirks that a text names; of a range both ends."""
    for first, last, quirk in _REFERENCE.findall(text):
        if quirk:
            yield f"Q{quirk}"
        for number in filter(None, (first, last)):
            yield f"§{number}"


def page_of(path, text, place):
    """Return the page that a reference is to: the last one named before it, or the one of the whole file."""
    before = re.findall(r"docs/methods/(\w+)\.md", text[:place])
    if before:
        return before[-1]
    if path.parent.name in PAGES:  # a method's folder
        return path.parent.name
    return next((name for name in sorted(PAGES, key=len, reverse=True) if name in path.stem), None)


WITH_REFERENCES = [p for p in FILES if p != Path(__file__) and _REFERENCE.search(p.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", WITH_REFERENCES, ids=lambda p: p.name)
def test_sections_and_quirks_are_on_the_methods_page(path):
    text = path.read_text(encoding="utf-8")
    for match in _REFERENCE.finditer(text):
        page = page_of(path, text, match.start())
        if page is None and match[3]:
            continue  # a Q and digits in a file about no method, such as bytes
        assert page is not None, f"{path}: {match[0]} belongs to no page of docs/methods"
        for name in named(match[0]):
            assert name in stated(PAGES[page]), f"{path}: {name} is not on docs/methods/{page}.md"


def test_files_that_are_named_are_there():
    for path in FILES:
        for name in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file() or path == Path(__file__), f"{path} names {name}, which is not there"


def test_nothing_points_to_a_document_outside():
    for path in [*FILES, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "configs").rglob("*.yaml")]:
        found = re.search(r"\.\./shared(?!/real)|\bspec/|\bspec (?:rs|evi)", path.read_text(encoding="utf-8"))
        assert found is None or path == Path(__file__) or "git-lfs" in path.read_text(encoding="utf-8"), path
