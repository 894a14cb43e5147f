"""What the LightningModule hands to the metrics, under protocols with a grid of their own."""

import json

import lightning
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.errors import ConfigError
from rrsis_zoo.methods.registry import method_named
from rrsis_zoo.metrics.expected import expected_mask
from rrsis_zoo.metrics.protocols import get_protocol
from rrsis_zoo.metrics.samples import read_samples
from rrsis_zoo.metrics.scores import score
from rrsis_zoo.tables.records import unfit
from rrsis_zoo.training.callbacks import TestRecord
from rrsis_zoo.training.module import log_odds_at


@pytest.fixture
def module():
    torch.manual_seed(0)
    return lambda **options: method_named("control").module()(preset="tiny", **options)


@pytest.mark.parametrize("protocol", ["lavt480", "rs2sam2", "evisam3"])
def test_masks_meet_on_the_protocols_grid(tree, tmp_path, module, protocol):
    """Low resolution -> the method's square -> the grid; the target by PIL's nearest; nothing goes through native."""
    rules, model = get_protocol(protocol), module(protocol=protocol)
    data = RRSISDataModule(root=str(tree), eval_batch_size=4, num_workers=0)
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, default_root_dir=tmp_path, callbacks=[TestRecord()],
    )  # fmt: skip
    numbers = trainer.test(model, datamodule=data, verbose=False)[0]

    net, grid, counts = model.model.eval(), rules.eval_size, {}
    with torch.inference_mode():
        for batch in data.test_dataloader():
            square = F.interpolate(net(batch, rules.text_mode).mask_logits, size=(net.config.image_size,) * 2,
                                   mode="bilinear", align_corners=False)  # fmt: skip
            at_grid = F.interpolate(square, size=(grid, grid), mode="bilinear", align_corners=False)[:, 0] > 0
            for name, pred, mask in zip(batch.sample_ids, at_grid.numpy(), batch.masks, strict=True):
                image = Image.fromarray(mask.numpy().astype(np.uint8)).resize((grid, grid), Image.NEAREST)
                target = np.array(image) > 0
                counts[name] = ((pred & target).sum(), (pred | target).sum())
    ids = data.sample_ids("test")
    expected = score([counts[i][0] for i in ids], [counts[i][1] for i in ids], rules)
    assert {k.removeprefix("test/"): v for k, v in numbers.items()} == pytest.approx(expected, rel=1e-5)
    saved = read_samples(tmp_path / "test_samples.jsonl.gz")
    assert [(i, u) for i, u in zip(saved.counts.intersection, saved.counts.union, strict=True)] == [
        counts[name] for name in ids
    ]
    assert set(saved.counts.height.tolist()) == {grid}


def test_the_grid_of_the_method_is_not_resized_again(tree, module):
    """At the size of its own square a method's answer is only brought up to it, whatever the image's size."""
    model = module().model.eval()
    data = RRSISDataModule(root=str(tree), eval_batch_size=4, num_workers=0)
    data.setup("test")
    model.fit_tokenizer(data.train_expressions())
    batch = next(iter(data.test_dataloader()))
    side = model.config.image_size
    with torch.inference_mode():
        prediction = model(batch)
        native, square = log_odds_at(model, prediction, "native"), log_odds_at(model, prediction, side)
        expected = F.interpolate(prediction.mask_logits, size=(side, side), mode="bilinear", align_corners=False)
    assert [tuple(n.shape) for n in native] == [tuple(mask.shape) for mask in batch.masks]
    assert torch.equal(torch.stack(square), expected[:, 0])


def test_expected_iou_masks_are_scored_named_and_kept_out_of_tables(tree, tmp_path, module):
    """The option changes the masks of the scores; by default nothing changes."""
    data = RRSISDataModule(root=str(tree), eval_batch_size=4, num_workers=0)
    saved, records = {}, {}
    for binarise in ("half", "expected-iou"):
        torch.manual_seed(0)
        model = module(binarise=binarise)
        trainer = lightning.Trainer(
            accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False, default_root_dir=tmp_path / binarise, callbacks=[TestRecord()],
        )  # fmt: skip
        trainer.test(model, datamodule=data, verbose=False)
        saved[binarise] = read_samples(tmp_path / binarise / "test_samples.jsonl.gz")
        records[binarise] = json.loads((tmp_path / binarise / "test.json").read_text())
    net = model.model.eval()
    with torch.inference_mode():
        for batch in data.test_dataloader():
            maps = net.restore(net(batch, "independent"))
            for name, logits, mask in zip(batch.sample_ids, maps, batch.masks, strict=True):
                place = [s.sample_id for s in saved["half"].subjects].index(name)
                for binarise, pred in (("half", logits > 0), ("expected-iou", expected_mask(logits))):
                    counts = saved[binarise].counts
                    assert counts.predicted[place] == int(pred.sum())
                    assert counts.intersection[place] == int((pred & mask).sum())
    assert (saved["half"].counts.predicted != saved["expected-iou"].counts.predicted).any()
    assert "binarise" not in records["half"]
    assert records["expected-iou"]["binarise"] == "expected-iou"
    assert unfit({**records["expected-iou"], "untrained": False}) == "its masks are expected-iou, not p > 0.5"
    assert not unfit({**records["half"], "untrained": False})
    with pytest.raises(ConfigError, match="binarise"):
        module(binarise="otsu")
