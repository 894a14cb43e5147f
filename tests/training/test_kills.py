"""Killed at any moment and resumed, a training ends as the one that was never interrupted: weights, scores and log."""

import os
import random
import shutil
import signal

import pytest
import torch
import warm
from warm import Signal

from rrsis_zoo.weights.checkpoints import state_hash

STATUS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
KILLS = int(os.environ.get("RRSIS_ZOO_KILLS", "3"))
"""How many random kills; `make kills` asks for 20."""


def fit(root, tree, *more):
    """Four epochs of three steps with dropout; two batches in each validation."""
    configs = root / "configs"
    return [
        "fit", "--config", configs / "evisam3.yaml", "--config", configs / "overlays/evisam3_tiny.yaml",
        "--data.root", tree, "--data.batch_size", 4, "--data.eval_batch_size", 4, "--data.draw", "samples",
        "--model.init_args.settings", "{router_dropout: 0.4}", "--model.init_args.cosine_epochs", 4,
        "--trainer.max_epochs", 4, "--trainer.check_val_every_n_epoch", 2, "--trainer.log_every_n_steps", 1,
        "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false", *more,
    ]  # fmt: skip


def left(folder):
    """What a finished run leaves: weights and score of its checkpoints, and the log to the last byte."""
    found = {}
    for path in sorted((folder / "checkpoints").iterdir()):
        content = torch.load(path, weights_only=True)
        (score,) = [s["best_model_score"] for n, s in content["callbacks"].items() if n.startswith("ModelCheckpoint")]
        moments = content["optimizer_states"][0]["state"]
        optimiser = {f"{i}.{name}": moments[i][name] for i in moments for name in ("exp_avg", "exp_avg_sq")}
        found[path.name] = (
            state_hash(content["state_dict"]),
            state_hash(optimiser),
            float(score),
            content["global_step"],
        )
    return {**found, "log": (folder / "metrics.csv").read_bytes()}


@pytest.fixture(scope="module")
def whole(root, tree, tmp_path_factory):
    """What a training leaves that nobody disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    done = warm.run(fit(root, tree), folder)
    assert done.status == 0, done.output
    return left(folder / "runs/evisam3/version_0")


def resume(folder, at=None, *more):
    return warm.run(["fit", "--resume", folder / "runs/evisam3/version_0", *more], folder, at)


def clean(run):
    """Nothing half written is left, and nothing to go on from after the end."""
    names = [path.name for path in run.rglob("*") if path.is_file()]
    assert not [name for name in names if ".part" in name]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


VARIANTS = {
    "accumulation": ["--trainer.accumulate_grad_batches", 2],
    "bounded by steps": [
        "--trainer.max_epochs", -1, "--trainer.max_steps", 10, "--trainer.val_check_interval", 2,
        "--trainer.check_val_every_n_epoch", "null",
    ],
    "a validation after every step": ["--trainer.max_epochs", 2, "--trainer.val_check_interval", 1,
        "--trainer.check_val_every_n_epoch", 1],
    "loading processes": ["--data.num_workers", 1, "--data.augment", "{random_boxes: 0.5}"],
    "the same batches": ["--trainer.overfit_batches", 3],
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_goes_on_from_everywhere(root, tree, tmp_path, variant):
    """After a step, in a validation, at the end of an epoch: each attempt ends at another place."""
    (tmp_path / "whole").mkdir()
    options = [*VARIANTS[variant], "--resume_point.minutes", 0]
    done = warm.run(fit(root, tree, *options), tmp_path / "whole")
    assert done.status == 0, done.output
    folder = tmp_path / "parts"
    folder.mkdir()
    places = [
        Signal("step", 2, signal.SIGTERM),
        Signal("validation", 1, signal.SIGINT),
        Signal("step", 3, signal.SIGHUP),
        Signal("validation", 2, signal.SIGTERM),
        Signal("replace", 1, signal.SIGTERM),
    ]
    for n, at in enumerate(places):
        done = resume(folder, at) if n else warm.run(fit(root, tree, *options), folder, at)
        print(variant, at, done.status, done.output[-200:])
        if done.status == 0:
            break
        assert done.status == STATUS[at.number], done.output
    done = resume(folder) if done.status else done
    assert done.status == 0, done.output
    run = folder / "runs/evisam3/version_0"
    assert left(run) == left(tmp_path / "whole/runs/evisam3/version_0")
    clean(run)


@pytest.mark.timeout(3600)
def test_random_kills(root, tree, whole, tmp_path):
    """A run is killed and resumed until it is through; then the next one."""
    rng = random.Random(os.environ.get("RRSIS_ZOO_SEED", "0"))
    kills, runs = 0, 0
    while kills < KILLS:
        folder = tmp_path / str(runs)
        folder.mkdir()
        run, runs = folder / "runs/evisam3/version_0", runs + 1
        said = []
        for _ in range(30):
            place, number = rng.choice(["step", "validation", "write", "replace", "log"]), rng.choice(list(STATUS))
            at = Signal(
                place, rng.randint(1, {"step": 9, "validation": 4, "log": 14, "replace": 12}.get(place, 400)), number
            )
            there = any((run / "checkpoints" / name).is_file() for name in ("resume.ckpt", "last.ckpt"))
            if not there:
                shutil.rmtree(folder / "runs", ignore_errors=True)
            done = (
                resume(folder, at) if there else warm.run(fit(root, tree, "--resume_point.minutes", 1e-4), folder, at)
            )
            said.append((there, at, done.status))
            if done.status in (0, 2):
                break
            kills += 1
            assert done.status == STATUS[number], (said, done.output)
        assert done.status == 0 or "is complete" in done.output, (said, done.output)
        assert left(run) == whole, said
        clean(run)
        print(runs, said)
