"""What a user imports, and what it costs."""

import importlib
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import rrsis_zoo
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.registry import card, method_named


def test_lazy():
    code = "import sys, rrsis_zoo; assert 'torch' not in sys.modules; print(rrsis_zoo.list_models())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "rsrefseg" in done.stdout


def test_unknown_attribute_and_model():
    with pytest.raises(AttributeError, match="nothing"):
        _ = rrsis_zoo.nothing
    with pytest.raises(ConfigError, match="did you mean 'rsrefseg'"):
        card("rsrefsge")


@pytest.mark.parametrize("name", rrsis_zoo.list_models())
def test_cards_are_complete(name):
    said = card(name)
    assert method_named(name).module().model_class.card is said
    assert all((said.title, said.paper, said.code_licence, said.weights_licence))


def test_what_a_console_completes():
    """The public names, though importing the package imports none of them; with `help` they are described."""
    code = "import sys, rrsis_zoo; print(*dir(rrsis_zoo)); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == sorted(rrsis_zoo.__all__)
    page = pydoc.render_doc(rrsis_zoo, renderer=pydoc.plaintext)
    for name in ("list_models", "load_model", "register", "segment"):
        assert f"    {name}(" in page, name


def test_packages_with_names_on_request_say_them():
    package = Path(rrsis_zoo.__file__).parent
    lazy = [path for path in package.rglob("__init__.py") if "def __getattr__" in path.read_text(encoding="utf-8")]
    assert package / "__init__.py" in lazy
    for path in lazy:
        module = importlib.import_module(".".join(path.parent.relative_to(package.parent).parts))
        assert set(module.__all__) <= set(dir(module))
        assert all(hasattr(module, name) for name in module.__all__)
