"""Sentences that are longer than what a method reads are cut: said once a split, with their number."""

import sys
import warnings
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch

import rrsis_zoo
from rrsis_zoo.cli import run
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.layouts import Referent, ReferredScene, write_rrsisd
from rrsis_zoo.methods.registry import list_models, method_named
from rrsis_zoo.models.tokenizers import BEiT3Tokenizer, PieceTokenizer, SigLIP2Tokenizer, SigLIPTokenizer

CONFIGS = Path(__file__).parents[2] / "configs"
LONG = "the ship " * 60


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Two long sentences of four to train on, one of two to validate, none of two to test."""
    rng, mask = np.random.default_rng(0), np.zeros((64, 64), bool)
    mask[8:40, 8:40] = True
    root = tmp_path_factory.mktemp("long") / "tree"
    long = {"train": 2, "val": 1, "test": 0}
    scenes = [
        ReferredScene(
            rng.integers(0, 256, (64, 64, 3), np.uint8),
            [Referent(mask, [LONG if n < long[split] else "the ship"], "ship")],
            split,
        )
        for split, count in (("train", 4), ("val", 2), ("test", 2))
        for n in range(count)
    ]
    write_rrsisd(root, scenes)
    return root


def said_by(use):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        use()
    return [str(w.message) for w in caught if "cut off" in str(w.message)]


@pytest.mark.parametrize("kind", [SigLIPTokenizer, SigLIP2Tokenizer, BEiT3Tokenizer, PieceTokenizer])
def test_a_length_is_that_of_the_uncut_sentence(kind):
    sentences = [LONG, "the ship", "the large ship near the pier", ""]
    short, long = (kind.from_expressions(sentences * 5, 60, length) for length in (10, 1000))
    for sentence in sentences:
        whole = long.encode(sentence)
        assert short.lengths([sentence]) == long.lengths([sentence]) == [len(whole)]
        assert len(short.encode(sentence)) == min(10, len(whole))
        if len(whole) <= 10:
            assert short.encode(sentence) == whole
        else:  # cut in front of the mark of the end
            end = 0 if kind is PieceTokenizer else 1
            assert short.encode(sentence) == [*whole[: 10 - end], *whole[len(whole) - end :]]
    assert short.lengths(sentences * 200) == [len(long.encode(s)) for s in sentences] * 200


@pytest.mark.parametrize("method", list_models())
def test_segment_warns_with_the_count(method):
    torch.manual_seed(0)
    model = rrsis_zoo.load_model(method, preset="tiny")
    model.fit_tokenizer(["the ship", "the pier"] * 10)
    image = np.zeros((64, 64, 3), np.uint8)
    limit = model.text_limits[1]
    longer = "the ship " * limit
    (message,) = said_by(lambda: rrsis_zoo.segment(model, image, ["the ship", longer]))
    assert message.startswith(
        f"sentences longer than the {limit} tokens that {method} reads are cut off there: 1 of 2, "
    )
    assert said_by(lambda: rrsis_zoo.segment(model, image, ["the ship", "the pier"])) == []


def test_segment_names_the_line_that_called_it():
    model = rrsis_zoo.load_model("control", preset="tiny")
    model.fit_tokenizer(["the ship"] * 10)
    with pytest.warns(UserWarning, match="cut off") as caught:
        rrsis_zoo.segment(model, np.zeros((64, 64, 3), np.uint8), LONG)
    assert caught[0].filename == __file__


def trainer(tmp_path, **options):
    return lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, default_root_dir=tmp_path, enable_checkpointing=False, **options,
    )  # fmt: skip


def test_every_stage_says_it_once_for_its_splits(tree, tmp_path):
    torch.manual_seed(0)
    module = method_named("control").module()(
        preset="tiny", learning_rates=dict.fromkeys(("backbone", "text", "decoder"), 1e-3)
    )
    data = RRSISDataModule(root=str(tree), batch_size=2, num_workers=0)
    limit = module.model.text_limits[1]
    fit = trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0)
    said = said_by(lambda: fit.fit(module, datamodule=data))
    assert [message.partition(", the longest")[0] for message in said] == [
        f"sentences of split 'train' longer than the {limit} tokens that control reads are cut off there: 2 of 4",
        f"sentences of split 'val' longer than the {limit} tokens that control reads are cut off there: 1 of 2",
    ]
    assert said_by(lambda: trainer(tmp_path).test(module, datamodule=data, verbose=False)) == []
    for stage, split in (("validate", "val"), ("predict", "train")):
        again = method_named("control").module()(preset="tiny")
        again.model.tokenizer = module.model.tokenizer
        data = RRSISDataModule(root=str(tree), num_workers=0, predict_split="train")
        use = getattr(trainer(tmp_path), stage)
        (message,) = said_by(lambda use=use, again=again, data=data: use(again, datamodule=data))
        assert f"sentences of split {split!r} longer" in message


def test_the_command_says_it(tree, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rrsis"])
    arguments = [
        *(f"--config={path}" for path in (CONFIGS / "control.yaml", CONFIGS / "overlays/control_tiny.yaml")),
        *("--data.dataset=rrsis-d", f"--data.root={tree}", "--data.num_workers=0", "--data.batch_size=2"),
        *("--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1"),
        *("--trainer.enable_progress_bar=false",),
    ]
    said = said_by(lambda: run(["fit", *arguments]))
    assert [("'train'" in m, "'val'" in m) for m in said] == [(True, False), (False, True)]
