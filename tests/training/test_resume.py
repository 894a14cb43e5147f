"""A resumed training is the training that was never interrupted, dropout included."""

import json
import random
import shutil

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.registry import method_named
from rrsis_zoo.training import resume, runs
from rrsis_zoo.training.checkpoint_io import DirectCheckpointIO
from rrsis_zoo.training.random_states import random_states, set_random_states
from rrsis_zoo.training.resume import ResumePoint
from rrsis_zoo.training.runs import RunLock
from rrsis_zoo.weights.checkpoints import weights_hash

EPOCHS = 4


class Interrupt(Callback):
    """Ends the training after some steps, as Ctrl-C does."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            raise SystemExit


class Losses(Callback):
    def __init__(self):
        self.seen = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen[trainer.global_step] = float(outputs["loss"])


def fit(
    tree, folder, *callbacks, every=2, ckpt_path=None, scores=None, rate=1e-3, batch_size=4, foreign=0.0,
    draw="samples", **options,
):  # fmt: skip
    """LAVT's fusion has a dropout; three steps an epoch, a validation every other epoch."""
    lightning.seed_everything(0, verbose=False)
    kind = method_named("lavt")
    rates = dict.fromkeys(kind.model().from_preset("tiny").parameter_groups(), rate)
    settings = {"fusion_drop": 0.4}
    module = kind.module()("tiny", settings, learning_rates=rates, warmup_epochs=1, cosine_start=1, cosine_epochs=3)
    best = ModelCheckpoint(monitor="val/miou", mode="max", filename="best", enable_version_counter=False)
    losses = Losses()
    if scores is not None:  # instead of the metric's, by epoch
        module._log_metrics = lambda stage: module.log("val/miou", float(scores[trainer.current_epoch]))
    defaults = {
        "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
        "num_sanity_val_steps": 0, "use_distributed_sampler": False, "default_root_dir": folder, "max_epochs": EPOCHS,
        "check_val_every_n_epoch": every, "callbacks": [best, ResumePoint(), losses, *callbacks],
    }  # fmt: skip
    trainer = lightning.Trainer(**{**defaults, **options})
    trainer.strategy.checkpoint_io = DirectCheckpointIO()
    sizes = {"batch_size": batch_size, "eval_batch_size": 4, "num_workers": 0}
    data = RRSISDataModule("rrsis-d", str(tree), **sizes, foreign_share=foreign, draw=draw)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    except SystemExit:
        assert callbacks
    return weights_hash(module.model), losses.seen, best, folder / "checkpoints"


@pytest.fixture(scope="module", params=[1, 2])
def whole(request, tree, tmp_path_factory):
    """A training without interruption, and how often it validates."""
    return request.param, *fit(tree, tmp_path_factory.mktemp("whole"), every=request.param)


def test_interrupted_and_resumed(tree, tmp_path, whole, monkeypatch):
    every, weights, losses, best, _ = whole
    assert list(losses) == list(range(1, 3 * EPOCHS + 1))
    _, before, _, checkpoints = fit(tree, tmp_path / "parts", Interrupt(8), every=every)
    assert before == {step: losses[step] for step in range(1, 9)}
    done = json.loads((checkpoints / "resume.json").read_text())
    assert (done["epoch"], done["step"]) == (2, 6)
    assert done["cpu_s"] > 0

    shutil.copytree(checkpoints, tmp_path / "kept")
    resumed, after, best_after, _ = fit(tree, tmp_path / "parts", every=every, ckpt_path=checkpoints / "resume.ckpt")
    assert after == {step: losses[step] for step in range(7, 3 * EPOCHS + 1)}
    assert resumed == weights
    assert best_after.best_model_score == best.best_model_score
    assert best_after.best_model_path.endswith("parts/checkpoints/best.ckpt")

    # what the resume point is for: a plain checkpoint draws other dropout from there on
    monkeypatch.setattr(resume, "set_random_states", lambda states: None)
    other, *_ = fit(tree, tmp_path / "other", every=every, ckpt_path=tmp_path / "kept" / "resume.ckpt")
    assert other != weights


@pytest.mark.parametrize("draw", ["samples", "scenes"])
def test_with_foreign_sentences(mixed, tmp_path, draw):
    """From the end of an epoch and from within one, the same sentences come as without an interruption."""
    added = []

    class Sentences(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            assert sum(batch.absent) == 2
            added.append((trainer.global_step, batch.sample_ids, batch.expressions))

    class Stop(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            trainer.should_stop = trainer.should_stop or trainer.global_step == 5

    how = {"every": 5, "foreign": 0.3, "draw": draw, "max_epochs": 3}
    weights, losses, *_ = fit(mixed, tmp_path / "whole", Sentences(), **how)
    whole, added = added, []
    assert len({tuple(names) for _, names, _ in whole}) == len(whole) == 9
    *_, folder = fit(mixed, tmp_path / "within", Stop(), **how)
    assert json.loads((folder / "resume.json").read_text())["batch"] == 2
    resumed, after, *_ = fit(mixed, tmp_path / "within", Sentences(), ckpt_path=folder / "resume.ckpt", **how)
    assert (resumed, after) == (weights, {step: losses[step] for step in range(6, 10)})
    assert added == whole[5:]
    if draw == "scenes":
        return
    *_, folder = fit(mixed, tmp_path / "after", Interrupt(8), **how)
    resumed, *_ = fit(mixed, tmp_path / "after", ckpt_path=folder / "resume.ckpt", **how)
    assert resumed == weights


def test_it_loads_without_code(tree, tmp_path):
    *_, checkpoints = fit(tree, tmp_path, Interrupt(4))
    content = torch.load(checkpoints / "resume.ckpt", weights_only=True)
    state = next(value for name, value in content["callbacks"].items() if name.startswith("ResumePoint"))
    assert state["random"]["cpu"].dtype == torch.uint8
    assert len(state["ranks"]) == 1
    assert state["where"]["step"] == 3


def test_a_point_of_an_earlier_version(tree, tmp_path, whole):
    """They held torch's generators of the first process, and the whole schedule."""
    every, weights, losses, *_ = whole
    *_, folder = fit(tree, tmp_path, Interrupt(8), every=every)
    content = torch.load(folder / "resume.ckpt", weights_only=True)
    random_state = content["callbacks"].pop("ResumePoint")["random"]
    earlier = {name: random_state[name] for name in ("cpu", "cuda")}
    content["callbacks"]["ResumePoint{'monitor': None, 'mode': 'min'}"] = {"monitor": None, "random": earlier}
    lengths = {"steps_per_epoch": 3, "warmup_epochs": 1, "cosine_start": 1, "cosine_epochs": 3}
    content["lr_schedulers"][0] |= {"base_lrs": [1e-3], "lr_lambdas": [lengths], "_step_count": 7, "_last_lr": [1e-3]}
    torch.save(content, folder / "resume.ckpt")
    with pytest.warns(UserWarning, match="callbacks used to create the checkpoint need to be provided"):
        resumed, after, *_ = fit(tree, tmp_path, every=every, ckpt_path=folder / "resume.ckpt")
    assert (resumed, after) == (weights, {step: losses[step] for step in range(7, 3 * EPOCHS + 1)})


def steps_of(path):
    return torch.load(path, weights_only=True)["global_step"]


class Rates(Callback):
    def __init__(self):
        self.seen = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.setdefault(trainer.current_epoch, trainer.optimizers[0].param_groups[0]["lr"])


def test_the_best_stays_the_best(tree, tmp_path):
    """Over all attempts, in the same folder and in another; the last checkpoint is the last epoch."""
    scores = [5, 9, 7, 8]
    *_, first = fit(tree, tmp_path / "a", every=1, scores=scores, max_epochs=3)
    assert (steps_of(first / "best.ckpt"), steps_of(first / "last.ckpt")) == (6, 9)
    *_, best, other = fit(tree, tmp_path / "b", every=1, scores=scores, ckpt_path=first / "resume.ckpt")
    assert (steps_of(other / "best.ckpt"), steps_of(other / "last.ckpt")) == (6, 12)
    assert (best.best_model_score, best.best_model_path) == (9, str(other / "best.ckpt"))
    *_, again = fit(tree, tmp_path / "c", every=1, scores=[5, 9, 7, 10], ckpt_path=first / "resume.ckpt")
    assert (steps_of(again / "best.ckpt"), steps_of(first / "best.ckpt")) == (12, 6)


def test_the_best_of_an_attempt_that_was_killed(tree, tmp_path):
    """It was written, and no resume point after it: what goes on from before knows its score from the file."""
    *_, folder = fit(tree, tmp_path, every=1, scores=[5, 6, 7, 8], max_epochs=2)
    shutil.copy(folder / "resume.ckpt", tmp_path / "kept.ckpt")
    fit(tree, tmp_path, every=1, scores=[5, 6, 9, 8], max_epochs=3, ckpt_path=folder / "resume.ckpt")
    shutil.copy(tmp_path / "kept.ckpt", folder / "resume.ckpt")
    *_, best, _ = fit(tree, tmp_path, every=1, scores=[5, 6, 7, 8], ckpt_path=folder / "resume.ckpt")
    assert (float(best.best_model_score), steps_of(folder / "best.ckpt")) == (9.0, 9)


def test_the_best_is_gone(tree, tmp_path):
    """No worse model takes its name."""
    *_, folder = fit(tree, tmp_path, every=1, scores=[5, 9, 7, 8], max_epochs=3)
    (folder / "best.ckpt").unlink()
    with pytest.warns(UserWarning, match=r"the best model so far \(val/miou 9\.00\) is not at"):
        *_, best, _ = fit(tree, tmp_path, every=1, scores=[5, 9, 7, 8], ckpt_path=folder / "resume.ckpt")
    assert best.best_model_score == 9
    assert not (folder / "best.ckpt").exists()


@pytest.mark.parametrize(("batch_size", "accumulate"), [(2, 1), (4, 2)])
def test_the_schedule_follows_other_steps(tree, tmp_path, batch_size, accumulate):
    """With other steps an epoch the rate of each epoch is that of a training that had them throughout."""
    changed = {"every": 5, "batch_size": batch_size, "accumulate_grad_batches": accumulate}
    throughout, resumed = Rates(), Rates()
    fit(tree, tmp_path / "whole", throughout, **changed)
    *_, folder = fit(tree, tmp_path / "parts", every=5, max_epochs=2)
    fit(tree, tmp_path / "parts", resumed, ckpt_path=folder / "resume.ckpt", **changed)
    assert resumed.seen == {epoch: throughout.seen[epoch] for epoch in (2, 3)}
    assert len(set(throughout.seen.values())) == EPOCHS


def test_the_rest_of_an_epoch_in_other_batches(tree, tmp_path):
    """8 of 14 samples are done in batches of 4; in batches of 2 the other three come, and none twice."""
    seen = []

    class Samples(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.extend(batch.sample_ids)

    class Stop(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            trainer.should_stop = trainer.global_step == 2

    _, before, _, folder = fit(tree, tmp_path, Samples(), Stop(), every=5)
    assert (list(before), json.loads((folder / "resume.json").read_text())["batch"]) == ([1, 2], 2)
    _, after, _, _ = fit(
        tree, tmp_path, Samples(), every=5, max_epochs=1, batch_size=2, ckpt_path=folder / "resume.ckpt"
    )
    assert list(after) == [3, 4, 5]
    assert len(seen) == len(set(seen)) == 14


def test_what_is_asked_of_a_resumed_training_counts(tree, tmp_path, caplog):
    """Rates are those of the command, not of the checkpoint; it is said."""
    *_, folder = fit(tree, tmp_path, every=5, max_epochs=2)
    rates, same = Rates(), Rates()
    caplog.set_level("INFO", "lightning.pytorch.utilities.rank_zero")
    fit(tree, tmp_path / "same", same, every=5, ckpt_path=folder / "resume.ckpt")
    assert "changed since the checkpoint" not in caplog.text
    fit(tree, tmp_path / "other", rates, every=5, rate=5e-4, ckpt_path=folder / "resume.ckpt")
    assert rates.seen == {epoch: pytest.approx(rate / 2) for epoch, rate in same.seen.items()}
    assert "changed since the checkpoint: learning rate of" in caplog.text
    assert "0.001 -> 0.0005" in caplog.text


@pytest.mark.parametrize(
    "bounds", [{"max_steps": 4}, {"max_time": "00:00:00:01"}, {}, {"max_epochs": 1, "max_steps": 9}], ids=str
)
def test_whatever_bounds_a_training(tree, tmp_path, bounds):
    """The schedule's lengths are in epochs and do not depend on it."""

    class Enough(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            trainer.should_stop = trainer.should_stop or (not bounds and trainer.global_step == 4)

    rates = Rates()
    _, losses, _, folder = fit(tree, tmp_path, rates, Enough(), every=5, **{"max_epochs": -1, **bounds})
    assert losses
    assert rates.seen[0] == 1e-5
    assert steps_of(folder / "last.ckpt") == len(losses)
    assert json.loads((folder / "resume.json").read_text())["finished"]


def test_a_second_training_in_the_same_folder(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_PATIENCE_S", 0.1)
    lock = RunLock(tmp_path)
    part = tmp_path / "checkpoints" / ".best.0123456789abcdef.part.ckpt"
    part.touch()
    with pytest.raises(ConfigError, match="another training is writing to"):
        fit(tree, tmp_path)
    assert part.exists()  # who holds the folder may be writing it
    lock.release()
    fit(tree, tmp_path, max_epochs=1)
    assert not part.exists()


def test_two_resume_points_are_one(tree, tmp_path):
    *_, folder = fit(tree, tmp_path, ResumePoint(minutes=0), max_epochs=1)
    assert {path.name for path in folder.iterdir()} == {"last.ckpt", "resume.ckpt", "resume.json"}
    with pytest.raises(ConfigError, match="must be at least 0, got -1"):
        ResumePoint(minutes=-1)


def test_all_generators():
    before = random_states()
    drawn = [(torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()) for _ in range(2)]  # noqa: NPY002
    assert drawn[0] != drawn[1]
    set_random_states(before)
    assert drawn == [(torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()) for _ in range(2)]  # noqa: NPY002
    set_random_states({"cpu": before["cpu"], "cuda": []})  # as checkpoints of before have them
    assert torch.rand(2).tolist() == drawn[0][0]
