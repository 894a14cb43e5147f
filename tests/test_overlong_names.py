"""A name that no file can have is one that is not there: a file or an option may hold any text."""

import json
import sys

import pytest
from safetensors.torch import save_file

from rrsis_zoo import cli
from rrsis_zoo.errors import RRSISError
from rrsis_zoo.loading import load_model
from rrsis_zoo.weights.files import read_state_dict

LONG = "x" * 5000
NUL = "a\0b"


@pytest.fixture
def rrsis(tmp_path, monkeypatch, capfd):
    """Run a command as a program would; return its status and what it wrote to standard error."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["rrsis", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capfd.readouterr().err

    monkeypatch.chdir(tmp_path)
    return run


COMMANDS = {
    "data": ["data", "list", "--dataset", "rrsis-d", "--root", "NAME"],
    "verify": ["data", "verify", "--dataset", "refsegrs", "--root", "NAME"],
    "stats": ["data", "stats", "--dataset", "risbench", "--root", "NAME"],
    "make": ["data", "make", "--root", "NAME", "--scenes", "4", "--size", "64"],
    "tokenizer": ["data", "verify", "--dataset", "rrsis-d", "--tokenizer", "rsrefseg=NAME"],
    "score": ["score", "--pred", "NAME", "--target", "NAME"],
    "table": ["table", "NAME"],
    "tables": ["table", "NAME", "NAME"],
    "convert": ["convert", "local:NAME", "out", "--model", "rsrefseg"],
    "fetch": ["models", "fetch", "NAME"],
    "fetch a config": ["models", "fetch", "NAME.yaml"],
    "resume": ["fit", "--resume", "NAME"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_an_option_with_such_a_name(rrsis, words):
    status, said = rrsis(*(word.replace("NAME", LONG) for word in words))
    assert status == 2, said
    assert "Traceback" not in said


@pytest.mark.parametrize("option", ["--ckpt_path", "--config", "--data.root"])
def test_an_option_of_lightnings_commands(rrsis, root, option):
    configs = [root / "configs" / "control.yaml", root / "configs" / "overlays" / "control_tiny.yaml"]
    words = [word for config in configs for word in ("--config", str(config))]
    status, said = rrsis("test", *words, option, LONG)
    assert status == 2, said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", [LONG, NUL], ids=["long", "NUL"])
def test_a_model_of_such_a_name(name):
    for read in (load_model, lambda name: load_model(f"local:{name}"), read_state_dict):
        with pytest.raises((RRSISError, ValueError)):
            read(name)


def test_an_index_that_names_such_a_shard(tmp_path):
    import torch

    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "a.safetensors", "b": LONG}}))
    with pytest.raises(RRSISError, match="must be in the folder of"):
        read_state_dict(index)
