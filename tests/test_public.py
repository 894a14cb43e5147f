"""What a user imports, and what it costs."""

import subprocess
import sys

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
