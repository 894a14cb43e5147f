"""Killed at any moment and resumed, a training ends as the one that was never interrupted: weights, scores and log."""

import json
import os
import random
import shutil
import signal

import pytest
import torch
import yaml

import warm
from rrsis_zoo import signals
from rrsis_zoo.errors import ConfigError, WeightsMismatchError
from rrsis_zoo.training import runs
from rrsis_zoo.weights.checkpoints import state_hash
from warm import Signal

STATUS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
KILLS = int(os.environ.get("RRSIS_ZOO_KILLS", "4"))
"""How many random kills; `make kills` asks for 20 and more."""


@pytest.fixture(scope="module")
def fit(root, tree):
    """Return the arguments of a training: four epochs of three steps with dropout, two batches in each validation."""
    configs = root / "configs"
    return lambda *more: [
        "fit", "--config", configs / "lavt.yaml", "--config", configs / "overlays/lavt_tiny.yaml",
        "--data.root", tree, "--data.batch_size", 4, "--data.eval_batch_size", 4, "--data.draw", "samples",
        "--model.init_args.settings", "{fusion_drop: 0.4}", "--model.init_args.poly_epochs", 4,
        "--trainer.max_epochs", 4, "--trainer.check_val_every_n_epoch", 2, "--trainer.log_every_n_steps", 1,
        "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false", *more,
    ]  # fmt: skip


def place(folder):
    return folder / "runs/lavt/fit/version_0"


def left(folder):
    """What a finished run leaves: what its checkpoints hold and how good they are, and the log to the last byte."""
    run, found = place(folder), {}
    for path in (run / "checkpoints").iterdir():
        content = torch.load(path, weights_only=True)
        (score,) = [s["best_model_score"] for n, s in content["callbacks"].items() if n.startswith("ModelCheckpoint")]
        moments = content["optimizer_states"][0]["state"]
        optimiser = {f"{i}.{name}": moments[i][name] for i in moments for name in ("exp_avg", "exp_avg_sq")}
        done = content["epoch"], content["global_step"]
        found[path.name] = state_hash(content["state_dict"]), state_hash(optimiser), float(score), done
    return {**found, "log": (run / "metrics.csv").read_bytes()}


def files(folder):
    """All files of a run but its lock."""
    return {str(p.relative_to(place(folder))) for p in place(folder).rglob("*") if p.is_file()} - {".lock"}


FINISHED = {"checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml", "hparams.yaml", "metrics.csv"}


def resume(folder, at=None, *more, **options):
    return warm.run(["fit", "--resume", place(folder), *more], folder, at, **options)


@pytest.fixture(scope="module")
def whole(fit, tmp_path_factory):
    """A training that nobody disturbs, with what it leaves."""
    folder = tmp_path_factory.mktemp("whole")
    done = warm.run(fit(), folder)
    assert done.status == 0, done.output
    return folder, left(folder)


def test_what_a_run_leaves(whole):
    """The last checkpoint is the last epoch, whatever the best one is; nothing else is left."""
    folder, found = whole
    assert files(folder) == FINISHED
    assert found["last.ckpt"][-1] == (3, 12)
    assert found["best.ckpt"][-1] in ((1, 6), (3, 12))
    config = yaml.safe_load((place(folder) / "config.yaml").read_text())
    assert config["resume_point"] == {"minutes": 15.0, "keep": False}
    assert config["ckpt_path"] is None


VARIANTS = {
    "loading processes": [
        "--data.num_workers", 1, "--data.augment", "{random_boxes: 0.5}", "--trainer.accumulate_grad_batches", 2,
    ],
    "bounded by steps": [
        "--trainer.max_epochs", -1, "--trainer.max_steps", 8, "--trainer.val_check_interval", 2,
        "--trainer.check_val_every_n_epoch", "null",
    ],
    "a validation after every step": ["--trainer.val_check_interval", 1],
    "the same batches": ["--trainer.overfit_batches", 3],
    "two processes": ["--trainer.devices", 2, "--trainer.strategy", "ddp_fork", "--data.batch_size", 2],
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_goes_on_from_everywhere(fit, tmp_path, variant):
    """After a step, in a validation, at the end of an epoch: each attempt ends at another place."""
    (tmp_path / "whole").mkdir()
    options = ["--trainer.max_epochs", 2, "--trainer.check_val_every_n_epoch", 1, *VARIANTS[variant]]
    done = warm.run(fit(*options), tmp_path / "whole")
    assert done.status == 0, done.output
    folder = tmp_path / "parts"
    folder.mkdir()
    group = variant == "loading processes"  # as a cluster does it: torch stops where a loading process is gone
    ends = [
        Signal("step", 2, signal.SIGTERM, group),
        Signal("validation", 1, signal.SIGINT),
        Signal("step", 2, signal.SIGHUP),
    ]
    for n, at in enumerate(ends):
        done = resume(folder, at) if n else warm.run(fit(*options), folder, at)
        assert done.status == STATUS[at.number], done.output
        assert done.said[-1].startswith(f"rrsis: ended by {signal.Signals(at.number).name}")
        assert files(folder) - FINISHED == {"checkpoints/resume.ckpt", "checkpoints/resume.json"}
    done = resume(folder)
    assert done.status == 0, done.output
    assert left(folder) == left(tmp_path / "whole")
    assert files(folder) == FINISHED


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_random_kills(fit, whole, tmp_path):
    """A run is killed and resumed until it is through; then the next one."""
    rng = random.Random(os.environ.get("RRSIS_ZOO_SEED", "0"))
    most = {"step": 9, "validation": 4, "log": 14, "replace": 12, "write": 400}
    kills, chains = 0, 0
    while kills < KILLS:
        folder, chains = tmp_path / str(chains), chains + 1
        folder.mkdir()
        said, done = [], None
        while done is None or done.status in STATUS.values():
            number, where = rng.choice(list(STATUS)), rng.choice(list(most))
            at = Signal(where, rng.randint(1, most[where]), number)
            there = any((place(folder) / "checkpoints" / name).is_file() for name in ("resume.ckpt", "last.ckpt"))
            if there:
                done = resume(folder, at)
            else:
                shutil.rmtree(folder / "runs", ignore_errors=True)
                done = warm.run(fit("--resume_point.minutes", 1e-4), folder, at)
            said.append((there, at, done.status))
            kills += done.status in STATUS.values()
            assert done.status in (STATUS[number], 0) or "is complete" in done.output, (said, done.output)
        assert left(folder) == whole[1], said
        assert files(folder) == FINISHED, said
        print(f"run {chains}: {[(at.place, at.count, status) for _, at, status in said]}")


# -- signals -----------------------------------------------------------------------------------------------------------


def test_signals_outside_a_training(fit, whole, tree, tmp_path):
    """Nothing is to be saved while a command starts, and in a test or a prediction: it ends at once."""
    done = warm.run(fit(), tmp_path, Signal("start", 1, signal.SIGTERM))
    assert (done.status, done.said) == (143, ["rrsis: ended by SIGTERM"])
    best = place(whole[0]) / "checkpoints/best.ckpt"
    for command, number in (("test", signal.SIGTERM), ("validate", signal.SIGHUP), ("predict", signal.SIGINT)):
        words = [command, *fit("--ckpt_path", best)[1:]]
        done = warm.run(words, tmp_path, Signal("validation", 1, number))
        assert (done.status, done.said) == (STATUS[number], [f"rrsis: ended by {number.name}"]), done.output
    assert not list(tmp_path.rglob("test.json"))


def test_a_signal_comes_again(fit, tmp_path):
    """A launcher passes on what the terminal has sent already: no second request. Ctrl-C a while later is one."""
    done = warm.run(fit(), tmp_path, Signal("step", 2, signal.SIGTERM, again_s=0.0))
    assert done.status == 143
    assert json.loads((place(tmp_path) / "checkpoints/resume.json").read_text())["step"] == 2
    done = resume(tmp_path, Signal("step", 2, signal.SIGTERM, again_s=1.2))
    assert done.status == 143
    assert json.loads((place(tmp_path) / "checkpoints/resume.json").read_text())["step"] == 4
    done = resume(tmp_path, Signal("write", 5, signal.SIGINT, again_s=1.2))  # in the midst of a checkpoint
    assert done.status == 130
    assert done.said[0].endswith("press Ctrl-C again to end it at once")
    assert json.loads((place(tmp_path) / "checkpoints/resume.json").read_text())["step"] == 4
    assert files(tmp_path) == {*FINISHED, "checkpoints/resume.ckpt", "checkpoints/resume.json"} - {
        "checkpoints/best.ckpt"
    }
    assert (
        resume(tmp_path, Signal("step", 1, signal.SIGTERM))
        .said[-1]
        .startswith("rrsis: ended by SIGTERM: epoch 1, step 5")
    )


def test_what_is_ignored_stays_ignored(monkeypatch):
    """Under nohup the end of the terminal is no end of the training."""
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.handled():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, earlier)


def test_a_job_that_slurm_requeues(fit, whole, tmp_path):
    """It asks to be put back, and the same command goes on in the run's own folder when it runs again."""
    asked = tmp_path / "asked"
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    (tmp_path / "scontrol").chmod(0o755)
    job = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "77", "SLURM_NTASKS": "1", "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "localhost",
    }  # fmt: skip
    done = warm.run(fit(), tmp_path, Signal("step", 5, signal.SIGUSR1), **job)
    assert done.status == 128 + signal.SIGUSR1, done.output
    assert asked.read_text() == "requeue 77\n"
    assert not list(tmp_path.glob("*.ckpt"))  # Lightning's own would be taken up by any other command here
    done = warm.run(fit(), tmp_path, **job, SLURM_RESTART_COUNT="1")
    assert done.status == 0, done.output
    assert left(tmp_path) == whole[1]
    done = warm.run(fit(), tmp_path, **job, SLURM_RESTART_COUNT="2")  # the next command of the job was cut off
    assert (done.status, done.said) == (0, []), done.output
    assert "version_0 is complete: epoch 4, step 12" in done.output
    assert len(list((tmp_path / "runs/lavt/fit").iterdir())) == 1


# -- going on ----------------------------------------------------------------------------------------------------------


def test_resume_is_refused_in_one_line(whole, fit, tmp_path):
    folder = place(whole[0])
    for words, why in (
        ([tmp_path / "none"], "there is no such folder"),
        ([folder.parent], "it contains the runs version_0"),
        ([folder, "--ckpt_path", "x.ckpt"], "leave --ckpt_path out"),
        ([], "takes the folder of one run"),
        ([folder], "is complete: epoch 4, step 12; to continue, give a larger --trainer.max_epochs"),
        ([folder, "--trainer.max_epochs", 3], "is complete"),
    ):
        done = warm.run(["fit", "--resume", *words], tmp_path)
        assert (done.status, len(done.said)) == (2, 1), done.output
        assert why in done.said[0]
    empty = tmp_path / "run"
    (empty / "checkpoints").mkdir(parents=True)
    shutil.copy(folder / "config.yaml", empty)
    with pytest.raises(ConfigError, match="no resume point"):
        runs.find(empty)
    (empty / "checkpoints/resume.ckpt").write_bytes(b"PK\x03\x04")
    words = r"resume\.ckpt \(4 bytes\) cannot be read .*resumes from last\.ckpt"
    with pytest.raises(WeightsMismatchError, match=words):
        runs.find(empty)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("where", {"step": "12"}, "where its training is: "),
        ("where", {"processes": 0}, "where its training is: "),
        ("ranks", [{"cpu": torch.zeros(3, dtype=torch.uint8), "cuda": []}], "cannot be restored"),
        ("ranks", [5], "cannot be restored"),
    ],
)
def test_a_resume_point_of_a_stranger(whole, tmp_path, field, value, why):
    """A damaged one is named, and nothing is trained."""
    shutil.copytree(whole[0] / "runs", tmp_path / "runs")
    path = place(tmp_path) / "checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    state = content["callbacks"]["ResumePoint"]
    state[field] = {**state[field], **value} if field == "where" else value
    torch.save(content, path)
    done = resume(tmp_path, None, "--trainer.max_epochs", 5)
    assert (done.status, len(done.said)) == (2, 1), done.output
    assert str(path) in done.said[0]
    assert why in done.said[0]


def test_more_epochs(fit, whole, tmp_path):
    """A finished run trains on in its folder: as if it had been asked for so many from the beginning."""
    shutil.copytree(whole[0] / "runs", tmp_path / "runs")
    done = resume(tmp_path, None, "--trainer.max_epochs", 5)
    assert done.status == 0, done.output
    assert left(tmp_path)["last.ckpt"][-1] == (4, 15)
    log = (place(tmp_path) / "metrics.csv").read_bytes()
    assert log.startswith(whole[1]["log"])
    assert log.count(b"\n") > whole[1]["log"].count(b"\n")
    assert yaml.safe_load((place(tmp_path) / "config.yaml").read_text())["trainer"]["max_epochs"] == 5


def test_a_disk_that_is_full(fit, tmp_path):
    done = warm.run(fit(), tmp_path, largest=200_000)
    assert (done.status, len(done.said)) == (2, 1), done.output
    assert done.said[0].endswith("checkpoints/resume.ckpt cannot be written (File too large)")
    assert "checkpoints/resume.ckpt" not in files(tmp_path)
    assert not [name for name in files(tmp_path) if ".part" in name]


def test_two_resume_points_are_one(fit, tmp_path):
    """The suite's runner gives one too; it stays when the training has ended."""
    point = ["--trainer.callbacks+", "rrsis_zoo.training.resume.ResumePoint"]
    done = warm.run(fit(*point, *point, "--trainer.max_epochs", 1), tmp_path)
    assert done.status == 0, done.output
    names = {"last.ckpt", "resume.ckpt", "resume.json"}
    assert {p.name for p in (place(tmp_path) / "checkpoints").iterdir()} == names
    said = json.loads((place(tmp_path) / "checkpoints/resume.json").read_text())
    assert {name: said[name] for name in ("epoch", "batch", "step", "finished")} == {
        "epoch": 1, "batch": 0, "step": 3, "finished": True,
    }  # fmt: skip


def test_a_loss_that_is_not_finite(fit, tmp_path):
    """One line, status 2, with or without a validation; what was good stays."""
    options = ["--model.init_args.rate_factor", "1e30", "--trainer.limit_val_batches", 0]
    done = warm.run(fit(*options), tmp_path)
    assert (done.status, len(done.said)) == (2, 1), done.output
    assert done.said[0].startswith("rrsis: the loss is not finite at step 2 (epoch 0): ")
    assert "--model.init_args.rate_factor" in done.said[0]
    assert not list(tmp_path.rglob("*.ckpt"))
