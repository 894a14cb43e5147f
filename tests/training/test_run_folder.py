"""Run folders: their names and places, and that a start which comes to nothing leaves none."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from rrsis_zoo import cli
from rrsis_zoo.errors import ConfigError, OutputError
from rrsis_zoo.training.module import RRSISModule
from rrsis_zoo.training.run_folder import RunFolder, best_in, check_name

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = ["--data.batch_size", "4", "--data.num_workers", "0", "--trainer.max_epochs", "1"]
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu", "--trainer.devices", "1"]


def words(tree, *further):
    files = [CONFIGS / "control.yaml", CONFIGS / "overlays" / "control_tiny.yaml"]
    often = ["--trainer.check_val_every_n_epoch", "1", "--trainer.limit_train_batches", "2"]
    configs = [word for file in files for word in ("--config", str(file))]
    return [*configs, "--data.root", str(tree), *SMALL, *often, *QUIET, *further]


@pytest.fixture
def rrsis(monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, value in {"WANDB_API_KEY": "", "WANDB_MODE": "", "NETRC": str(tmp_path.parent / "none")}.items():
        monkeypatch.setenv(name, value)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rrsis", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capfd.readouterr().err

    return run


def there(folder=Path()):
    return sorted(str(path) for path in folder.rglob("*"))


# -- names -------------------------------------------------------------------------------------------------------------


def test_commands_have_places_of_their_own(rrsis, tree):
    """fit, validate, test and predict apart; numbered, or by name; no name twice."""
    for name in ((), ("--name", "mine"), ()):
        assert rrsis("fit", *words(tree), *name)[0] == 0
    assert {p.name for p in Path("runs/control/fit").iterdir()} == {"version_0", "mine", "version_1"}
    for command in ("validate", "test", "predict"):
        assert rrsis(command, "runs/control/fit/mine", "--name", "mine", *QUIET)[0] == 0
        assert rrsis(command, "runs/control/fit/mine", *QUIET)[0] == 0
        assert {p.name for p in Path("runs/control", command).iterdir()} == {"mine", "version_0"}
        assert (Path("runs/control", command, "mine") / "config.yaml").is_file()
        before = there()
        status, err = rrsis(command, "runs/control/fit/mine", "--name", "mine", *QUIET)
        said = f"--name mine: runs/control/{command}/mine exists already; give another name, or remove it"
        assert (status, f"rrsis: {said}\n" in err, there()) == (2, True, before), err
    status, err = rrsis("fit", *words(tree), "--name", "mine")
    assert status == 2
    assert "give another name, continue it with `rrsis fit --resume runs/control/fit/mine`, or remove it" in err
    assert json.loads(Path("runs/control/test/mine/test.json").read_text())["model"] == "control"
    # and the advice holds
    assert rrsis("fit", "--resume", "runs/control/fit/mine", "--trainer.max_epochs", "2")[0] == 0
    status, err = rrsis("fit", "--resume", "runs/control/fit/mine", "--name", "other", "--trainer.max_epochs", "3")
    assert status == 2
    assert "mine keeps its name; leave --name out" in err


def test_a_logger_of_the_users_own(rrsis, tree):
    """Its folder and name count; without a name the runs are ordered as usual inside its folder."""
    csv = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir"]
    assert rrsis("fit", *words(tree, *csv, "here", "--trainer.logger.name", "x"))[0] == 0
    assert rrsis("fit", *words(tree, *csv, "here", "--trainer.logger.name", "x", "--name", "n"))[0] == 0
    assert rrsis("fit", *words(tree, *csv, "there"))[0] == 0
    assert (
        rrsis("fit", *words(tree, *csv, "given", "--trainer.logger.name", "y", "--trainer.logger.version", "7"))[0] == 0
    )
    kept = {str(path.parent) for path in Path().rglob("config.yaml")}
    assert kept == {"here/x/version_0", "here/x/n", "there/control/fit/version_0", "given/y/version_7"}


def test_a_requeued_job_finds_its_own_name(rrsis, tree, monkeypatch):
    """It goes on there, and is not told that its name is taken."""
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert rrsis("fit", *words(tree), "--name", "mine")[0] == 0
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert rrsis("fit", *words(tree), "--name", "mine")[0] == 0  # it is complete
    assert [path.name for path in Path("runs/control/fit").iterdir()] == ["mine"]
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    status, err = rrsis("fit", *words(tree), "--name", "mine")
    assert (status, "exists already" in err) == (2, True), err


@pytest.mark.parametrize(
    ("name", "text"), [("", "letters"), ("a/b", "letters"), ("..", "letters"), ("-x", "letters"), ("version_3", "so")]
)
def test_names_that_are_none(name, text):
    with pytest.raises(ConfigError, match=text):
        check_name(name)
    check_name("lr-1e-4.second_try")


# -- nothing comes of it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("further", "text"),
    [
        (["--data.root", "nowhere"], "nowhere"),
        (["--model.init_args.preset", "tyni"], "tyni"),
        (["--model.init_args.learning_rates", "{text: 1.0}"], "missing: backbone"),
        (["--data.batch_size", "5000"], "--data.batch_size 14 or less"),
        ([], ""),
        (["--config", str(CONFIGS / "overlays" / "wandb.yaml"), "--data.batch_size", "5000"], "data.batch_size"),
        (["--trainer.logger", "false", "--data.batch_size", "5000"], "data.batch_size"),
    ],
)
def test_a_start_that_fails_leaves_nothing(rrsis, tree, further, text, monkeypatch):
    def fails(self, *arguments):
        raise ConfigError("not today")

    if not text:  # in the first step
        monkeypatch.setattr(RRSISModule, "training_step", fails)
        text, further = "not today", []
    status, err = rrsis("fit", *words(tree, *further))
    assert status == 2, err
    assert text in err
    assert there() == []
    status, err = rrsis("fit", *words(tree, *further), "--name", "again")
    assert (status, there()) == (2, []), err


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_fast_run_leaves_nothing(rrsis, tree, command):
    assert (
        rrsis(command, *words(tree, *(() if command == "fit" else ("--untrained",))), "--trainer.fast_dev_run", "1")[0]
        == 0
    )
    assert there() == []


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_an_evaluation_that_fails_leaves_nothing(rrsis, tree, command, monkeypatch):
    calls = []

    def fails(self, *arguments):
        calls.append(arguments)
        raise ConfigError("not today")

    monkeypatch.setattr(RRSISModule, "predict_step", fails)
    assert rrsis(command, *words(tree, "--untrained"))[0] == 2
    assert calls
    assert there() == []


def test_a_training_that_fails_later_is_kept(rrsis, tree, monkeypatch):
    step = RRSISModule.training_step
    monkeypatch.setattr(
        RRSISModule,
        "training_step",
        lambda self, batch, i: step(self, batch, i) if i == 0 else 1 / 0,  # a bug
    )
    monkeypatch.setattr(sys, "argv", ["rrsis"])
    with pytest.raises(ZeroDivisionError):
        cli.run(["fit", *words(tree)])
    folder = Path("runs/control/fit/version_0")
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["init_args"]["preset"] == "tiny"


def test_only_what_was_created_is_removed(tmp_path):
    runs = tmp_path / "runs"
    (runs / "other").mkdir(parents=True)
    (runs / "other" / "config.yaml").write_text("kept")

    def fails(work):
        with RunFolder() as folder:
            work(folder)
            raise ConfigError("not today")

    def nothing(folder):
        assert folder.numbered(runs / "m" / "fit") == "version_0"
        (runs / "m" / "fit" / "version_0" / "checkpoints").mkdir()
        (runs / "m" / "test").mkdir()  # another command's, meanwhile
        folder.given(runs / "other")
        (runs / "other" / "hparams.yaml").write_text("")

    with pytest.raises(ConfigError, match="not today"):
        fails(nothing)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"runs", "runs/m", "runs/m/test", "runs/other", "runs/other/config.yaml"}
    result = runs / "m" / "test" / "version_0" / "test.json"

    def something(folder):
        folder.numbered(runs / "m" / "test")
        result.write_text("{}")

    with pytest.raises(ConfigError, match="not today"):
        fails(something)
    assert result.is_file()  # results are kept whatever happens after them


def test_two_runs_at_once_have_two_folders(tmp_path, monkeypatch):
    """The listing is older than the other run's folder."""
    first, second = RunFolder(), RunFolder()
    assert first.numbered(tmp_path) == "version_0"
    monkeypatch.setattr("rrsis_zoo.training.run_folder.os.scandir", lambda path: [SimpleNamespace(name="x")])
    assert second.numbered(tmp_path) == "version_1"
    monkeypatch.undo()
    first.named(tmp_path / "a", "fit")
    with pytest.raises(ConfigError, match="exists already"):
        second.named(tmp_path / "a", "fit")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        second.numbered(tmp_path / "file" / "x")


def test_the_best_of_a_folder(tmp_path):
    run = tmp_path / "m" / "fit" / "a"
    (run / "checkpoints").mkdir(parents=True)
    with pytest.raises(ConfigError, match="`rrsis runs` lists the runs"):
        best_in(run)
    (run / "checkpoints" / "last.ckpt").write_text("")
    with pytest.raises(ConfigError, match=r"no validation ran in that training, and its last epoch is .*last\.ckpt"):
        best_in(run)
    (run / "checkpoints" / "best.ckpt").write_text("")
    assert best_in(run) == best_in(run / "checkpoints") == run / "checkpoints" / "best.ckpt"
    with pytest.raises(ConfigError, match=r"one of the runs in it: .*m/fit/a"):
        best_in(tmp_path)
    os.makedirs(tmp_path / "t")
    (tmp_path / "t" / "config.yaml").write_text("")
    with pytest.raises(ConfigError, match="not the folder of a training"):
        best_in(tmp_path / "t")


def test_a_training_without_a_validation(rrsis, tree):
    """Said before it starts; its last epoch is what there is to test."""
    seldom = ["--trainer.check_val_every_n_epoch", "2", "--name", "short"]
    status, said = rrsis("fit", *words(tree), *seldom)
    assert status == 0, said
    assert "max_epochs 1 is before the first validation (check_val_every_n_epoch is 2)" in said
    status, said = rrsis("test", "runs/control/fit/short", *QUIET)
    assert status == 2
    last = "runs/control/fit/short/checkpoints/last.ckpt"
    assert f"no validation ran in that training, and its last epoch is {last}" in said
    assert rrsis("test", last, *QUIET)[0] == 0
