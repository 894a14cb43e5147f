"""What changes a job's key, and what must not."""

import copy
import json

import numpy as np
import pytest
from PIL import Image

import rrsis_zoo
from bench import keys
from bench.keys import Keys, configuration_hash, protocol_hash, weight_files
from bench.parts import PARTS, changed, hash_of, key_of
from bench.plan import steps_of
from rrsis_zoo.commands.fit import resolve
from rrsis_zoo.data.datamodule import RRSISDataModule
from rrsis_zoo.data.layouts import Referent, ReferredScene, write_rrsisd
from rrsis_zoo.errors import MissingDataError, MissingWeightsError


def scenes(seed, shift=0):
    rng = np.random.default_rng(seed)
    mask = np.zeros((64, 64), dtype=np.bool_)
    mask[20:40, 20 + shift : 50] = True
    return [
        ReferredScene(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), [Referent(mask, ["the ship"], "ship")], split)
        for split in ("train", "train", "val", "test")
    ]


@pytest.fixture
def tree(tmp_path):
    write_rrsisd(tmp_path / "data", scenes(0))
    return tmp_path / "data"


@pytest.fixture(scope="module")
def config(root):
    files = (root / "configs" / "rsrefseg.yaml", root / "configs" / "overlays" / "rsrefseg_tiny.yaml")
    return resolve([part for file in files for part in ("--config", str(file))])


def with_(config, section, **values):
    new = copy.deepcopy(config)
    (new["model"]["init_args"] if section == "model" else new[section]).update(values)
    return new


def test_what_is_set_decides_and_where_it_lies_does_not(config):
    first = configuration_hash(config)
    assert configuration_hash(json.loads(json.dumps(config))) == first
    for section, values in (
        ("model", {"weight_decay": 0.3}),
        ("model", {"settings": {"dice_weight": 0.5}}),
        ("data", {"batch_size": 3}),
        ("data", {"shuffle_expressions": True}),
        ("trainer", {"max_epochs": 99}),
    ):
        assert configuration_hash(with_(config, section, **values)) != first, values
    assert configuration_hash({**config, "seed_everything": 7}) != first
    for section, values in (
        ("data", {"root": "/elsewhere"}),
        ("trainer", {"logger": None, "enable_progress_bar": False}),
        ("model", {"weights": {"sam": "local:x"}}),  # by content, in a part of its own
    ):
        assert configuration_hash(with_(config, section, **values)) == first, values


def test_comments_and_order_of_files_are_no_configuration(config, root, tmp_path):
    """The resolved values count, not the text of the files that they come from."""
    text = (root / "configs" / "overlays" / "rsrefseg_tiny.yaml").read_text()
    (tmp_path / "same.yaml").write_text("# another comment\n" + text)
    (tmp_path / "other.yaml").write_text(text.replace("weight_decay: 0.01", "weight_decay: 0.02"))
    base = ["--config", str(root / "configs" / "rsrefseg.yaml"), "--config"]
    assert configuration_hash(resolve([*base, str(tmp_path / "same.yaml")])) == configuration_hash(config)
    assert configuration_hash(resolve([*base, str(tmp_path / "other.yaml")])) != configuration_hash(config)


def test_data_counts_by_content(tree, tmp_path, config):
    read = {**config["data"], "dataset": "rrsis-d"}
    first = Keys().data({**read, "root": str(tree)})
    tree.rename(tmp_path / "moved")
    moved = {**read, "root": str(tmp_path / "moved")}
    assert Keys().data(moved) == first
    assert Keys().data({**moved, "batch_size": 1, "seed": 9}) == first
    assert Keys().data({**moved, "drop_empty": True}) == first  # there is nothing to drop, so the samples are the same
    image = next((tmp_path / "moved" / "images" / "rrsisd" / "JPEGImages").iterdir())
    Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(image)
    pixels = Keys().data(moved)
    assert pixels != first
    write_rrsisd(tmp_path / "masks", scenes(0, shift=1))
    assert Keys().data({**read, "root": str(tmp_path / "masks")}) not in (first, pixels)
    with pytest.raises(MissingDataError, match="nowhere"):
        Keys().data({**read, "root": str(tmp_path / "nowhere")})


def test_weights_count_by_content(tree, tmp_path, config):
    keys = Keys()
    data = with_(config, "data", root=str(tree))
    sam, siglip = tmp_path / "sam.safetensors", tmp_path / "siglip"
    siglip.mkdir()
    sam.write_bytes(b"1")
    (siglip / "model.safetensors").write_bytes(b"2")
    (siglip / "spiece.model").write_bytes(b"3")
    sources = {"sam": f"local:{sam}", "siglip": f"local:{siglip}"}
    given = with_(data, "model", weights=sources)
    names = [path.name for path in weight_files(given["model"]["class_path"], sources)]
    assert names == ["sam.safetensors", "model.safetensors", "spiece.model"]
    first = keys.parts(given)
    assert keys.parts(given) == first
    none = keys.parts(data)
    assert changed(none, first) == ["weights"]
    sam.rename(tmp_path / "renamed")
    assert keys.parts(with_(data, "model", weights={**sources, "sam": f"local:{tmp_path / 'renamed'}"})) == first
    (tmp_path / "renamed").write_bytes(b"11")
    new = keys.parts(with_(data, "model", weights={**sources, "sam": f"local:{tmp_path / 'renamed'}"}))
    assert changed(first, new) == ["weights"]
    with pytest.raises(MissingWeightsError, match=r"sam\.safetensors"):
        keys.parts(given)


def test_a_folder_and_shards_count_whole(tmp_path):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    for n in (1, 2):
        (tmp_path / f"model-{n}.safetensors").write_bytes(b"x")
    files = weight_files("rrsis_zoo.methods.control.module.ControlModule", {"backbone": f"local:{tmp_path}"})
    assert [path.name for path in files] == [
        "model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors",
    ]  # fmt: skip


def test_protocol_and_code(config, tree, tmp_path, monkeypatch):
    assert protocol_hash("canonical") != protocol_hash("lavt480")
    package, bench = tmp_path / "package", tmp_path / "bench"
    files = ("models/a.py", "tables/formats.py", "__init__.py")
    for path in (*(package / name for name in files), bench / "runner.py", bench / "baselines.py"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1")
    monkeypatch.setattr(rrsis_zoo, "__file__", str(package / "__init__.py"))
    monkeypatch.setattr(keys, "__file__", str(bench / "keys.py"))
    first, constant = Keys().code(), Keys().code("baselines")
    assert first != constant
    for path in (package / "tables" / "formats.py", bench / "runner.py"):
        path.write_text("x = 2")
        assert (Keys().code(), Keys().code("baselines")) == (first, constant)
    (bench / "baselines.py").write_text("x = 2")
    assert Keys().code() == first
    assert Keys().code("baselines") != constant
    (package / "models" / "a.py").write_text("x = 2")
    assert Keys().code() != first


def test_the_key_is_of_all_parts():
    parts = dict.fromkeys(PARTS, "a")
    assert len({key_of(parts), *(key_of({**parts, name: "b"}) for name in PARTS)}) == 1 + len(PARTS)
    assert changed(parts, {**parts, "data": "b", "code": "b"}) == ["data", "code"]
    assert changed({}, parts) == list(PARTS)
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1})


def test_steps_of_a_training_are_counted_as_its_loader_makes_them(config, tmp_path):
    """Whole batches only, some of them for one step; what is drawn are samples, or references with one of theirs."""
    mask = np.zeros((64, 64), dtype=np.bool_)
    mask[20:40, 20:50] = True
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    three = Referent(mask, ["the ship", "a ship", "the long ship"], "ship")
    made = [ReferredScene(image + i, [three, three], "train") for i in range(5)]
    made += [ReferredScene(image + 9, [three], split) for split in ("val", "test")]
    write_rrsisd(tmp_path / "data", made)
    known = Keys()
    for draw, batch_size, every, trainer, steps in (
        ("samples", 4, 1, {"max_epochs": 3}, 21),  # 30 samples
        ("scenes", 4, 1, {"max_epochs": 3}, 21),
        ("references", 4, 1, {"max_epochs": 3}, 6),  # 10 references
        ("samples", 4, 2, {"max_epochs": 3}, 12),
        ("samples", 4, 1, {"max_epochs": 3, "max_steps": 10}, 10),
        ("samples", 4, 1, {"max_epochs": -1, "max_steps": 10}, 10),
        ("samples", 4, 1, {"max_epochs": -1, "max_steps": -1}, None),
    ):
        data = {"dataset": "rrsis-d", "root": str(tmp_path / "data"), "draw": draw, "batch_size": batch_size}
        asked = with_(with_(config, "data", **data), "trainer", accumulate_grad_batches=every, **trainer)
        assert steps_of(asked, known) == steps, (draw, every, trainer)
        loader = RRSISDataModule(**data, num_workers=0).train_dataloader()
        if trainer == {"max_epochs": 3}:
            assert steps == 3 * -(-len(loader) // every)
