"""Methods from files and modules that the user names."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import rrsis_zoo
import warm
from rrsis_zoo.cli import run
from rrsis_zoo.commands.fit import resolve
from rrsis_zoo.commands.plugin_options import with_plugins
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods import plugins, registry
from rrsis_zoo.methods.plugins import load_plugin
from rrsis_zoo.methods.registry import list_models

EXAMPLE = Path(__file__).parents[2] / "docs" / "start" / "spotter"
PAGE = (EXAMPLE.parent / "add_a_method.md").read_text(encoding="utf-8")


MENDED = """
from dataclasses import replace
import rrsis_zoo
from rrsis_zoo.methods import control
from rrsis_zoo.methods.method import Method
rrsis_zoo.register(Method(replace(control.CARD, name="mended"), control.METHOD.model, control.METHOD.module))
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No test's method, module or path is left behind."""
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("spotter", "pointer", "broken", "helper"):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path):
    """Where the example lies, as a package that is not installed."""
    shutil.copytree(EXAMPLE, tmp_path / "spotter", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.fixture
def pointer(folder):
    """A plug-in of one file, which registers a method by itself."""
    path = folder / "pointer.py"
    path.write_text(
        "from dataclasses import replace\nimport rrsis_zoo\nimport spotter\n"
        "from rrsis_zoo.methods.method import Method\n"
        "card = replace(spotter.METHOD.card, name='pointer')\n"
        "rrsis_zoo.register(Method(card, spotter.METHOD.model, spotter.METHOD.module))\n"
    )
    return path


def test_a_package_folder(folder):
    (method,) = load_plugin(folder / "spotter")
    assert method.name == "spotter"
    assert list_models()[-1] == "spotter"
    assert load_plugin(f"{folder}/spotter/__init__.py") == (method,)
    assert sys.modules["spotter"].METHOD is method


def test_a_file_that_registers_by_itself(pointer):
    (method,) = load_plugin(str(pointer))
    assert list_models()[-1] == "pointer"  # and not spotter, which it only uses
    assert load_plugin(pointer) == (method,)


def test_a_module(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    assert [method.name for method in load_plugin("spotter")] == ["spotter"]


def test_a_registry_that_was_emptied(folder, monkeypatch):
    load_plugin(folder / "spotter")
    monkeypatch.setattr(registry, "_registered", {})
    load_plugin(folder / "spotter")
    assert "spotter" in list_models()


def test_a_model_by_plugin(folder):
    with pytest.warns(UserWarning, match="random weights"):
        model = rrsis_zoo.load_model("spotter", plugin=folder / "spotter")
    assert model.name == "spotter"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", r"registers no method: end it with rrsis_zoo.register\(METHOD\)"),
        ("METHOD = 1", "registers no method"),
        ("def f():\n    return 1 / 0\nf()", r"cannot be imported: .*broken.py, line 2: ZeroDivisionError"),
        ("x = (", r"cannot be imported: .*broken.py, line 1: SyntaxError"),
        ("raise SystemExit(0)", r"cannot be imported: .*broken.py, line 1: SystemExit\(0\)"),
        ("import nowhere_at_all", r"broken.py, line 1: ModuleNotFoundError\(\"No module named 'nowhere_at_all'"),
        (
            "import rrsis_zoo\nfrom rrsis_zoo.methods.registry import method_named\n"
            "rrsis_zoo.register(method_named('control'))",
            ": there is already a method 'control'",
        ),
    ],
)
def test_a_plugin_that_fails(tmp_path, text, said):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"^plug-in {re.escape(str(path))}.*{said}"):
        load_plugin(path)
    with pytest.raises(ConfigError, match=said):
        run(["models", "--plugin", str(path)])
    path.write_text(MENDED)
    assert [method.name for method in load_plugin(path)] == ["mended"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.py", "there is no file .*nowhere.py; give a Python file"),
        ("nowhere_at_all", "there is no module 'nowhere_at_all'; give a Python file, for instance nowhere_at_all.py"),
        ("my-method.py", "'my-method' cannot be a module's name: rename it"),
        ("json.py", r"there is already a module 'json' \(.*\); rename the plug-in"),
        ("empty", "there is no file .*empty/__init__.py"),
    ],
)
def test_what_is_no_plugin(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for file in ("my-method.py", "json.py"):
        (tmp_path / file).write_text("")
    with pytest.raises(ConfigError, match=said):
        load_plugin(name)


# -- on the command line -----------------------------------------------------------------------------------------------


def test_models_lists_it(folder, capsys):
    run(["models", "--plugin", str(folder / "spotter")])
    assert "Spotter: words weigh channels" in capsys.readouterr().out


def test_several(folder, pointer):
    words = ["--plugin", str(folder / "spotter"), f"--plugin={pointer}", "--config", "control"]
    assert with_plugins(words) == ["--config", "control", f'--plugin=["{folder}/spotter", "{pointer}"]']
    assert with_plugins(with_plugins(words)) == with_plugins(words)
    assert {"spotter", "pointer"} <= set(list_models())
    for wrong in (["--plugin"], ["--plugin", "--config", "control"], ["--plugin="], ["--plugin=[1]"]):
        with pytest.raises(ConfigError, match=r"--plugin (must be|has no value)"):
            with_plugins(wrong)


def test_a_configuration_names_it(folder, monkeypatch):
    """As the saved one of a run does."""
    monkeypatch.chdir(folder)
    Path("mine.yaml").write_text("plugin: spotter\nmodel: {init_args: {warmup_epochs: 2}}")
    config = resolve(["--config", "spotter/spotter.yaml", "--config", "mine.yaml"])
    assert config["model"]["class_path"] == "spotter.module.SpotterModule"
    assert "spotter" in list_models()


def test_with_safe_only_the_command_line_names_one(folder, monkeypatch):
    monkeypatch.chdir(folder)
    Path("mine.yaml").write_text("plugin: [spotter]")
    words = ["--config", "spotter/spotter.yaml", "--config", "mine.yaml", "--safe"]
    with pytest.raises(
        ConfigError, match=r"mine.yaml names a plug-in, which is code: with --safe it must be .*spotter"
    ):
        run(["fit", *words])
    assert "spotter" not in sys.modules
    with_plugins([*words, "--plugin", "spotter"], safe=True)
    assert "spotter" in list_models()


def test_the_commands_of_the_page(folder):
    """Those beside the entry point, as they stand there, where the example's folder lies. The run knows its plug-in."""
    (block,) = [text for text in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "--plugin" in text]
    made = warm.command(["data", "make", "--root", "datasets/synthetic", "--scenes", "12", "--size", "64"], folder)
    assert made.returncode == 0, made.stderr
    lines = [shlex.split(line, comments=True)[1:] for line in block.splitlines() if line]
    assert {words[0] for words in lines} == {"models", "fit", "test", "table"}
    small = ["--trainer.max_epochs", "1", "--trainer.check_val_every_n_epoch", "1"]
    for words in lines:
        done = warm.command([*words, *(small if words[0] == "fit" else [])], folder)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    saved = yaml.safe_load((folder / "runs" / "spotter" / "fit" / "version_0" / "config.yaml").read_text())
    assert saved["plugin"] == ["spotter"]
    done = warm.command(["fit", "--resume", "runs/spotter/fit/version_0", "--trainer.max_epochs", "2"], folder)
    assert done.returncode == 0, done.stderr
    assert "epoch 2/2" in done.stdout
    (code,) = [text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "plugin=" in text]
    here = os.getcwd()
    os.chdir(folder)
    try:
        space: dict = {}
        exec(compile(code, "add_a_method.md", "exec"), space)
    finally:
        os.chdir(here)
    assert space["model"].name == "spotter"


@pytest.mark.slow
def test_further_processes_know_it(folder):
    """Lightning starts them with the same command line."""
    words = ["--plugin", "spotter", "--config", "spotter/spotter.yaml", "--trainer.max_epochs", "1"]
    words += ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.root", "made", "--data.batch_size", "4"]
    made = warm.command(["data", "make", "--root", "made", "--scenes", "12", "--size", "64"], folder)
    assert made.returncode == 0, made.stderr
    done = subprocess.run(
        [sys.executable, "-m", "rrsis_zoo.cli", "fit", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "GLOBAL_RANK: 1" in done.stderr
