"""A loss or a weight that is not finite ends a training at once, and no file has it."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from test_module import data, module, trainer

from rrsis_zoo.errors import NotFiniteError
from rrsis_zoo.training.finite import FiniteWatch, _Look, not_finite
from rrsis_zoo.training.resume import ResumePoint


def fit(tree, folder, spoil, every=1, **options):
    """Three steps an epoch; ``spoil`` gets the module before its fit."""
    model = module("control")
    spoil(model)
    best = ModelCheckpoint(monitor="val/miou", mode="max", filename="best", enable_version_counter=False)
    run = trainer(
        folder, max_epochs=4, check_val_every_n_epoch=every, enable_checkpointing=True, callbacks=[best, ResumePoint()],
        **options,
    )  # fmt: skip
    run.fit(model, datamodule=data(tree))
    return run


def loss_at(step, value, term="loss_dice"):
    """Let one term of the loss be a value at one step."""

    def spoil(model):
        plain = model.model.loss

        def loss(prediction, batch):
            terms = plain(prediction, batch)
            if model.trainer.global_step + 1 == step:
                terms = {**terms, term: terms[term] * value, "loss": terms["loss"] * value}
            return terms

        model.model.loss = loss

    return spoil


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss(tree, tmp_path, value):
    with pytest.raises(NotFiniteError) as caught:
        fit(tree, tmp_path, loss_at(5, value), every=9)
    said = str(caught.value)
    assert said.startswith("the loss is not finite at step 5 (epoch 1): loss_dice (learning rates 0.001): lower them")
    assert said.endswith("resume.ckpt, step 3")
    assert "\n" not in said
    assert json.loads((tmp_path / "checkpoints/resume.json").read_text())["step"] == 3


@pytest.mark.parametrize("every", [1, 9])
def test_a_gradient_in_the_last_step_of_an_epoch(tree, tmp_path, every):
    """The loss was finite: neither a validation nor a checkpoint takes the weights for good."""

    def spoil(model):
        def gradient(value):
            return value * (math.nan if model.trainer.global_step + 1 == 6 else 1.0)

        next(model.model.parameters()).register_hook(gradient)

    with pytest.raises(
        NotFiniteError, match=r"weights are not finite after step 6 .*: .*; the loss was finite"
    ) as caught:
        fit(tree, tmp_path, spoil, every=every)
    assert "step 3" in str(caught.value)
    for path in (tmp_path / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        assert content["global_step"] == 3
        assert all(tensor.isfinite().all() for tensor in content["state_dict"].values())


def test_without_any_checkpoint(tree, tmp_path):
    """The last step's gradient; nothing else would look at the weights any more."""

    def spoil(model):
        next(model.model.parameters()).register_hook(lambda gradient: gradient * math.nan)

    model = module("control")
    spoil(model)
    with pytest.raises(NotFiniteError, match="weights are not finite after step 1"):
        trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(model, datamodule=data(tree))


def test_a_gradient_that_is_skipped_is_none_of_our_business():
    """Loss scaling under 16-mixed makes infinite gradients, finds them, and leaves the step out."""
    model = torch.nn.Linear(2, 2)
    model.weight.grad = torch.full((2, 2), math.inf)
    assert not_finite(model) == []
    model.bias.data[0] = math.inf
    assert not_finite(model) == ["bias"]


def test_a_gpu_tells_later():
    """What it has not come to is not waited for, but for a checkpoint."""

    class Event:
        there = False

        def query(self):
            return self.there

        def synchronize(self):
            self.there = True

    watch, first, second = FiniteWatch(), Event(), Event()
    run = SimpleNamespace(world_size=1, global_step=2, current_epoch=0, optimizers=[])
    watch._looks.append(_Look(("loss",), torch.tensor([0.0]), first, 1, 0))
    watch._looks.append(_Look(("loss",), torch.tensor([1.0]), second, 2, 0))
    watch.look({"loss": torch.tensor(1.0)}, run)
    assert len(watch._looks) == 3
    first.there = True
    watch.look({"loss": torch.tensor(1.0)}, run)
    assert not second.there
    with pytest.raises(NotFiniteError, match=r"at step 2 \(epoch 0\): loss"):
        watch.settle(run, torch.nn.Linear(1, 1))
    assert second.there
