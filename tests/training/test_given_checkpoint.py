"""What a checkpoint, the configs and the command line say to each other, through the command itself."""

import csv
import json
import pickle
import sys
from pathlib import Path

import pytest
import torch

from rrsis_zoo import cli
from rrsis_zoo.training.given_checkpoint import local_path

CONFIGS = Path(__file__).parents[2] / "configs"
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu", "--trainer.devices", "1"]


def words(method="control", *further):
    configs = [CONFIGS / f"{method}.yaml", CONFIGS / "overlays" / f"{method}_tiny.yaml"]
    small = ["--data.batch_size", "4", "--data.num_workers", "0", "--trainer.max_epochs", "1"]
    often = ["--trainer.check_val_every_n_epoch", "1", "--trainer.log_every_n_steps", "1"]
    return [*(word for config in configs for word in ("--config", config)), *small, *often, *QUIET, *further]


@pytest.fixture
def rrsis(tree, monkeypatch, capfd, tmp_path):
    """Run a command in this process, in a folder of its own; return status and what it wrote to standard error."""

    def run(command, *arguments, data=tree):
        given = [command, *map(str, arguments), "--data.root", str(data)]
        monkeypatch.setattr(sys, "argv", ["rrsis", *given])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capfd.readouterr().err

    monkeypatch.chdir(tmp_path)
    return run


@pytest.fixture(scope="module")
def checkpoint(tree, tmp_path_factory):
    """A control that was trained for an epoch."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["rrsis", "fit", *map(str, words()), "--data.root", str(tree)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 0
    return next(folder.rglob("best.ckpt"))


def one_line(done, *texts):
    status, err = done
    lines = [line for line in err.splitlines() if line.startswith("rrsis: ")]
    assert (status, len(lines)) == (2, 1), err
    assert "Traceback" not in err
    for text in texts:
        assert text in lines[0]
    assert not Path("runs").exists()


def record():
    return json.loads(next(Path("runs").rglob("test.json")).read_text())


# -- what counts -------------------------------------------------------------------------------------------------------


def test_a_protocol_that_is_asked_for_is_used_and_said(rrsis, checkpoint):
    status, err = rrsis("test", *words(), "--ckpt_path", checkpoint, "--model.init_args.protocol", "rs2sam2")
    assert status == 0, err
    assert "protocol 'rs2sam2' is used, the checkpoint was made with 'canonical'" in err
    said = record()
    assert (said["protocol"], said["eval_size"]) == ("rs2sam2", 1024)
    assert (said["untrained"], said["partial"], said["preset"]) == (False, None, "tiny")


@pytest.mark.parametrize(
    ("method", "further", "texts"),
    [
        ("control", ["--model.init_args.protocol", "rs2sam"], ["unknown protocol 'rs2sam'", "rs2sam2"]),
        ("rsrefseg", [], ["is a checkpoint of control", "asks for rsrefseg"]),
        ("control", ["--model.init_args.preset", "tiny256"], ["preset 'tiny'", "asks for 'tiny256'"]),
        ("control", ["--model.init_args.settings", "{image_size: 96}"], ["image_size: 128 there, 96 asked"]),
    ],
)
def test_what_contradicts_the_weights_is_refused(rrsis, checkpoint, method, further, texts):
    one_line(rrsis("test", *words(method), "--ckpt_path", checkpoint, *further), *texts)


def test_rates_and_decay_that_are_asked_for_are_used_on_a_resume(rrsis, checkpoint):
    asked = [
        "--model.init_args.rate_factor",
        "0.001",
        "--model.init_args.weight_decay",
        "0.25",
        "--trainer.max_epochs",
        "2",
    ]
    flat = ["--model.init_args.warmup_epochs", "0", "--model.init_args.cosine_epochs", "null"]
    status, err = rrsis("fit", *words(), "--ckpt_path", checkpoint, *asked, *flat)
    assert status == 0, err
    assert "rate_factor 0.001 is used, the checkpoint was made with 1.0" in err
    last = torch.load(sorted(Path("runs").rglob("*.ckpt"))[-1], weights_only=True)
    rates = last["hyper_parameters"]["learning_rates"]
    for group in last["optimizer_states"][0]["param_groups"]:
        assert group["initial_lr"] == group["lr"] == pytest.approx(0.001 * rates[group["name"]])
        assert group["weight_decay"] == 0.25
    rows = list(csv.DictReader(next(Path("runs").rglob("metrics.csv")).open()))
    used = {float(row[name]) for row in rows for name in row if name.startswith("lr-") and row[name]}
    assert used
    assert max(used) <= 0.001 * max(rates.values()) * (1 + 1e-9)


def test_the_grouping_of_the_optimiser_cannot_change_on_a_resume(rrsis, checkpoint):
    asked = ["--model.init_args.decay", "matrices", "--trainer.max_epochs", "2"]
    one_line(rrsis("fit", *words(), "--ckpt_path", checkpoint, *asked), "decay 'all'", "'matrices'")


def test_weights_alone_are_nothing_to_resume_from(rrsis, checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    torch.save({k: v for k, v in content.items() if k not in ("optimizer_states", "lr_schedulers", "loops")}, "w.ckpt")
    one_line(rrsis("fit", *words(), "--ckpt_path", "w.ckpt"), "holds weights alone", "local:w.ckpt")
    assert rrsis("test", *words(), "--ckpt_path", "w.ckpt")[0] == 0


# -- what cannot be read -----------------------------------------------------------------------------------------------


class Attack:
    """Leaves a file where it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("attacked"),)


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("further", [[], ["--weights_only", "false"]])
def test_a_checkpoint_that_holds_code_runs_none(rrsis, checkpoint, command, further):
    Path("pickle.ckpt").write_bytes(pickle.dumps(Attack()))
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "more": Attack()}, "zip.ckpt")
    torch.save({**content, "more": Attack()}, "legacy.ckpt", _use_new_zipfile_serialization=False)
    for name in ("pickle.ckpt", "zip.ckpt", "legacy.ckpt"):
        one_line(rrsis(command, *words(), "--ckpt_path", name, *further))
    assert not Path("attacked").exists()


def test_a_class_that_a_checkpoint_names_is_not_imported(rrsis, checkpoint, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("from pathlib import Path\nPath('attacked').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"] |= {"_class_path": "trap.Model", "_instantiator": "trap.make"}
    torch.save(content, "trap.ckpt")
    status, err = rrsis("test", *words(), "--ckpt_path", "trap.ckpt")
    assert status == 0, err
    assert not Path("attacked").exists()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("nope.ckpt", "there is no file nope.ckpt"),
        ("cut.ckpt", "cut.ckpt"),
        ("empty.ckpt", "empty.ckpt"),
        ("theirs.pth", "theirs.pth"),
        (".", "is a folder"),
        ("best", "give the path of a file"),
        ("last", "give the path of a file"),
        ("hpc", "give the path of a file"),
        ("registry:name", "could run code"),
        ("https://example.org/x.ckpt", "could run code"),
        ("s3://bucket/x.ckpt", "could run code"),
        ("file:///x.ckpt", "could run code"),
    ],
)
def test_a_path_that_cannot_be_read_is_one_line(rrsis, checkpoint, given, text):
    Path("cut.ckpt").write_bytes(checkpoint.read_bytes()[:20_000])
    Path("empty.ckpt").write_bytes(b"")
    torch.save({"model": {"x": torch.zeros(1)}}, "theirs.pth")
    one_line(rrsis("test", *words(), "--ckpt_path", given), text)


def test_a_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/x.ckpt") == tmp_path / "x.ckpt"


# -- no checkpoint -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_an_untrained_model_is_refused(rrsis, command):
    one_line(rrsis(command, *words()), "needs a trained model", "--ckpt_path", "--untrained")
    miniature = words("rsrefseg", "--config", CONFIGS / "overlays" / "rsrefseg_mini.yaml")
    one_line(rrsis(command, *miniature), "needs a trained model")  # its foundation models alone were trained


def test_an_untrained_model_that_is_meant_says_so_in_its_record(rrsis):
    status, err = rrsis("test", *words(), "--untrained")
    assert status == 0, err
    assert record()["untrained"] is True


def test_weights_of_a_whole_model_are_trained(rrsis, checkpoint):
    status, err = rrsis("test", *words(), "--model.init_args.weights", f"local:{checkpoint}")
    assert status == 0, err
    assert record()["untrained"] is False


def test_untrained_is_not_for_training(rrsis, checkpoint):
    one_line(rrsis("fit", *words(), "--untrained"), "leave it out")
    one_line(rrsis("test", *words(), "--untrained", "--ckpt_path", checkpoint), "leave it out")


# -- what Lightning refuses, and how it reads --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--trainer.accelerator", "gpu"),
        ("--trainer.accelerator", "abacus"),
        ("--trainer.strategy", "no_such"),
        ("--trainer.devices", "0"),
        ("--trainer.profiler", "no_such"),
        ("--trainer.limit_train_batches", "-1"),
        ("--trainer.gradient_clip_algorithm", "no_such"),
    ],
)
def test_what_lightning_refuses_is_one_line(rrsis, option, value):
    one_line(rrsis("fit", *words(), option, value))


def test_what_lightning_refuses_later_is_one_line(rrsis):
    status, err = rrsis("fit", *words(), "--trainer.val_check_interval", "1000")
    assert status == 2
    assert "val_check_interval" in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.parametrize(("given", "batches"), [("1", 1), ("1.0", 5), ("2", 2)])
def test_a_whole_number_of_batches_is_that_many(rrsis, checkpoint, given, batches):
    limits = ["--trainer.limit_test_batches", given, "--data.eval_batch_size", "2"]
    status, err = rrsis("test", *words(), "--ckpt_path", checkpoint, *limits)
    assert status == 0, err
    said = record()
    assert said["partial"] == (None if given == "1.0" else {"n": said["n"], "of": 10})
    assert said["n"] == 10 if given == "1.0" else said["n"] <= 2 * batches


def test_a_test_of_a_part_counts_the_part(rrsis, checkpoint, tree):
    Path("part.yaml").write_text("trainer: {limit_test_batches: 1}\n")
    status, err = rrsis(
        "test", *words(), "--config", "part.yaml", "--ckpt_path", checkpoint, "--data.eval_batch_size", "2"
    )
    assert status == 0, err
    part = record()
    assert part["partial"] == {"n": part["n"], "of": 10}
    assert part["n_empty"] <= part["n"] < 10


def test_safe_imports_nothing_of_others(rrsis, tmp_path, monkeypatch):
    from jsonargparse import set_parsing_settings

    (tmp_path / "trap.py").write_text("from pathlib import Path\nPath('attacked').touch()\nclass Logger: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    Path("trap.yaml").write_text("trainer: {logger: {class_path: trap.Logger}}\n")
    try:
        status, err = rrsis("test", *words(), "--config", "trap.yaml", "--untrained", "--safe")
        assert (status, "trap.Logger" in err) == (2, True), err
        assert not Path("attacked").exists()
        status, err = rrsis("test", *words(), "--untrained", "--safe")
        assert status == 0, err
    finally:
        set_parsing_settings(import_path_denylist=[], import_path_allowlist=[])
