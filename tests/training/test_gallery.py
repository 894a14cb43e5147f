"""The gallery that a test leaves: the same samples for every method, pictures that show what they say."""

import io
import json

import lightning
import numpy as np
import pytest
import torch
from PIL import Image

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.figures import Shown
from rrsis_zoo.inference import segment
from rrsis_zoo.methods.registry import method_named
from rrsis_zoo.metrics.samples import read_samples
from rrsis_zoo.training.callbacks import TestRecord
from rrsis_zoo.training.gallery import PICTURES, Gallery, chosen, pictures


def run(tree, folder, method="control", batch=4, **options):
    torch.manual_seed(0)
    module = method_named(method).module()(preset="tiny")
    gallery = Gallery(samples=options.pop("samples", 24), side=options.pop("side", 192))
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, default_root_dir=folder, callbacks=[TestRecord(), gallery], **options,
    )  # fmt: skip
    data = RRSISDataModule(root=str(tree), eval_batch_size=batch, num_workers=0)
    trainer.test(module, datamodule=data, verbose=False)
    samples = json.loads((folder / "gallery" / "gallery.json").read_text())["samples"]
    return module.model, data, samples


def picture(folder, sample, kind):
    return Image.open(folder / "gallery" / sample[kind])


def test_pictures_are_those_of_the_samples(tree, tmp_path):
    model, data, samples = run(tree, tmp_path)
    records = {record.sample_id: record for record in data.records("test")}
    assert len(samples) == len(records) == 10
    scored = read_samples(tmp_path / "test_samples.jsonl.gz")
    iou = dict(
        zip([s.sample_id for s in scored.subjects], scored.counts.intersection / scored.counts.union, strict=True)
    )
    for sample in samples:
        record = records[sample["sample_id"]]
        assert (sample["expression"], sample["category"]) == (record.expression, "ship")
        assert sample["iou"] == pytest.approx(iou[record.sample_id])  # canonical compares at native size too
        # 120 x 90 and 96 x 96 are small enough to stay as they are
        truth = np.asarray(picture(tmp_path, sample, "truth"))
        assert ((truth == 255) == record.mask.decode()).all()
        answer = segment(model, record.image_path, record.expression)
        assert ((np.asarray(picture(tmp_path, sample, "mask")) == 255) == answer.masks[0]).mean() > 0.999
        heat = np.asarray(picture(tmp_path, sample, "heatmap"), dtype=float) / 255
        assert np.abs(heat - answer.heatmaps[0]).max() < 0.01
        image = np.asarray(picture(tmp_path, sample, "image").convert("RGB"), dtype=float)
        native = np.asarray(Image.open(record.image_path).convert("RGB"), dtype=float)
        assert image.shape == native.shape
        assert np.abs(image - native).mean() < 25


def test_the_same_samples_for_every_method_and_batch_size(tree, tmp_path):
    ids = [
        [s["sample_id"] for s in run(tree, tmp_path / name, name, batch, samples=4)[2]]
        for name, batch in (("control", 4), ("rsrefseg", 1))
    ]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 4


def test_choice_does_not_follow_the_order():
    names = [f"x/test/{i}/0" for i in range(1000)]
    few = chosen(names, 24)
    assert few == chosen(names[::-1], 24) == chosen(names, 100)[:24]
    places = sorted(names.index(name) for name in few)
    assert places[0] < 250
    assert places[-1] > 750
    assert chosen(names[:3], 24) == sorted(chosen(names[:3], 24), key=chosen(names, 1000).index)


@pytest.mark.parametrize("batches", [1, 2])
def test_a_run_that_is_cut_short_shows_what_it_saw(tree, tmp_path, batches):
    samples = run(tree, tmp_path, limit_test_batches=batches)[2]
    assert 0 < len(samples) < 10
    folders = [path.name for path in sorted((tmp_path / "gallery").iterdir()) if path.is_dir()]
    assert folders == [f"{i:02d}" for i in range(len(samples))]
    assert all((tmp_path / "gallery" / s[kind]).is_file() for s in samples for kind in PICTURES)


def test_large_images_are_reduced_and_small_referents_stay_visible():
    image = np.zeros((800, 600, 3), np.uint8)
    mask = np.zeros((800, 600), np.bool_)
    mask[100:103, 200:203] = True
    row = Shown(image, "the car", np.eye(32, dtype=np.float32), mask, mask)
    files = pictures(row, 192)
    sizes = {}
    for kind, name in PICTURES.items():
        sizes[name] = Image.open(io.BytesIO(files[kind])).size
    assert sizes == {"image.webp": (144, 192), "truth.png": (144, 192), "mask.png": (144, 192), "heatmap.png": (32, 32)}
    grey = np.asarray(Image.open(io.BytesIO(files["mask"])))
    assert grey.max() > 0
    assert grey.sum() / 255 == pytest.approx(mask.sum() * (192 / 800) ** 2, rel=0.25)
    assert sum(map(len, files.values())) < 20_000
    with pytest.raises(ValueError, match="true mask"):
        pictures(Shown(image, "the car", np.eye(4, dtype=np.float32), mask, None), 192)
