"""Packages of which only a part is needed, and what a start of `rrsis segment` imports."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rrsis_zoo.deferred import deferred

SOURCE = Path(__file__).parents[1] / "src"

HEAVY = {
    "albumentations",
    "cv2",
    "jsonargparse",
    "lightning",
    "matplotlib",
    "pandas",
    "peft",
    "scipy",
    "torchmetrics",
    "wandb",
}
"""Nothing that segments with any method imports them before it needs them."""
LARGE = {"timm", "torchvision", "transformers"}
"""Needed by two methods only, each of them longer to import than torch."""

MAPS = {"affine", "geopandas", "pyarrow", "pyogrio", "pyproj", "rasterio", "shapely"}
"""Needed for maps only; a picture must not wait for them, nor need them."""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose own module says when it runs."""
    name = f"deferred_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name / "inner").mkdir(parents=True)
    (tmp_path / name / "__init__.py").write_text("import sys\nsys.deferred_runs.append(__name__)\nVALUE = 3\n")
    (tmp_path / name / "inner" / "__init__.py").write_text("")
    (tmp_path / name / "inner" / "part.py").write_text("from . import other\nNAME = __name__\n")
    (tmp_path / name / "inner" / "other.py").write_text("")
    (tmp_path / name / "late.py").write_text("LATE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "deferred_runs", [], raising=False)
    yield name
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        del sys.modules[module]


def test_a_part_is_imported_without_the_package(package):
    with deferred(package):
        part = __import__(f"{package}.inner.part", fromlist=["NAME"])
    assert f"{package}.inner.part" == part.NAME
    assert sys.deferred_runs == []
    with pytest.raises(AttributeError):  # as inspect looks for it in every module
        _ = sys.modules[package].__wrapped__
    assert sys.deferred_runs == []


@pytest.mark.parametrize(
    "use",
    [
        "import {0}; assert {0}.VALUE == 3",
        "from {0} import VALUE",
        "import {0}.late; assert {0}.VALUE == 3 and {0}.late.LATE",
        "from {0} import late",
    ],
)
def test_whoever_asks_for_the_package_gets_it(package, use):
    with deferred(package):
        first = __import__(f"{package}.inner.part", fromlist=["NAME"])
    exec(use.format(package))
    assert sys.deferred_runs == [package]
    assert sys.modules[f"{package}.inner.part"] is first
    assert sys.modules[package].inner.part is first
    with deferred(package):  # no more to be deferred
        __import__(f"{package}.late")
    assert sys.deferred_runs == [package]


def test_what_is_imported_or_missing_is_left_alone(package):
    module = __import__(package)
    with deferred(package, "no_such_package_anywhere"):
        pass
    assert sys.modules[package] is module
    assert "no_such_package_anywhere" not in sys.modules


def imported(module, whole=False):
    """Yield what a module imports when it is imported; with ``whole`` also what its functions import."""
    path = SOURCE.joinpath(*module.split("."))
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif whole or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            todo += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def closure(roots):
    """Return the packages that come with some of our modules, all the way down."""
    seen, outside, todo = set(), set(), list(roots)
    while todo:
        name = todo.pop()
        if not name.startswith("rrsis_zoo"):
            outside.add(name.partition(".")[0])
            continue
        path = SOURCE.joinpath(*name.split("."))
        if name in seen or not (path.is_dir() or path.with_suffix(".py").is_file()):
            continue
        seen.add(name)
        todo += imported(name)
        todo += [name.rpartition(".")[0]] if "." in name else []
    assert len(seen) > 20
    return outside


@pytest.mark.parametrize("method", ["rsrefseg", "rsrefseg2", "rs2sam2", "evisam3", "control"])
def test_segment_imports_nothing_that_it_does_not_need(method):
    modules = ("rrsis_zoo.commands.segment", "rrsis_zoo.commands.asked")
    command = [name for module in modules for name in imported(module, whole=True)]
    assert "rrsis_zoo.loading" in command
    outside = closure([*command, f"rrsis_zoo.methods.{method}.model"])
    assert "torch" in outside
    assert not outside & (HEAVY | MAPS)
    assert (outside & LARGE) == {"evisam3": {"transformers"}, "control": {"timm"}}.get(method, set())


def test_a_start_imports_neither_torchs_compiler_nor_lightning(tmp_path):
    """For real, with a miniature: what only shows while it runs, such as torch's own late imports."""
    code = f"""
        import sys, warnings
        import rrsis_zoo
        from rrsis_zoo.cli import run
        model = rrsis_zoo.load_model("rsrefseg", preset="mini", weights={{"sam": "mini:sam", "siglip": "mini:siglip"}})
        model.save_pretrained({str(tmp_path / "mini")!r})
        from PIL import Image
        Image.new("RGB", (40, 30)).save({str(tmp_path / "a.png")!r})
        options = ["--text", "the ship", "--model", {str(tmp_path / "mini")!r}, "--out", {str(tmp_path)!r} + "/out/"]
        assert run(["segment", {str(tmp_path / "a.png")!r}, *options, "--kind", "png,json,mask"]) == 0
        banned = {sorted(HEAVY | LARGE | MAPS | {"torch._dynamo", "sympy", "hydra"})!r}
        print(sorted(set(banned) & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
