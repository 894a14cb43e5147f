"""What EviSAM3 asked of the training module: readings in the log, weight decay on matrices only."""

import pytest
import torch

from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.evisam3.module import EviSAM3Module
from rrsis_zoo.models.types import Batch
from rrsis_zoo.training.module import spare_vectors


def test_a_step_logs_what_the_experts_do(monkeypatch):
    module = EviSAM3Module(preset="tiny")
    sentences = ["the ship", "the red vehicle left of the pier"]
    module.model.fit_tokenizer(sentences)
    image, mask = torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8), torch.zeros(60, 80, dtype=torch.bool)
    mask[10:30, 20:50] = True
    logged = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: value}))
    module.training_step(Batch([image], sentences, torch.tensor([0, 0]), [mask, mask], ["a", "b"]), 0)
    assert logged["train/expert_gate"].item() == pytest.approx(torch.tensor(-6.0).sigmoid().item())
    assert logged["train/expert_correction"] == 0
    assert logged["train/prior_spread"] > 0
    assert "train/loss_heatmap" in logged


def test_vectors_can_be_spared_from_weight_decay():
    model = EviSAM3Module(preset="tiny").model
    group = {"params": list(model.experts.parameters()), "lr": 1e-4, "name": "experts"}
    matrices, vectors = spare_vectors(group)
    assert {p.ndim > 1 for p in matrices["params"]} == {True}
    assert {p.ndim for p in vectors["params"]} == {0, 1}
    assert len(matrices["params"]) + len(vectors["params"]) == len(group["params"])
    assert vectors["weight_decay"] == 0
    assert "weight_decay" not in matrices
    assert matrices["lr"] == vectors["lr"] == 1e-4
    with pytest.raises(ConfigError, match="unknown decay 'none'"):
        EviSAM3Module(preset="tiny", decay="none")
