"""What a checkpoint, the configs and the command line say to each other, through the command itself."""

import csv
import json
import math
import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from jsonargparse._common import parsing_settings
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from rrsis_zoo import cli
from rrsis_zoo.commands.fit import refused
from rrsis_zoo.data.annotations import annotations_hash
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.masks import encode_runs
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.control.module import ControlModule
from rrsis_zoo.training.checkpoint_io import local_path
from rrsis_zoo.training.trainer import RRSISTrainer

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
    assert "usage:" not in err
    for text in texts:
        assert text in lines[0]
    assert not Path("runs").exists()


def record():
    return json.loads(next(Path("runs").rglob("test.json")).read_text())


# -- what counts -------------------------------------------------------------------------------------------------------


def test_a_protocol_that_is_asked_for_is_used_and_said(rrsis, checkpoint):
    status, err = rrsis("test", *words(), "--ckpt_path", checkpoint, "--model.init_args.protocol", "rs2sam2")
    assert status == 0, err
    assert "protocol 'rs2sam2' is used, the checkpoint was trained with 'canonical'" in err
    said = record()
    assert (said["protocol"], said["eval_size"]) == ("rs2sam2", 1024)
    assert (said["untrained"], said["partial"], said["preset"]) == (False, None, "tiny")
    assert (said["dataset"], said["layout"], said["published_split"]) == ("tree", "rrsis-d", False)


@pytest.mark.parametrize(
    ("method", "further", "texts"),
    [
        ("control", ["--model.init_args.protocol", "rs2sam"], ["unknown protocol 'rs2sam'", "rs2sam2"]),
        ("rsrefseg", [], ["is a checkpoint of control", "the configuration is for rsrefseg"]),
        ("control", ["--model.init_args.preset", "tiny256"], ["preset 'tiny'", "this run has 'tiny256'"]),
        (
            "control",
            ["--model.init_args.settings", "{image_size: 96}"],
            ["image_size: 128 in the checkpoint, 96 requested"],
        ),
    ],
)
def test_what_contradicts_the_weights_is_refused(rrsis, checkpoint, method, further, texts):
    one_line(rrsis("test", *words(method), "--ckpt_path", checkpoint, *further), *texts)


class Rates(Callback):
    """Keeps what the optimiser was given at every step."""

    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append([{k: g[k] for k in ("name", "lr", "weight_decay", "betas")} for g in optimizer.param_groups])


def test_rates_decay_and_schedule_that_are_asked_for_are_used_on_a_resume(rrsis, checkpoint, monkeypatch):
    rates = Rates()
    monkeypatch.setattr(
        RRSISTrainer, "fit", lambda self, *a, **k: (self.callbacks.append(rates), Trainer.fit(self, *a, **k))
    )
    asked = ["rate_factor 0.001", "weight_decay 0.25", "betas [0.5,0.6]", "warmup_epochs 0", "cosine_epochs 2"]
    options = [part for word in asked for part in f"--model.init_args.{word}".split()]
    status, err = rrsis("fit", *words(), "--ckpt_path", checkpoint, *options, "--trainer.max_epochs", "3")
    assert status == 0, err
    for line in (
        "rate_factor 0.001 is used, the checkpoint was trained with 1.0",
        "weight_decay 0.25 is used, the checkpoint was trained with 0.05",
        "betas [0.5, 0.6] is used, the checkpoint was trained with [0.9, 0.999]",
        "cosine_epochs 2.0 is used, the checkpoint was trained with 40.0",
    ):
        assert f"best.ckpt: {line}" in err
    own = torch.load(checkpoint, weights_only=True)["hyper_parameters"]
    floor = own["floor"]
    assert len(rates.seen) == 6  # two epochs of three steps
    for step, groups in enumerate(rates.seen, start=3):
        factor = floor + (1 - floor) * (1 + math.cos(math.pi * (step // 3) / 2)) / 2
        for group in groups:
            assert group["lr"] == pytest.approx(0.001 * factor * own["learning_rates"][group["name"]])
            assert (group["weight_decay"], tuple(group["betas"])) == (0.25, (0.5, 0.6))


def test_the_grouping_of_the_optimiser_cannot_change_on_a_resume(rrsis, checkpoint):
    asked = ["--model.init_args.decay", "matrices", "--trainer.max_epochs", "2"]
    one_line(rrsis("fit", *words(), "--ckpt_path", checkpoint, *asked), "decay 'all'", "'matrices'")


def test_weights_alone_are_nothing_to_resume_from(rrsis, checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    torch.save({k: v for k, v in content.items() if k not in ("optimizer_states", "lr_schedulers", "loops")}, "w.ckpt")
    one_line(rrsis("fit", *words(), "--ckpt_path", "w.ckpt"), "contains only weights", "local:", "w.ckpt")
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
    for name in ("pickle.ckpt", "zip.ckpt", "legacy.ckpt") if command == "test" else ("zip.ckpt",):
        one_line(rrsis(command, *words(), "--ckpt_path", name, *further))
    assert not Path("attacked").exists()


def test_a_class_that_a_checkpoint_names_is_refused_and_not_imported(rrsis, checkpoint, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("from pathlib import Path\nPath('attacked').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"] |= {"_class_path": "trap.Model", "_instantiator": "trap.make"}
    torch.save(content, "trap.ckpt")
    for command in ("test", "fit"):
        one_line(
            rrsis(command, *words(), "--ckpt_path", "trap.ckpt"), "'trap.Model', which does not belong to a method"
        )
    content["hyper_parameters"]["_class_path"] = "rrsis_zoo.methods.control.module.ControlModule"
    torch.save(content, "trap.ckpt")  # the name of a function that Lightning would call is never read
    assert rrsis("test", *words(), "--ckpt_path", "trap.ckpt")[0] == 0
    assert not Path("attacked").exists()


def test_a_clusters_checkpoint_in_the_working_folder_is_not_taken(rrsis, checkpoint, monkeypatch):
    """Lightning takes ``hpc_ckpt_1.ckpt`` of the folder in which it is started, on a cluster, for its own."""
    for name, value in (("SLURM_NTASKS", "1"), ("SLURM_JOB_NAME", "job"), ("SLURM_JOB_ID", "7")):
        monkeypatch.setenv(name, value)
    torch.save({"more": Attack()}, "hpc_ckpt_1.ckpt")
    status, err = rrsis("test", *words(), "--untrained")
    assert status == 0, err
    assert record()["untrained"] is True
    assert rrsis("fit", *words(), "--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "0")[0] == 0
    assert not Path("attacked").exists()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("nope.ckpt", "there is no file"),
        ("cut.ckpt", "cut.ckpt"),
        ("empty.ckpt", "empty.ckpt"),
        ("theirs.pth", "theirs.pth"),
        ("weights.safetensors", "weights.safetensors"),
        ("list.ckpt", "it holds a list"),
        ("pipe.ckpt", "is a pipe"),
        ("nowhere.ckpt", "a link to"),
        (".", "is a folder"),
        ("", "is empty"),
        (" ", "is empty"),
        ("~nobody-of-this-name/x.ckpt", "home directory"),
        ("a" * 300, "cannot be read"),
        ("best", "give the path of a file"),
        ("last", "give the path of a file"),
        ("hpc", "give the path of a file"),
        ("registry", "give the path of a file"),
        ("registry:name", "could run code"),
        ("https://example.org/x.ckpt", "could run code"),
        ("HTTP://example.org/x.ckpt", "could run code"),
        ("s3://bucket/x.ckpt", "could run code"),
        ("file:///x.ckpt", "could run code"),
        ("hf://org/x.ckpt", "could run code"),
    ],
)
def test_a_path_that_cannot_be_read_is_one_line(rrsis, checkpoint, given, text):
    content = checkpoint.read_bytes()
    Path("cut.ckpt").write_bytes(content[:20_000])
    Path("empty.ckpt").write_bytes(b"")
    torch.save({"model": {"x": torch.zeros(1)}}, "theirs.pth")
    torch.save([1], "list.ckpt")
    safetensors.torch.save_file({"x": torch.zeros(1)}, "weights.safetensors")
    os.mkfifo("pipe.ckpt")
    Path("nowhere.ckpt").symlink_to("gone")
    one_line(rrsis("test", *words(), "--ckpt_path", given), text)


def damaged(name):
    """Return what to do to a checkpoint, by the part that is wrong then."""

    def set_to(value, *keys):
        def change(content):
            for key in keys[:-1]:
                content = content[key]
            content[keys[-1]] = value

        return change

    def drop_a_tensor(content):
        del content["state_dict"][next(iter(content["state_dict"]))]

    return {
        "a tensor": drop_a_tensor,
        "a shape": lambda content: content["state_dict"].update(dict.fromkeys(content["state_dict"], torch.zeros(3))),
        "state_dict": set_to([1], "state_dict"),
        "version": set_to("x", "pytorch-lightning_version"),
        "hyper-parameters": set_to("x", "hyper_parameters"),
        "meta": set_to([1], "rrsis_meta"),
        "meta.model": set_to({"a": 1}, "rrsis_meta", "model"),
        "meta.config": set_to(None, "rrsis_meta", "config"),
        "meta.config of another version": set_to(1, "rrsis_meta", "config", "unheard_of"),
        "meta.tokenizer": set_to({"a": 1}, "rrsis_meta", "tokenizer"),
        "no tokenizer": set_to(None, "rrsis_meta", "tokenizer"),
        "loops": set_to({"a": 1}, "loops"),
        "callbacks": set_to([1], "callbacks"),
    }[name]


@pytest.mark.parametrize(
    "what",
    ["a tensor", "a shape", "state_dict", "version", "hyper-parameters", "meta", "meta.model", "meta.config",
     "meta.config of another version", "meta.tokenizer", "no tokenizer", "loops", "callbacks"],
)  # fmt: skip
def test_a_checkpoint_with_another_content_is_one_line(rrsis, checkpoint, what):
    content = torch.load(checkpoint, weights_only=True)
    damaged(what)(content)
    torch.save(content, "damaged.ckpt")
    status, err = rrsis("fit", *words(), "--ckpt_path", "damaged.ckpt", "--trainer.max_epochs", "2")
    assert (status, "Traceback" in err) == (2, False), err
    assert err.splitlines()[-1].startswith("rrsis: ")


def test_a_compiled_models_checkpoint_is_read(rrsis, checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    state = content["state_dict"]
    content["state_dict"] = {name.replace("model.", "model._orig_mod.", 1): value for name, value in state.items()}
    torch.save(content, "compiled.ckpt")
    status, err = rrsis("test", *words(), "--ckpt_path", "compiled.ckpt")
    assert status == 0, err


def test_lightnings_own_loading_runs_no_code(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "more": Attack()}, "trap.ckpt")
    with pytest.raises(ConfigError, match="could run code"):
        ControlModule.load_from_checkpoint("https://example.org/x.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        ControlModule.load_from_checkpoint("trap.ckpt", weights_only=False)
    assert not Path("attacked").exists()
    module = ControlModule.load_from_checkpoint(checkpoint)
    assert module.trained
    assert torch.equal(module.model.backbone.conv1[0].weight, content["state_dict"]["model.backbone.conv1.0.weight"])


def test_words_of_lightnings_are_files_where_there_are_such(rrsis, checkpoint):
    shutil.copy(checkpoint, "best")
    status, err = rrsis("test", *words(), "--ckpt_path", "best")
    assert status == 0, err


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
        ("--trainer.accumulate_grad_batches", "0"),
        ("--trainer.check_val_every_n_epoch", "0"),
        ("--trainer.max_time", "soon"),
        ("--trainer.strategy", "deepspeed"),
        ("--trainer.precision", "no_such"),
        ("--trainer.precision", "transformer-engine"),
        ("--trainer.precision", "16-true"),
        ("--trainer.precision", "bf16-true"),
        ("--trainer.precision", "64-true"),
        ("--trainer.max_epoch", "1"),
        ("--trainer.logger", "{class_path: lightning.pytorch.loggers.NeptuneLogger}"),
    ],
)
def test_what_lightning_refuses_is_one_line(rrsis, option, value):
    one_line(rrsis("fit", *words(), option, value))


def test_what_lightning_refuses_later_is_one_line(rrsis):
    status, err = rrsis("fit", *words(), "--trainer.val_check_interval", "1000")
    assert status == 2
    assert "val_check_interval" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_defect_keeps_its_traceback():
    """Lightning calls a hook with arguments that it does not take: the error happens in Lightning's code."""

    class Wrong(Callback):
        def on_fit_start(self):
            """Take no argument."""

    with pytest.raises(TypeError), refused("never said"):
        Trainer(logger=False, enable_checkpointing=False, callbacks=[Wrong()], barebones=False).fit(BoringModel())


@pytest.mark.parametrize(("given", "batches"), [("1", 1), ("1.0", 5), ("2", 2)])
def test_a_whole_number_of_batches_is_that_many(rrsis, checkpoint, given, batches):
    limits = ["--trainer.limit_test_batches", given, "--data.eval_batch_size", "2"]
    status, err = rrsis("test", *words(), "--ckpt_path", checkpoint, *limits)
    assert status == 0, err
    said = record()
    assert said["partial"] == (None if given == "1.0" else {"n": said["n"], "of": 10})
    assert said["n"] == 10 if given == "1.0" else said["n"] <= 2 * batches


def test_a_test_of_a_part_counts_the_part(rrsis, checkpoint, tree, tmp_path):
    shutil.copytree(tree, tmp_path / "sea")
    instances = tmp_path / "sea" / "rrsisd" / "instances.json"
    said = json.loads(instances.read_text())
    empty = {"size": [96, 96], "counts": encode_runs([96 * 96], 96, 96).decode()}
    for annotation in said["annotations"]:
        if annotation["segmentation"][0]["size"] == [96, 96]:
            annotation["segmentation"] = [empty]
    instances.write_text(json.dumps(said))
    Path("part.yaml").write_text("trainer: {limit_test_batches: 2}\n")
    part = ["--config", "part.yaml", "--data.eval_batch_size", "2", "--data.name", "Black Sea"]
    status, err = rrsis("test", *words(), *part, "--ckpt_path", checkpoint, data=tmp_path / "sea")
    assert status == 0, err
    data = RRSISDataModule("rrsis-d", str(tmp_path / "sea"))
    tested = data.records("test")[:4]
    said = record()
    assert said["partial"] == {"n": 4, "of": 10}
    assert (said["n"], said["dataset"]) == (4, "Black Sea")
    assert 0 < said["n_empty"] == sum(r.is_empty for r in tested) < sum(r.is_empty for r in data.records("test"))
    assert said["annotations_sha256"] == annotations_hash(tested)


@pytest.mark.parametrize("name", ["limit_train_batches", "limit_val_batches", "overfit_batches"])
def test_a_whole_number_of_batches_in_a_training(rrsis, name):
    Path("limit.yaml").write_text(f"trainer: {{{name}: 1}}\n")
    status, err = rrsis("fit", *words(), "--config", "limit.yaml", "--data.eval_batch_size", "2")
    assert status == 0, err
    rows = list(csv.DictReader(next(Path("runs").rglob("metrics.csv")).open()))
    n = {int(float(row["val/n"])) for row in rows if row["val/n"]}
    assert n == ({6} if name == "limit_train_batches" else {2})
    step = torch.load(next(Path("runs").rglob("last.ckpt")), weights_only=True)["global_step"]
    assert step == (3 if name == "limit_val_batches" else 1)


def test_a_test_of_nothing_is_refused(rrsis, checkpoint):
    for command, split in (("test", "test"), ("validate", "val"), ("predict", "predict")):
        limit = [f"--trainer.limit_{split}_batches", "0"]
        one_line(rrsis(command, *words(), "--ckpt_path", checkpoint, *limit), "does nothing")


def test_a_prediction_that_is_no_number_is_refused(rrsis, checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    for value in content["state_dict"].values():
        if value.is_floating_point():
            value.fill_(torch.nan)
    torch.save(content, "nan.ckpt")
    status, err = rrsis("predict", *words(), "--ckpt_path", "nan.ckpt")
    assert status == 2
    assert "are NaN" in err.splitlines()[-1]


@pytest.fixture
def policy():
    """The parser's policy of imports, as it was before."""
    earlier = dict(parsing_settings)
    yield
    parsing_settings.update(earlier)


TRAPS = [
    "model: {class_path: trap.Thing}",
    "trainer: {logger: {class_path: trap.Thing}}",
    "trainer: {callbacks: [{class_path: trap.Thing}]}",
    "trainer: {callbacks: {class_path: lightning.pytorch.callbacks.LambdaCallback, "
    "init_args: {on_test_start: trap.f}}}",
    "trainer: {callbacks: [{class_path: rrsis_zoo.slurm.subprocess.Popen, init_args: {args: [touch, attacked]}}]}",
]


@pytest.mark.usefixtures("policy")
def test_safe_imports_nothing_of_others(rrsis, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text(
        "from pathlib import Path\nPath('attacked').touch()\nclass Thing: pass\ndef f(*args): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for trap in TRAPS:
        Path("trap.yaml").write_text(f"{trap}\n")
        one_line(rrsis("test", *words(), "--config", "trap.yaml", "--untrained", "--safe"), "not allowed")
    assert not Path("attacked").exists()
    status, err = rrsis("test", *words(), "--untrained", "--safe")
    assert status == 0, err
    Path("safe.yaml").write_text("safe: true\n")
    status, err = rrsis("test", *words(), "--config", "safe.yaml", "--untrained")
    assert (status, "has no effect" in err) == (2, True), err
