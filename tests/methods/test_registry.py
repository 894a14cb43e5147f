"""Methods by name: ours, those of installed packages, those that a program registers."""

import os
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import rrsis_zoo
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods import registry
from rrsis_zoo.methods.method import Method
from rrsis_zoo.methods.registry import card, current_class_path, list_models, method_at, method_named, methods

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "start" / "spotter"


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No test's method is left behind."""
    monkeypatch.setattr(registry, "_registered", {})
    registry._installed.cache_clear()
    yield
    registry._installed.cache_clear()


@pytest.fixture
def spotter(monkeypatch):
    """The example of docs/start/add_a_method.md."""
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    import spotter

    return spotter.METHOD


def test_a_registered_method_is_known_everywhere(spotter):
    rrsis_zoo.register(spotter)
    assert list_models()[-1] == "spotter"
    assert card("spotter") is spotter.card
    assert method_at("spotter.module.SpotterModule") is spotter
    with pytest.warns(UserWarning, match="random weights"):
        model = rrsis_zoo.load_model("spotter")
    assert model.name == "spotter"
    rrsis_zoo.register(Method(spotter.card, spotter.model, spotter.module))  # a notebook's cell, run again


def test_names_are_taken_once(spotter, monkeypatch):
    with pytest.raises(ConfigError, match="there is already a method 'rsrefseg'"):
        rrsis_zoo.register(method_named("rsrefseg"))
    with pytest.raises(ConfigError, match="got a MethodCard"):
        rrsis_zoo.register(spotter.card)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("nowhere_at_all:METHOD", "cannot be imported .*nowhere_at_all"),
        ("spotter:CARD", "must be a rrsis_zoo.methods.method.Method, got a MethodCard"),
        ("rrsis_zoo.methods.control:METHOD", "has a second method 'control'"),
    ],
)
def test_a_broken_package_is_named_and_left_out(spotter, monkeypatch, value, words):
    points = [EntryPoint("x", value, registry.GROUP), EntryPoint("spotter", "spotter:METHOD", registry.GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with pytest.warns(UserWarning, match=words):
        assert list_models()[-1] == "spotter"
    assert len(methods()) == len(registry._OURS) + 1


def test_places_of_earlier_versions():
    """As in the configs of run folders and in checkpoints."""
    for name, known in methods().items():
        earlier = f"rrsis_zoo.training.{name}.{known.module().__name__}"
        assert current_class_path(earlier) == known.class_path
        assert method_at(earlier) is known
    for other in (None, "", "rrsis_zoo.methods.rsrefseg.module.Other", "rrsis_zoo.training.module.RRSISModule", "x.Y"):
        assert current_class_path(other) == other
        assert method_at(other) is None


def test_methods_of_others_take_no_place_of_ours(spotter, tmp_path, monkeypatch):
    """One that is called as a module of `rrsis_zoo.training` must not stand in for it."""
    from rrsis_zoo.commands.fit import resolve

    rrsis_zoo.register(Method(replace(spotter.card, name="wandb_panels"), spotter.model, spotter.module))
    monkeypatch.delitem(sys.modules, "rrsis_zoo.training.wandb_panels", raising=False)
    resolve(["--config", str(ROOT / "configs" / "control.yaml")])
    assert "rrsis_zoo.training.wandb_panels" not in sys.modules


# -- a package of somebody else ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Where the example is installed: the package and what pip writes beside it."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLE, folder / "spotter", ignore=shutil.ignore_patterns("__pycache__"))
    page = (EXAMPLE.parent / "add_a_method.md").read_text(encoding="utf-8")
    (entry,) = re.findall(r'entry-points\."([\w.]+)"\]\n(\w+) = "([\w:]+)"', page)
    info = folder / "spotter-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spotter\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[{entry[0]}]\n{entry[1]} = {entry[2]}\n")
    return folder


def test_an_installed_package_has_every_command(site, tmp_path):
    """Listed, trained, tested, loaded and tabled by a program that knows nothing of it, in one process."""
    program = """
import sys
from pathlib import Path
from rrsis_zoo.cli import run
assert run(["models"]) == 0
assert "torch" not in sys.modules
small = ["--data.root", "made", "--trainer.enable_progress_bar", "false"]
assert run(["data", "make", "--root", "made", "--scenes", "12", "--size", "64"]) == 0
assert run(["fit", "--config", "spotter/spotter.yaml", "--trainer.max_epochs", "1", *small]) == 0
best = "runs/spotter/fit/version_0/checkpoints/best.ckpt"
for _ in range(2):
    assert run(["test", "--config", "spotter/spotter.yaml", "--ckpt_path", best, *small]) == 0
assert run(["table", "runs/spotter/test/version_0", "runs/spotter/test/version_1"]) == 0
import rrsis_zoo
print(rrsis_zoo.load_model(best).name, "loaded")
"""
    (tmp_path / "spotter").symlink_to(site / "spotter")
    path = os.pathsep.join([str(site), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Spotter: words weigh channels" in done.stdout
    assert "spotter loaded" in done.stdout


def test_the_page_shows_every_file_of_the_folder():
    """A newcomer opens these and no other: the page includes each."""
    page = (EXAMPLE.parent / "add_a_method.md").read_text(encoding="utf-8")
    files = {path.name for path in EXAMPLE.iterdir() if path.is_file()}
    assert files == {"__init__.py", "card.py", "model.py", "module.py", "spotter.yaml"}
    assert set(re.findall(r"literalinclude\} spotter/(\S+)", page)) == files


BUILT_ON = {"lavt": "rmsin"}
"""Methods that another one extends: its folder may import theirs."""


@pytest.mark.parametrize("name", list_models())
def test_a_method_is_one_folder(name):
    """Nothing in the package but its folder and the registry knows it; outside of it, its YAMLs and its page."""
    package = ROOT / "src" / "rrsis_zoo"
    folder = package / "methods" / name
    own = {"__init__.py", "card.py", "model.py", "module.py"}
    assert own <= {path.name for path in folder.glob("*.py")}
    assert (ROOT / "docs" / "methods" / f"{name}.md").is_file()
    assert (ROOT / "configs" / f"{name}.yaml").is_file()
    used = re.compile(rf"methods(\.| import .*\b){name}\b")
    told = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if folder not in path.parents and used.search(re.sub(r'"""(?s:.*?)"""', "", path.read_text(encoding="utf-8")))
    ]
    heir = f"methods/{BUILT_ON.get(name, name)}/"
    assert [path for path in told if not path.startswith(heir)] == ["methods/registry.py"]
    assert (name in BUILT_ON) == any(path.startswith(heir) for path in told)


def test_nothing_is_installed_here():
    """The tests above are not about a package that this environment happens to have."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert methods().keys() == registry._OURS.keys()
