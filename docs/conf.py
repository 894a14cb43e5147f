"""Sphinx: pages in Markdown, the API from docstrings, notebooks with the outputs that are stored in them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.nodes import make_refnode

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
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
nitpicky = True

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


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put in what the code knows, before a page is read."""
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".md":
        try:
            source[0] = pages.fill(source[0], path)
        except ValueError as error:
            raise ExtensionError(str(error)) from error


def resolve(app: Sphinx, env: Any, node: Any, content: nodes.TextElement) -> nodes.Node | None:
    """Find what docstrings name by its last part; leave alone what is not ours (torch, numpy, type variables).

    Returns:
        None for a dotted name of ours that is not there, which Sphinx then complains about.
    """
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    objects = env.domains.python_domain.objects
    hits = [name for name in objects if name.endswith(f".{target}") and not objects[name].aliased]
    if len(hits) == 1:
        place = objects[hits[0]]
        return make_refnode(app.builder, node["refdoc"], place.docname, place.node_id, content, hits[0])
    return None if target.startswith("rrsis_zoo.") else content


def bring_notebooks(app: Sphinx) -> None:
    """Copy the notebooks to where Sphinx looks."""
    folder = HERE / "notebooks"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in sorted((pages.ROOT / "notebooks").glob("*.ipynb")):
        shutil.copy(path, folder)


def setup(app: Sphinx) -> None:
    """Sphinx's hook."""
    app.connect("builder-inited", bring_notebooks, priority=100)  # before pages are looked for
    app.connect("source-read", fill)
    app.connect("missing-reference", resolve)


os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the API is imported; nothing of it may look for a network
