"""Sphinx: pages in Markdown, the API from docstrings, notebooks with the outputs that are stored in them."""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.addnodes import toctree
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.errors import ExtensionError
from sphinx.util.nodes import make_refnode

gc.set_threshold(50_000)  # of the many objects of a build none is garbage

HERE = Path(__file__).absolute().parent
sys.path.insert(0, str(HERE))

import pages  # noqa: E402

import rrsis_zoo  # noqa: E402

project = "rrsis-zoo"
author = "The rrsis-zoo authors"
copyright = f"{author}. Apache-2.0"
release = rrsis_zoo.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.linkcode",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
nitpicky = True
smartquotes = False  # two hyphens begin an option

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # `make notebooks` executes them, and a test does

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes are explained in the class's docstring, not each at its own place
suppress_warnings = ["ref.python"]  # an attribute's name that several classes have: the first one is as good
default_role = "py:obj"  # what docstrings have in single backticks

html_theme = "furo"
html_title = "rrsis-zoo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "source_repository": pages.REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
    "light_css_variables": {"color-brand-primary": "#0b6e8f", "color-brand-content": "#0b6e8f"},
    "dark_css_variables": {"color-brand-primary": "#5cc4e8", "color-brand-content": "#5cc4e8"},
}
# GitHub numbers lines and headings itself; its addresses are checked without that
linkcheck_anchors_ignore_for_url = [r"https://github\.com/.*"]


ALIASES = {
    f"rrsis_zoo.{name}": f"{getattr(rrsis_zoo, name).__module__}.{name}"
    for name in rrsis_zoo.__all__
    if not name.startswith("_")
}
"""The public names at the package's top -> where they are written."""


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """Return where on GitHub something is written."""
    place = f"src/{info['module'].replace('.', '/')}"
    for path in (f"{place}.py", f"{place}/__init__.py"):
        if domain == "py" and (pages.ROOT / path).is_file():
            return f"{pages.REPOSITORY}/blob/main/{path}"
    return None


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put in what the code knows, before a page is read."""
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".md":
        try:
            source[0] = pages.fill(source[0], path)
        except ValueError as error:
            raise ExtensionError(str(error)) from error


_index: dict[int, dict[str, list[str]]] = {}


def _by_last_part(objects: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    """Return the names of what is documented, aliases left out, by their last part."""
    if len(objects) not in _index:  # complete when the first reference is resolved
        _index.clear()
        index = _index.setdefault(len(objects), {})
        for name, place in objects.items():
            if not place.aliased:
                index.setdefault(name.rpartition(".")[2], []).append(name)
    return _index[len(objects)]


class _Candidates(dict[str, Any]):
    """All that is documented, but to go through it gives only what a name may mean."""

    def __init__(self, objects: Mapping[str, Any], names: Sequence[str]) -> None:
        super().__init__(objects)
        self.names = names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)


class IndexedDomain(PythonDomain):
    """Finds the same as Sphinx's, which for every name in a docstring looks through thousands of others."""

    _indexed = -1  # how many there were when the index was made
    _last: Mapping[str, list[str]] = {}  # last part of a name -> full names, in their order
    _all = _Candidates({}, ())
    _searched: _Candidates | None = None

    @property
    def objects(self) -> dict[str, Any]:
        """Full name -> place; in a search only the candidates are gone through."""
        return super().objects if self._searched is None else self._searched

    def find_obj(self, env: Any, modname: str, classname: str, name: str, type: str | None, searchmode: int = 0) -> Any:
        """Search among what has the same last part."""
        objects = super().objects
        if len(objects) != self._indexed:
            last: dict[str, list[str]] = {}
            for full in objects:
                last.setdefault(full.rpartition(".")[2], []).append(full)
            self._indexed, self._last, self._all = len(objects), last, _Candidates(objects, ())
        self._all.names = self._last.get(name.removesuffix("()").rpartition(".")[2], ())
        self._searched = self._all
        try:
            return super().find_obj(env, modname, classname, name, type, searchmode)
        finally:
            self._searched = None


def resolve(app: Sphinx, env: Any, node: Any, content: nodes.TextElement) -> nodes.Node | None:
    """Find what docstrings name by its last part; leave alone what is not ours (torch, numpy, type variables).

    Returns:
        None for a dotted name of ours that is not there, which Sphinx then complains about.
    """
    if node.get("refdomain") != "py":
        return None
    target = ALIASES.get(node["reftarget"], node["reftarget"])
    objects = env.domains.python_domain.objects
    last = target.rpartition(".")[2]
    hits = [name for name in _by_last_part(objects).get(last, ()) if f".{name}".endswith(f".{target}")]
    if len(hits) == 1:
        place = objects[hits[0]]
        return make_refnode(app.builder, node["refdoc"], place.docname, place.node_id, content, hits[0])
    private = re.search(r"\.(_\w+|[A-Z])$", target)  # a private base class, a type variable
    return None if target.startswith("rrsis_zoo.") and not private else content


def short_sidebar(app: Sphinx, doctree: nodes.document) -> None:
    """Leave the API's modules, each listed by its package's page, out of the sidebar: 250 lines on 250 pages."""
    if app.env.docname.startswith("reference/api/"):
        app.env.metadata[app.env.docname]["orphan"] = True
        for node in list(doctree.findall(toctree)):
            node.parent.remove(node)


def bring_notebooks(app: Sphinx) -> None:
    """Copy the notebooks to where Sphinx looks, with links that work there."""
    pages.NOTEBOOKS.mkdir(exist_ok=True)
    for path in sorted((pages.ROOT / "notebooks").glob("*.ipynb")):
        notebook, shown = nbformat.read(path, as_version=4), pages.NOTEBOOKS / path.name
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = pages.fill(cell.source, path, shown)
        text = nbformat.writes(notebook)
        if not shown.is_file() or shown.read_text(encoding="utf-8") != text:  # an unchanged page is not built again
            shown.write_text(text, encoding="utf-8")


def plain_bars(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """In docstrings a bar is a bar (a union of types, an absolute value), not Sphinx's sign of a substitution."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...", "|", "+")):
            parts = re.split(r"(``.*?``)", line)
            lines[i] = "".join(part if part.startswith("``") else part.replace("|", r"\|") for part in parts)


def setup(app: Sphinx) -> None:
    """Sphinx's hook."""
    app.add_domain(IndexedDomain, override=True)
    app.connect("builder-inited", bring_notebooks, priority=100)  # before pages are looked for
    app.connect("source-read", fill)
    app.connect("missing-reference", resolve)
    app.connect("doctree-read", short_sidebar, priority=100)  # before Sphinx collects what is listed where
    app.connect("autodoc-process-docstring", plain_bars)


os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the API is imported; nothing of it may look for a network
