"""What is refused before torch is imported, with the nearest name or the command to give instead."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningCLI

from rrsis_zoo.cli import run
from rrsis_zoo.commands.early_checks import check_early
from rrsis_zoo.commands.fit import RRSISCLI
from rrsis_zoo.commands.given_settings import FLAGS
from rrsis_zoo.commands.setting_names import TOP, names_in
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.registry import methods
from rrsis_zoo.training.module import RRSISModule
from rrsis_zoo.training.resume import ResumePoint
from rrsis_zoo.training.shipped_configs import shipped_names
from rrsis_zoo.training.trainer import RRSISTrainer

ROOT = Path(__file__).parents[2]


# -- names -------------------------------------------------------------------------------------------------------------


def arguments(kind):
    return {name for name in inspect.signature(kind).parameters if name != "options"}


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("data", arguments(RRSISDataModule)),
        ("model.init_args", arguments(RRSISModule)),
        ("resume_point", arguments(ResumePoint)),
        ("trainer", arguments(Trainer) | arguments(RRSISTrainer)),
    ],
)
def test_the_names_are_those_of_the_classes(section, names):
    assert len(names) > 1
    assert names_in(section) == names


def test_all_methods_take_the_same_arguments():
    for known in methods().values():
        assert arguments(known.module()) == arguments(RRSISModule)


def test_the_names_of_all_options(monkeypatch):
    """Of the real parsers."""

    class Stopped(Exception):
        pass

    found = []

    def stop(self, parser, args):
        found.extend(parser._subcommands_action._name_parser_map.values())
        raise Stopped

    monkeypatch.setattr(RRSISCLI, "parse_arguments", stop)
    for command in LightningCLI.subcommands():
        with pytest.raises(Stopped):
            RRSISCLI([command])
    assert len(found) == 4
    actions = [action for parser in found for action in parser._actions]
    options = {option for action in actions for option in action.option_strings}
    names = {option.lstrip("-").removesuffix("+").split(".")[0] for option in options if option.startswith("--")}
    assert {"trainer", "plugin", "verbose", "return_predictions"} <= names
    assert names <= TOP
    flags = {option for action in actions if action.nargs == 0 for option in action.option_strings}
    assert {"--untrained", "--safe"} <= flags <= FLAGS


@pytest.mark.parametrize("name", [name for name in shipped_names() if not name.startswith("overlays/")])
def test_shipped_configurations_are_accepted(name):
    overlays = [other for other in shipped_names() if other.startswith("overlays/")]
    check_early("fit", ["--config", name, *(word for other in overlays for word in ("--config", other))])


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "golden" / "earlier").rglob("config.yaml")))
def test_saved_configurations_are_accepted(path):
    check_early("test", ["--config", str(path)])


@pytest.mark.parametrize(
    "words",
    [
        ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.patience", "3"],
        ["--trainer.logger.init_args.save_dir", "runs"],
        ["--trainer", "{max_epochs: 3}"],
        ["--model.preset", "tiny"],
        ["--model.init_args.settings.loss", "{dice: 1.0}"],
        ["--trainer.max_epochs", "-1"],
        ["--print_config=skip_null"],
        ["--trainer.max_epoch", "3", "--help"],
        ["--untrained", "--safe", "--data.root", "x"],
    ],
)
def test_what_is_fine_is_left_to_the_parser(words):
    check_early("fit", ["--config", "rsrefseg", *words])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trainer.max_epoch", "3"], "unknown option --trainer.max_epoch: did you mean --trainer.max_epochs?"),
        (["--trainer.max_epoch=3"], "unknown option --trainer.max_epoch: did you mean --trainer.max_epochs?"),
        (["--data.batchsize", "3"], "unknown option --data.batchsize: did you mean --data.batch_size?"),
        (["--dat.root", "x"], "unknown option --dat: did you mean --data?"),
        (["--ckpt-path", "x"], "unknown option --ckpt-path: did you mean --ckpt_path?"),
        (["--model.presett", "b"], "unknown option --model.presett: did you mean --model.preset?"),
        (
            ["--model.init_args.warmup_epoch", "b"],
            "unknown option --model.init_args.warmup_epoch: did you mean --model.init_args.warmup_epochs?",
        ),
        (["--xyzzy", "3"], "unknown option --xyzzy: rrsis fit --help lists the options"),
        (["--trainer", "{max_epoch: 3}"], "unknown option --trainer.max_epoch: did you mean --trainer.max_epochs?"),
        (["--model.init_args.preset", "tyni"], "unknown preset of rsrefseg 'tyni'; known: b, l, mini, tiny, tiny256"),
    ],
)
def test_a_misspelt_option_gets_the_nearest_name(words, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        run(["fit", "--config", "rsrefseg", *words])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trainer: {max_epoch: 3}", "unknown setting trainer.max_epoch: did you mean trainer.max_epochs?"),
        ("data:\n  batchsize: 3", "unknown setting data.batchsize: did you mean data.batch_size?"),
        ("trianer: {}", "unknown setting trianer: did you mean trainer?"),
        ("model: {init_args: {presets: b}}", "unknown setting model.init_args.presets: did you mean model.init_args.p"),
        ("model: {initargs: {preset: b}}", "unknown setting model.initargs: did you mean model.init_args?"),
        ("data: inner.yaml", "unknown setting data.xyzzy: rrsis fit --help lists the settings"),
    ],
)
def test_a_misspelt_key_of_a_file_gets_the_nearest_name(tmp_path, text, said):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    (tmp_path / "inner.yaml").write_text("xyzzy: 1")
    with pytest.raises(ConfigError, match=re.escape(f"{path}: {said}")):
        run(["fit", "--config", "rsrefseg", "--config", str(path)])


def test_settings_of_other_classes_are_their_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: {class_path: somebody.Module, init_args: {anything: 1}}")
    check_early("fit", ["--config", str(path)])


# -- a method ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--data.root", "x"]])
def test_nothing_given(words):
    said = (
        "rrsis fit needs a configuration, for instance: rrsis fit --config rsrefseg --data.root ROOT; known: control, "
    )
    with pytest.raises(ConfigError, match=f"{said}.*rsrefseg_b, .*or a file"):
        check_early("fit", words)
    with pytest.raises(ConfigError, match=r"rrsis test needs a model: `rrsis test CHECKPOINT`"):
        check_early("test", words)
    check_early("test", [*words, "--ckpt_path", "best.ckpt"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config", "overlays/rsrefseg2_tiny"], "--config rsrefseg2 --config overlays/rsrefseg2_tiny"),
        (
            ["--config=configs/overlays/rsrefseg_tiny.yaml", "--data.root", "my data"],
            "--config configs/rsrefseg.yaml --config configs/overlays/rsrefseg_tiny.yaml --data.root 'my data'",
        ),
        (["--config", "overlays/cpu"], "--config METHOD --config overlays/cpu"),
        (
            ["--config", "overlays/rsrefseg_tiny", "--config", "rsrefseg"],
            "--config rsrefseg --config overlays/rsrefseg_tiny",
        ),
        (
            ["--model.init_args.preset", "b", "--config", "overlays/cpu"],
            "--config METHOD --config overlays/cpu --model",
        ),
    ],
)
def test_an_overlay_without_its_method(monkeypatch, words, said):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=f"give the method's configuration first: rrsis fit {re.escape(said)}"):
        run(["fit", *words])


def test_a_forgotten_option():
    with pytest.raises(ConfigError, match=r"given with --config: rrsis fit --config rsrefseg --data\.root x"):
        run(["fit", "rsrefseg", "--data.root", "x"])
    check_early("test", ["runs/x/checkpoints/best.ckpt"])  # no configuration: left to others


def test_none_of_this_imports_torch():
    """Measured 0.4 s to the message, and 10 to 20 s before; the clock is left out, for busy machines."""
    code = (
        "import sys\nfrom rrsis_zoo import cli, errors\n"
        "for words in (['fit'], ['fit', '--config', 'overlays/cpu'], ['fit', '--config', 'rsrefseg', '--trainr', '1'],"
        " ['test', '--config', 'rsrefseg', '--model.preset', 'x'], ['models', '--jsn'], ['plot']):\n"
        "    try:\n        cli.run(words)\n    except errors.ConfigError:\n        continue\n    sys.exit(f'{words}')\n"
        "print([m for m in ('torch', 'lightning', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
