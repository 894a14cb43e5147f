"""Expressions that by the data set's own word have no target, from the files to the last picture."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from rrsis_zoo.cli import run
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.foreground import check_foreground
from rrsis_zoo.data.layouts import LAYOUTS, Referent, ReferredScene
from rrsis_zoo.data.sources import SOURCES, ReadOptions
from rrsis_zoo.data.verify import verify
from rrsis_zoo.errors import DataFormatError
from rrsis_zoo.figures import Shown, prediction_figure
from rrsis_zoo.files import read_json
from rrsis_zoo.metrics.presence import ANSWERS, SUMMARY, read_answers
from rrsis_zoo.models.presence import read_calibration

SIDE = 64


def write(root, layout):
    """Ten scenes a split; every other one is asked for something that is not there, too."""
    rng = np.random.default_rng(0)
    writer = LAYOUTS[layout](root)
    for split in ("train", "val", "test"):
        for n in range(10):
            image = rng.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
            mask = np.zeros((SIDE, SIDE), bool)
            y, x = rng.integers(0, 40, 2)
            mask[y : y + 20, x : x + 20] = True
            image[mask] = 255
            referents = [Referent(mask, ["the white ship"], "ship")]
            if n % 2:
                referents.append(Referent(np.zeros_like(mask), ["the black dam"], "dam", no_target=True))
            writer.add(ReferredScene(image, referents, split))
    writer.close()
    return root


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return {name: write(tmp_path_factory.mktemp("nothing") / name, name) for name in ("earthreason", "nwpu-refer")}


def module(root, dataset, **settings):
    return RRSISDataModule(dataset, str(root), num_workers=0, batch_size=2, **settings)


@pytest.mark.parametrize("dataset", ["earthreason", "nwpu-refer"])
def test_batches_say_which_have_none(whole, dataset):
    data = module(whole[dataset], dataset)
    known = {r.sample_id: r.no_target for r in data.records("train")}
    assert sum(known.values()) == 5
    batches = list(data.train_dataloader())
    for batch in batches:
        assert batch.absent == [known[name] for name in batch.sample_ids]
        assert [not mask.any() for mask in batch.masks] == batch.absent
    assert len({sum(batch.absent) for batch in batches}) > 1  # also where a batch has none
    fewer = module(whole[dataset], dataset, drop_no_target=True)
    assert all(batch.absent == [] for batch in fewer.train_dataloader())
    assert len(fewer.records("train")) == 10


def test_contradictions_are_reported(whole, tmp_path):
    """No answer but a mask, an answer but no mask; a class of nothing with polygons."""
    root = shutil.copytree(whole["earthreason"], tmp_path / "e")
    assert verify("earthreason", root, complete=False).passed
    asked = {path: read_json(path)["answer"] for path in sorted((root / "test/QAs").iterdir())}
    nothing = next(path for path, answer in asked.items() if not answer)
    there = next(path for path, answer in asked.items() if answer)
    Image.new("L", (SIDE, SIDE), 255).save(root / "test/labels" / f"{nothing.stem}.png")
    Image.new("L", (SIDE, SIDE)).save(root / "test/labels" / f"{there.stem}.png")
    faults = {f.what: f.where for f in verify("earthreason", root, complete=False).findings if f.is_fault}
    assert faults == {
        "empty masks": [f"earthreason/test/{there.stem}/0"],
        "expressions without a target that have a mask": [f"earthreason/test/{nothing.stem}/0"],
    }
    (sample,) = [
        b for b in module(root, "earthreason").test_dataloader() if f"earthreason/test/{nothing.stem}/0" in b.sample_ids
    ]
    assert sample.absent[sample.sample_ids.index(f"earthreason/test/{nothing.stem}/0")] is False  # the mask counts

    root = shutil.copytree(whole["nwpu-refer"], tmp_path / "n")
    instances = read_json(root / "new_instances.json")
    empty = next(a for a in instances["annotations"] if not a["segmentation"])
    empty["segmentation"] = [[1, 1, 9, 1, 9, 9]]
    (root / "new_instances.json").write_text(json.dumps(instances))
    (fault,) = [f for f in verify("nwpu-refer", root, complete=False).findings if f.is_fault]
    assert fault.what == "expressions without a target that have a mask"
    assert len(fault.where) == 1
    (record,) = [
        r
        for s in ("train", "val", "test")
        for r in SOURCES["nwpu-refer"].read(root, s, ReadOptions())
        if r.sample_id == fault.where[0]
    ]
    assert record.is_empty


def test_nothing_but_nothing_cannot_be_learned(whole):
    records = [r for r in module(whole["earthreason"], "earthreason").records("train") if r.no_target]
    with pytest.raises(DataFormatError, match="all 5 expressions of split 'train' have no target"):
        check_foreground(records, "train")


@pytest.fixture(scope="module")
def trained(whole, root, tmp_path_factory):
    """A tiny control trained on EarthReason's kind of data, calibrated and tested."""
    folder = tmp_path_factory.mktemp("trained")
    configs = [root / "configs" / name for name in ("control.yaml", "overlays/control_tiny.yaml")]
    words = [word for path in configs for word in ("--config", path)]
    words += ["--data.dataset", "earthreason", "--data.root", whole["earthreason"], "--data.batch_size", 4]
    words += [
        "--data.num_workers",
        0,
        "--trainer.accelerator",
        "cpu",
        "--trainer.devices",
        1,
        "--trainer.max_epochs",
        1,
    ]
    words += ["--trainer.enable_progress_bar", "false", "--trainer.check_val_every_n_epoch", 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["rrsis"])
        assert run([str(word) for word in ("fit", *words)]) == 0
        ckpt = folder / "runs/control/fit/version_0/checkpoints/best.ckpt"
        assert run(["calibrate", "--ckpt", str(ckpt), "--device", "cpu"]) == 0
        assert run(["test", "runs/control/fit/version_0"]) == 0
    return SimpleNamespace(test=folder / "runs/control/test/version_0", ckpt=ckpt)


def test_calibration_and_scores_use_them(trained):
    """Without classes no sentence is foreign: the data set's own are all there is."""
    calibration = read_calibration(trained.ckpt.with_name("best.presence.json"))
    assert (calibration.own, calibration.foreign, calibration.no_target) == (10, 0, 5)
    summary = read_json(trained.test / SUMMARY)
    assert (summary["n_own"], summary["n_foreign"], summary["n_no_target"]) == (10, 0, 5)
    answers = read_answers(trained.test / ANSWERS, summary["threshold"])
    nothing = [line for line in answers.lines if line.no_target]
    assert len(nothing) == len(answers.of(foreign=True)) == 5
    said = sum(not (line.predicted > 0 and line.presence >= summary["threshold"]) for line in nothing)
    assert summary["metrics"]["n_acc"]["value"] == pytest.approx(100 * said / 5)
    record = read_json(trained.test / "test.json")
    assert (record["n"], record["n_empty"], record["breakdown"]["n_empty"]) == (15, 5, 5)
    assert {"no_target_acc", "target_acc", "miou_generalized", "miou_target", "oiou_target"} <= set(record["breakdown"])


def test_gallery_and_figure_show_them(trained, tmp_path):
    shown = read_json(trained.test / "gallery/gallery.json")["samples"]
    assert sum(sample.get("no_target", False) for sample in shown) == 5
    assert (trained.test / "predictions.png").stat().st_size > 10_000
    image, none, some = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool), np.ones((8, 8), bool)
    heat = np.zeros((4, 4), np.float32)
    verdicts = [
        Shown(image, "x", heat, mask, truth).verdict
        for mask, truth in ((none, none), (some, none), (some, some), (none, some), (some, None))
    ]
    assert verdicts == [
        "no target: rightly nothing predicted",
        "no target: 64 pixels predicted",
        "IoU 1.00",
        "IoU 0.00",
        "",
    ]
    rows = [Shown(image, "the dam", heat, mask, none) for mask in (none, some)]
    prediction_figure(rows, tmp_path / "x.png")
    assert torch.tensor(np.array(Image.open(tmp_path / "x.png"))).float().std() > 0


def test_the_log_names_the_losses_that_leave_them_out(whole, caplog):
    from rrsis_zoo.training.no_targets import NoTargets

    data = module(whole["nwpu-refer"], "nwpu-refer")
    for terms, said in (
        ({"loss_dice", "loss_mil"}, "left out of loss_dice, loss_mil, which need one"),
        (set(), "part of every"),
    ):
        caplog.clear()
        with caplog.at_level("INFO"):
            trainer = SimpleNamespace(datamodule=data)
            NoTargets().on_train_start(trainer, SimpleNamespace(model=SimpleNamespace(needs_referent=terms)))  # type: ignore[arg-type]
        assert f"5 of 15 training expressions have no target; they are {said}" in caplog.text
