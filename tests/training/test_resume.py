"""A resumed training is the training that was never interrupted, dropout included."""

import json
import shutil

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.registry import card
from rrsis_zoo.training import resume
from rrsis_zoo.training.checkpoint_io import DirectCheckpointIO
from rrsis_zoo.training.resume import ResumePoint
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


def fit(tree, folder, *callbacks, every=2, ckpt_path=None):
    """EviSAM3's experts have a dropout; three steps an epoch, a validation every other epoch."""
    lightning.seed_everything(0, verbose=False)
    kind = card("evisam3")
    rates = dict.fromkeys(kind.model().from_preset("tiny").parameter_groups(), 1e-3)
    settings = {"router_dropout": 0.4}
    module = kind.module()("tiny", settings, learning_rates=rates, warmup_epochs=1, cosine_start=1, cosine_epochs=3)
    best = ModelCheckpoint(monitor="val/miou", mode="max", filename="best", enable_version_counter=False)
    losses = Losses()
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        use_distributed_sampler=False, default_root_dir=folder, max_epochs=EPOCHS, check_val_every_n_epoch=every,
        callbacks=[best, ResumePoint(), losses, *callbacks],
    )  # fmt: skip
    trainer.strategy.checkpoint_io = DirectCheckpointIO()
    data = RRSISDataModule("rrsis-d", str(tree), batch_size=4, eval_batch_size=4, num_workers=0)
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


def test_it_loads_without_code(tree, tmp_path):
    *_, checkpoints = fit(tree, tmp_path, Interrupt(4))
    content = torch.load(checkpoints / "resume.ckpt", weights_only=True)
    state = next(value for name, value in content["callbacks"].items() if name.startswith("ResumePoint"))
    assert state["random"]["cpu"].dtype == torch.uint8
