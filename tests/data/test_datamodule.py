import dataclasses
import json
import os
import subprocess
import warnings
from itertools import chain
from pathlib import Path

import lightning
import pytest
import torch

import rrsis_zoo
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.errors import ConfigError, DataFormatError, MissingDataError
from rrsis_zoo.models.types import Batch

IDS = {
    "train": ["00001/0", "00001/1", "00002/0", "00003/0", "00004/0"],
    "val": ["00005/0"],
    "test": ["00006/0", "00007/0", "00008/0"],
}


def ids(split):
    return [f"rrsis-d/{split}/{name}" for name in IDS[split]]


def flat(batch: Batch):
    assert batch.masks is not None
    return (batch.sample_ids, batch.expressions, batch.image_index, *batch.images, *batch.masks)


def assert_equal(a: Batch, b: Batch):
    for x, y in zip(flat(a), flat(b), strict=True):
        assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y


def test_constructor_reads_nothing_and_check_little(tree, tmp_path):
    data = RRSISDataModule(root=str(tmp_path / "nowhere"))
    with pytest.raises(MissingDataError, match="RRSIS-D: no folder"):
        data.check()
    with pytest.raises(MissingDataError, match=r"set data\.root"):
        RRSISDataModule().check()
    (tree / "rrsisd/instances.json").write_text("no JSON at all")
    data = RRSISDataModule(root=str(tree))
    data.check()
    with pytest.raises(DataFormatError):
        data.setup("fit")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "rrsisd"}, "did you mean 'rrsis-d'"),
        ({"fit_eval_split": "test"}, "checkpoints are chosen by it"),
        ({"test_split": "all"}, "unknown test_split 'all'"),
        ({"layers": "first"}, "unknown layers 'first'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        RRSISDataModule(**settings)


def test_what_it_tells(tree):
    data = RRSISDataModule(root=str(tree), drop_empty=True)
    assert data.train_expressions() == ["The ship on the left", "A gray ship", "The harbor", "The dam", "Noise"]
    assert data.sample_ids("val") == ids("val")
    assert data.sample_ids("test") == ids("test")[1:]  # the empty one is dropped
    assert data.records("test") is data.records("test")
    joined = RRSISDataModule(root=str(tree), layers="any").records("val")[0].mask.decode().sum()
    assert joined > data.records("val")[0].mask.decode().sum()


AUGMENT = {"random_boxes": 0.5, "photometric": 0.5, "crops": 0.5, "flips": 0.5, "rotations": 0.5}


@pytest.mark.parametrize(("augment", "draw"), [(None, "samples"), (AUGMENT, "references")])
def test_same_batches_with_any_number_of_workers(tree, augment, draw):
    epochs = {}
    for workers in (0, 1, 2):
        settings = {"augment": augment, "draw": draw}
        data = RRSISDataModule(root=str(tree), batch_size=2, num_workers=workers, seed=3, **settings)
        data.setup("fit")
        loader = data.train_dataloader()
        state = torch.get_rng_state()
        epochs[workers] = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            epochs[workers].append(list(loader))
        assert torch.equal(torch.get_rng_state(), state)
    for workers in (1, 2):
        for ours, theirs in zip(chain(*epochs[workers]), chain(*epochs[0]), strict=True):
            assert_equal(ours, theirs)
    first, second = ([i for batch in epoch for i in batch.sample_ids] for epoch in epochs[0])
    assert len(first) == len(second) == 4  # two steps of two; the fifth sample waits for another epoch
    assert first != second


def test_augmented_training_differs_from_epoch_to_epoch_and_evaluation_never(tree):
    def images(loader):
        loader.sampler.set_epoch(0)
        return {name: image for batch in loader for name, image in zip(batch.sample_ids, batch.images, strict=True)}

    data = RRSISDataModule(root=str(tree), batch_size=1, num_workers=0, augment={"photometric": 1.0})
    loader = data.train_dataloader()
    plain = RRSISDataModule(root=str(tree), batch_size=1, num_workers=0)
    first, again, native = images(loader), images(loader), images(plain.train_dataloader())
    loader.sampler.set_epoch(1)
    second = {batch.sample_ids[0]: batch.images[0] for batch in loader}
    for name, image in first.items():
        assert torch.equal(image, again[name])
        assert not torch.equal(image, second[name])
        assert not torch.equal(image, native[name])
    for ours, theirs in zip(data.test_dataloader(), plain.test_dataloader(), strict=True):
        assert_equal(ours, theirs)


def test_what_was_flipped_and_what_is_said_reach_the_batch_together(tree):
    settings = {"batch_size": 5, "num_workers": 0, "draw": "scenes"}
    (plain,) = RRSISDataModule(root=str(tree), **settings).train_dataloader()
    (turned,) = RRSISDataModule(root=str(tree), augment={"flips": 1.0}, **settings).train_dataloader()
    assert turned.sample_ids == plain.sample_ids
    assert plain.masks is not None
    assert turned.masks is not None
    changed = {old: new for old, new in zip(plain.expressions, turned.expressions, strict=True) if old != new}
    assert changed == {"The ship on the left": "The ship on the right"}
    for n in range(5):  # left-right and top-bottom: turned by 180 degrees
        image, own = plain.images[plain.image_index[n]], turned.images[turned.image_index[n]]
        assert torch.equal(own, image.rot90(2, (1, 2)))
        assert torch.equal(turned.masks[n], plain.masks[n].rot90(2))


def test_augmented_samples_of_a_scene_have_their_own_images(tree):
    settings = {"batch_size": 5, "num_workers": 0, "draw": "scenes"}
    (plain,) = RRSISDataModule(root=str(tree), **settings).train_dataloader()
    (own,) = RRSISDataModule(root=str(tree), augment={"photometric": 1.0}, **settings).train_dataloader()
    assert len(plain.images) == 3
    assert len(own.images) == 5
    assert own.image_index.tolist() == list(range(5))


def test_references_are_drawn_with_one_of_their_sentences(tree):
    loader = RRSISDataModule(root=str(tree), batch_size=4, num_workers=0, draw="references").train_dataloader()
    seen = set()
    for epoch in range(8):
        loader.sampler.set_epoch(epoch)
        (batch,) = loader
        references = [name.rpartition("/")[0] for name in batch.sample_ids]
        assert len(set(references)) == len(references) == 4
        seen.update(batch.sample_ids)
    assert seen == set(ids("train"))  # both sentences of the first reference came


@pytest.mark.parametrize(
    ("dataset", "settings", "message"),
    [
        ("rrsis-d", {"threshold": 50}, "threshold=50 does not apply to this dataset"),
        ("refsegrs", {"layers": "any"}, "layers='any' does not apply to this dataset"),
        ("risbench", {"text": "sent"}, "text='sent' does not apply to this dataset"),
        ("rrsis-d", {"mask_cleanup": "median"}, "did you mean 'median3'"),
        ("rrsis-d", {"augment": {"hflip": 0.5}}, "unknown augmentation in data.augment 'hflip'"),
    ],
)
def test_options_without_meaning_are_refused(dataset, settings, message):
    with pytest.raises(ConfigError, match=message):
        RRSISDataModule(dataset, **settings)


def test_evaluation_splits(tree):
    def seen(loader):
        return [i for batch in loader for i in batch.sample_ids]

    data = RRSISDataModule(root=str(tree), num_workers=0)
    assert seen(data.val_dataloader()) == ids("val")
    assert seen(data.test_dataloader()) == ids("test")
    assert seen(data.predict_dataloader()) == ids("test")
    other = {"fit_eval_split": "train", "test_split": "train", "predict_split": "val"}
    data = RRSISDataModule(root=str(tree), num_workers=0, eval_batch_size=3, **other)
    assert [b.sample_ids for b in data.test_dataloader()] == [ids("train")[:3], ids("train")[3:]]
    assert seen(data.val_dataloader()) == ids("train")
    assert seen(data.predict_dataloader()) == ids("val")


def test_too_few_training_samples_for_a_step(tree):
    with pytest.raises(ConfigError, match=r"batch_size 6 needs 6 .* there are 5: --data.batch_size 5 or"):
        RRSISDataModule(root=str(tree), batch_size=6, num_workers=0).train_dataloader()


class Recorder(lightning.LightningModule):
    """Writes down which samples came, and learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[list[str]]] = {"fit": [], "validate": [], "test": [], "predict": []}

    def note(self, stage: str, batch: Batch) -> None:
        assert isinstance(batch, Batch)
        assert all(image.device == self.device for image in batch.images)
        self.seen[stage].append(batch.sample_ids)

    def training_step(self, batch: Batch) -> torch.Tensor:
        self.note("fit", batch)
        return self.weight**2

    def validation_step(self, batch: Batch) -> None:
        self.note("validate", batch)

    def test_step(self, batch: Batch) -> None:
        self.note("test", batch)

    def predict_step(self, batch: Batch) -> list[str]:
        self.note("predict", batch)
        return batch.sample_ids

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(**settings):
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    return lightning.Trainer(
        accelerator="cpu", use_distributed_sampler=False, **dict.fromkeys(quiet, False), **settings
    )


def test_trainer_moves_the_epoch_on_and_sees_every_sample(tree):
    data = RRSISDataModule(root=str(tree), batch_size=2, num_workers=0, seed=3)
    model = Recorder()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*batch sampler.*")
        fitter = trainer(max_epochs=2, num_sanity_val_steps=0)
        fitter.fit(model, datamodule=data)
        fitter.test(model, datamodule=data, verbose=False)
        predicted = fitter.predict(model, datamodule=data)
    loader = RRSISDataModule(root=str(tree), batch_size=2, num_workers=0, seed=3).train_dataloader()
    expected = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        expected += [batch.sample_ids for batch in loader]
    assert model.seen["fit"] == expected
    assert model.seen["validate"] == [ids("val")] * 2
    assert model.seen["test"] == model.seen["predict"] == predicted == [ids("test")]


def test_batch_goes_to_the_device(tree):
    (batch,) = RRSISDataModule(root=str(tree), num_workers=0).test_dataloader()
    moved = RRSISDataModule().transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved.masks is not None
    assert {t.device.type for t in (*moved.images, *moved.masks, moved.image_index)} == {"meta"}
    assert moved.sample_ids == batch.sample_ids


TWO_PROCESSES = """
import json, pathlib, sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[3])
from test_datamodule import Recorder, RRSISDataModule, trainer

if __name__ == "__main__":
    data = RRSISDataModule(root=sys.argv[1], batch_size=2, num_workers=0)
    model = Recorder()
    run = trainer(max_epochs=1, num_sanity_val_steps=0, devices=2, strategy="ddp")
    run.fit(model, datamodule=data)
    run.test(model, datamodule=data, verbose=False)
    run.predict(model, datamodule=data, return_predictions=False)
    pathlib.Path(sys.argv[2], f"{run.global_rank}.json").write_text(json.dumps(model.seen))
"""


@pytest.mark.slow
def test_two_processes_share_the_samples_one_of_them_without_a_scene(tree, tmp_path):
    import warm  # not where the script imports this module

    script = tmp_path / "script.py"
    script.write_text(TWO_PROCESSES)
    path = os.pathsep.join([str(Path(rrsis_zoo.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [warm.python(), str(script), str(tree), str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    fitted = [i for seen in ranks for batch in seen["fit"] for i in batch]
    assert [len(seen["fit"]) for seen in ranks] == [1, 1]
    assert len(set(fitted)) == 4
    steps = [[len(batch) for batch in seen["validate"]] for seen in ranks]  # one scene: one process has nothing to do
    assert sorted(steps) == [[0], [len(ids("val"))]]
    for stage, split in (("validate", "val"), ("test", "test"), ("predict", "test")):
        assert sorted(i for seen in ranks for batch in seen[stage] for i in batch) == ids(split)


def test_shuffled_expressions_are_the_same_ones_elsewhere(tmp_path):
    from rrsis_zoo.data.synthetic import make_synthetic

    make_synthetic(tmp_path / "s", scenes=12, splits=(8, 2, 2), processes=1)
    plain = RRSISDataModule("synthetic", str(tmp_path / "s"))
    mixed = RRSISDataModule("synthetic", str(tmp_path / "s"), shuffle_expressions=True)
    a, b = plain.records("train"), mixed.records("train")
    assert [r.sample_id for r in a] == [r.sample_id for r in b]
    assert [r.mask for r in a] == [r.mask for r in b]
    assert sorted(r.expression for r in a) == sorted(r.expression for r in b)
    assert [r.expression for r in a] != [r.expression for r in b]
    assert plain.records("test") == mixed.records("test")
    assert {r.kind for r in plain.records("test")} <= {"category", "attribute", "position", "relation", "multi"}


def test_synthetic_scenes_are_made_where_they_are_missing(tmp_path, monkeypatch):
    from rrsis_zoo.data import sources
    from rrsis_zoo.data.synthetic import make_synthetic

    made = []

    def small(root):
        made.append(root)
        make_synthetic(root, scenes=6, splits=(4, 1, 1), processes=1)

    source = sources.SOURCES["synthetic"]
    changed = {**sources.SOURCES, "synthetic": dataclasses.replace(source, make=small)}
    monkeypatch.setattr("rrsis_zoo.data.datamodule.SOURCES", changed)
    data = RRSISDataModule("synthetic", str(tmp_path / "s"))
    data.check()
    data.prepare_data()
    data.prepare_data()
    assert made == [tmp_path / "s"]
    assert len(data.records("train")) == 12
    (tmp_path / "s" / "synthetic.json").unlink()
    with pytest.raises(MissingDataError, match="no synthetic dataset"):
        data.check()
