"""Configurations of others, through the command that reads them."""

import sys

import pytest
from jsonargparse import get_loader

from rrsis_zoo.cli import run
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.training.config_files import guard_configs

BOMB = ["&a0 [x, x]", *(f"&a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))]
LIST = f"[{', '.join(BOMB)}]"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("bomb", f"trainer:\n  callbacks: {LIST}\n", "stands for more than 50,000 values"),
        ("text", f"model:\n  init_args:\n    learning_rates: '{LIST}'\n", "stands for more than 50,000 values"),
        ("deep", "data: " + "[" * 3000, "nested more than 50 levels"),
        ("bytes", b"\xff\xfe\x00data: 1", "not UTF-8"),
        ("number", "seed_everything: " + "1" * 4090 + "_" + "1" * 400, "unquoted|cannot be read"),
        ("large", "# " + "x" * 300_000, "more than 256 KiB"),
    ],
)
@pytest.mark.parametrize("how", ["config", "inner"])
def test_a_configuration_that_stands_for_too_much(tmp_path, monkeypatch, name, text, words, how):
    monkeypatch.setattr(sys, "argv", ["rrsis"])
    path, outer = tmp_path / f"{name}.yaml", tmp_path / "outer.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    outer.write_text(f"data: {path.name}\n")
    with pytest.raises(ConfigError, match=f"{path}.*(?:{words})"):
        run(["fit", "--config", str(path if how == "config" else outer)])


@pytest.mark.parametrize(("value", "words"), [(LIST, "50,000 values"), ("[" * 3000, "50 levels")])
def test_an_argument_that_stands_for_too_much(value, words):
    with pytest.raises(ConfigError, match=f"the value of --trainer.callbacks .*{words}"):
        run(["fit", f"--trainer.callbacks={value}"])


def test_a_value_that_is_yaml_again():
    """Where no file says so: what a default or a variable of the environment holds."""
    guard_configs()
    load = get_loader("yaml")
    with pytest.raises(ConfigError, match="a value in a configuration stands for more than 50,000 values"):
        load(f"rates: '{LIST}'")


def test_what_is_harmless_is_loaded_as_ever():
    guard_configs()
    load = get_loader("yaml")
    assert load("a: &a [1, 1e-3, x]\nb: *a") == {"a": [1, 0.001, "x"], "b": [1, 0.001, "x"]}
    assert load("a:") == "a:"
    assert load("{a,b}") == "{a,b}"
