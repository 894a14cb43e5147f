"""What a version before methods became folders has left: its run goes on, its checkpoint is tested and loaded."""

import json
import shutil
import sys

import pytest
import yaml

from rrsis_zoo import cli
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.loading import load_model
from rrsis_zoo.methods.registry import current_class_path, list_models
from rrsis_zoo.weights.checkpoints import weights_hash

WEIGHTS = "a5197cb8df71dd48fa2fdd7989ec209ea2adeff3d43f40788e4b5793aab6217d"
"""Of the stored checkpoint, as that version computed it."""


@pytest.fixture
def run(golden, tmp_path, monkeypatch):
    """A folder with the run, its data made again."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "control" / "version_0"
    shutil.copytree(golden / "earlier", folder)
    assert cli.run(["data", "make", "--root", "made", "--scenes", "12", "--size", "64"]) == 0
    return folder


def command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["rrsis", *words])
    return cli.run(words)


def test_the_class_has_moved(golden):
    config = yaml.safe_load((golden / "earlier" / "config.yaml").read_text())
    assert config["model"]["class_path"] == "rrsis_zoo.training.control.ControlModule"
    assert current_class_path(config["model"]["class_path"]) == "rrsis_zoo.methods.control.module.ControlModule"


def test_its_checkpoint_is_a_model(run):
    assert weights_hash(load_model(run / "checkpoints" / "last.ckpt")) == WEIGHTS


def test_its_configuration_tests_its_checkpoint(run, monkeypatch, capsys):
    last = str(run / "checkpoints" / "last.ckpt")
    assert command(monkeypatch, "test", "--config", str(run / "config.yaml"), "--ckpt_path", last) == 0
    assert "test/miou" in capsys.readouterr().out
    assert (run.parent / "version_1" / "test.json").is_file()


def test_its_checkpoint_says_nothing_of_its_data(run, monkeypatch, capsys):
    """What to give stands in one line, and is enough."""
    last = str(run / "checkpoints" / "last.ckpt")
    with pytest.raises(ConfigError, match=r"does not say what data .*`rrsis test .*`, or `--config .*config.yaml`"):
        command(monkeypatch, "test", last)
    data = ["--data.dataset", "synthetic", "--data.root", "made", "--name", "given"]
    assert command(monkeypatch, "test", last, *data) == 0
    given = run.parent / "test" / "given" / "test.json"
    assert json.loads(given.read_text())["weights_sha256"] == WEIGHTS
    assert command(monkeypatch, "test", last, "--config", str(run / "config.yaml")) == 0
    assert json.loads((run.parent / "version_1" / "test.json").read_text())["weights_sha256"] == WEIGHTS
    capsys.readouterr()
    assert cli.run(["runs"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[1:]].count("test") == 2
    assert cli.run(["table", str(given.parent), str(run.parent / "version_1")]) == 0
    assert "given (control tiny)" in capsys.readouterr().out


def test_its_run_goes_on(run, monkeypatch):
    assert command(monkeypatch, "fit", "--resume", str(run), "--trainer.max_epochs", "2") == 0
    assert (run / "metrics.csv").read_text().count("\n") > 2
    assert weights_hash(load_model(run / "checkpoints" / "last.ckpt")) != WEIGHTS


def test_cards_are_where_earlier_programs_look():
    from rrsis_zoo.registry import MODELS

    assert list(MODELS) == list_models()
    assert MODELS["rsrefseg"].presets["mini"].weights["sam"] == "mini:sam"
    with pytest.raises(TypeError):
        MODELS["mine"] = MODELS["rsrefseg"]
