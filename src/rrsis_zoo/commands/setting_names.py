"""Names of the settings, read from the source files of the classes that take them: importing these takes seconds."""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

TOP = frozenset((
    "config", "c", "print_config", "help", "seed_everything", "trainer", "model", "data", "ckpt_path", "weights_only",
    "verbose", "return_predictions", "untrained", "safe", "plugin", "resume", "resume_point",
    "name", "protocol", "with-targets", "with_targets", "foreign", "profile",
))  # fmt: skip
"""Settings of ``fit``, ``validate``, ``test`` and ``predict`` that are not inside another one."""

_PACKAGE = Path(__file__).parents[1]
_FILES = {
    "data": _PACKAGE / "data" / "datamodule.py",
    "model.init_args": _PACKAGE / "training" / "module.py",
    "resume_point": _PACKAGE / "training" / "resume.py",
}
_OWN_TRAINER = _PACKAGE / "training" / "trainer.py"


@cache
def names_in(section: str) -> frozenset[str] | None:
    """Return the settings in a section; None if they are not known.

    Args:
        section: ``trainer``, ``data``, ``resume_point``, or ``model.init_args`` for the methods of this package.
    """
    if section in _FILES:
        return _arguments(_FILES[section])
    spec = find_spec("lightning") if section == "trainer" else None  # does not import it
    if spec is None or spec.origin is None:
        return None
    own, theirs = _arguments(_OWN_TRAINER), _arguments(Path(spec.origin).parent / "pytorch" / "trainer" / "trainer.py")
    return own | theirs if own and theirs else None


def _arguments(path: Path) -> frozenset[str] | None:
    """Return the names of the arguments of the only constructor in a file; None if there is not exactly one."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except OSError:  # installed without its source
        return None
    constructors = [
        inner.args
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for inner in node.body
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__"
    ]
    if len(constructors) != 1:
        return None
    (given,) = constructors
    return frozenset(a.arg for a in [*given.posonlyargs, *given.args, *given.kwonlyargs] if a.arg != "self")
